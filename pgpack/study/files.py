"""Files of a study on a disk that refuses: one sentence, which says that the trials are intact and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pgpack.errors import StudyError, remedy
from pgpack.files import replace_file

_ELSEWHERE = "repeat the same command once that is mended"


def refused(path: Path, deed: str, error: OSError) -> StudyError:
    """The sentence for an operating system that refuses `deed` (a verb with its object) at `path`."""
    reason = error.strerror or type(error).__name__
    todo = remedy(error) or _ELSEWHERE
    return StudyError(f"{path}: cannot {deed}: {reason}; the trials on disk are intact; {todo}")


@contextlib.contextmanager
def refusing(path: Path, deed: str) -> Iterator[None]:
    """Turns an OSError of the block into the StudyError of `refused`."""
    try:
        yield
    except OSError as error:
        raise refused(path, deed, error) from error


def replace_study_file(path: Path, data: bytes) -> None:
    """`replace_file` for a file of a study. Raises: StudyError that says what to do."""
    with refusing(path, "write it"):
        replace_file(path, data)
