"""How long work says how far it is: a bar on stderr, the caller's own function, or nothing.

A bar has an ETA on a terminal; in a log it is a line now and then and at the end.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

SILENT_S = 1.0  # that work may take before it is named
LOG_INTERVAL_S = 15.0  # between lines when stderr is not a terminal

Told = Callable[[str, int, int | None], object]  # what is done, how much of it, of how much where that is known
Progress = bool | Told | None  # True: bars on stderr; None or False: nothing


@dataclass(frozen=True)
class Bar:
    """Work under way. `update(n)`: so many more are done, one by default; 0: what counts begins now, and the time
    that preparing took tells nothing about the rest. `say(line)`: for people, about what was just done."""

    update: Callable[..., None]
    say: Callable[[str], None] = lambda line: None


UNSEEN = Bar(lambda n=1: None)


@contextmanager
def progress_bar(total: int | None, unit: str, what: str, quiet: bool) -> Iterator[Any]:
    """A tqdm bar on stderr; `.update(n)` moves it."""
    from tqdm import tqdm

    class Counted(tqdm):  # type: ignore[misc]
        @property
        def format_dict(self) -> Any:
            said = super().format_dict  # of a known total tqdm writes rates, such as 12 tok/s
            return said if total or self.n == 1 else {**said, "unit": f"{unit}s"}

    on_screen = sys.stderr.isatty()
    with Counted(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=bool(total and total >= 100_000),
        disable=quiet,
        mininterval=0.2 if on_screen else LOG_INTERVAL_S,
        delay=0.5 if total or not on_screen else 0.0,  # nobody knows when work of unknown length moves first
        smoothing=0.0,  # the time left by the whole of the work so far: parts of it differ, and so do machines' moods
        dynamic_ncols=True,
        leave=not on_screen,
        file=sys.stderr,
        bar_format=None if total else "{desc}: {n_fmt} {unit} after {elapsed}",
    ) as bar:
        yield bar


def say_above(bar: Any, line: str) -> None:
    """A line on stderr above the bar; nothing when the bar is off."""
    if not bar.disable:
        bar.write(line, file=sys.stderr)
        bar.delay = 0.0  # it was drawn again below the line, so that its end is drawn as well


@contextmanager
def shown(progress: Progress, total: int | None, unit: str, what: str) -> Iterator[Bar]:
    """The bar that `progress` asks for, of `total` units."""
    if callable(progress):
        yield Bar(_counting(progress, what, total))
    elif progress:
        with progress_bar(total, unit, what, quiet=False) as bar:
            yield Bar(lambda n=1: bar.update(n) if n else bar.unpause(), partial(say_above, bar))
    else:
        yield UNSEEN


@contextmanager
def waiting(progress: Progress, what: str) -> Iterator[None]:
    """Names work that counts nothing, such as loading, in a line on stderr once it has taken a second.

    A caller's own function hears of counted work alone.
    """
    if progress is not True:
        yield
        return
    timer = threading.Timer(SILENT_S, lambda: sys.stderr.write(f"{what} ...\n"))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _counting(tell: Told, what: str, total: int | None) -> Callable[..., None]:
    done = 0

    def update(n: int = 1) -> None:
        nonlocal done
        done += n
        tell(what, done, total)

    return update


def duration(seconds: float) -> str:
    """Such as 45 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
