"""Progress bars on stderr: with an ETA on a terminal, a line now and then and at the end in a log, none with -q."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOG_INTERVAL_S = 15.0  # between lines when stderr is not a terminal


@contextmanager
def progress_bar(total: int | None, unit: str, what: str, quiet: bool) -> Iterator[Any]:
    """A tqdm bar on stderr; `.update(n)` moves it."""
    from tqdm import tqdm

    on_screen = sys.stderr.isatty()
    with tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=bool(total and total >= 100_000),
        disable=quiet,
        mininterval=0.2 if on_screen else LOG_INTERVAL_S,
        delay=0.5,
        dynamic_ncols=True,
        leave=not on_screen,
        file=sys.stderr,
    ) as bar:
        yield bar


def say_above(bar: Any, line: str) -> None:
    """A line on stderr above the bar; nothing when the bar is off."""
    if not bar.disable:
        bar.write(line, file=sys.stderr)
