"""Settings for every test: hypothesis without deadlines (machines are slow at times), the same examples each run, and
a cache of the tests' own."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import hypothesis
import pytest

# A shell's background job ignores Ctrl-C, and its children would inherit that: programs that tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands keep their results here and not in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPACK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
