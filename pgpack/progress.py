"""How long work says how far it is: a bar on stderr, the caller's own function, or nothing.

A bar has an ETA on a terminal; in a log it is a line now and then and at the end.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

SILENT_S = 1.0  # that work may take before it is named
LOG_INTERVAL_S = 15.0  # between lines when stderr is not a terminal

Told = Callable[[str, int, int | None], object]  # what is done, how much of it, of how much where that is known
Progress = bool | str | Told | None  # True: bars on stderr; a name: they say that it is what they are of; no: nothing


@dataclass(frozen=True)
class Bar:
    """Work under way. `update(n)`: so many more are done, one by default; 0: what counts begins now, and the time
    that preparing took tells nothing about the rest. `say(line)`: for people, about what was just done."""

    update: Callable[..., None]
    say: Callable[[str], None] = lambda line: None


UNSEEN = Bar(lambda n=1: None)


@functools.cache
def _counted() -> Any:
    """tqdm's bar, once: each class of bars has a thread of its own that watches them."""
    from tqdm import tqdm

    class Counted(tqdm):  # type: ignore[misc]
        @property
        def format_dict(self) -> Any:
            said = super().format_dict  # of a known total tqdm writes rates, such as 12 tok/s
            return said if self.total or self.n == 1 else {**said, "unit": f"{self.unit}s"}

    return Counted


@contextmanager
def progress_bar(total: int | None, unit: str, what: str, quiet: bool) -> Iterator[Any]:
    """A tqdm bar on stderr; `.update(n)` moves it."""
    on_screen = sys.stderr.isatty()
    stream = sys.stderr if on_screen else _Lines(sys.stderr)
    with _counted()(
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
        file=stream,
        bar_format=None if total else "{desc}: {n_fmt} {unit} after {elapsed}",
    ) as bar:
        yield bar


class _Lines:
    """A log behind `stream`: each state of a bar that is drawn is a line, said once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, ""

    def write(self, text: str) -> None:
        for drawn in re.split(
            r"[\r\n]|\x1b\[[\d;]*[A-Za-z]", text
        ):  # between them a bar below another moves the cursor
            state = drawn.rstrip()
            if state and state != self._last:
                self._last = state
                self._stream.write(f"{state}\n")

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def above_bars() -> Iterator[None]:
    """What is written to stderr here stands above the bars that are drawn there."""
    loaded = sys.modules.get("tqdm")  # before the first bar it is not, and need not be
    if loaded is None:
        yield
        return
    bars = loaded.tqdm
    with bars.external_write_mode(file=sys.stderr):
        yield
    for bar in list(getattr(bars, "_instances", ())):
        bar.delay = 0.0  # it was drawn again below the line, so that its end is drawn as well


def say_above(bar: Any, line: str) -> None:
    """A line on stderr above the bar; nothing when the bar is off."""
    if not bar.disable:
        with above_bars():
            sys.stderr.write(f"{line}\n")


@contextmanager
def shown(progress: Progress, total: int | None, unit: str, what: str) -> Iterator[Bar]:
    """The bar that `progress` asks for, of `total` units."""
    if callable(progress):
        yield Bar(_counting(progress, what, total))
    elif progress:
        with progress_bar(total, unit, _named(what, progress), quiet=False) as bar:
            yield Bar(lambda n=1: bar.update(n) if n else bar.unpause(), partial(say_above, bar))
    else:
        yield UNSEEN


@contextmanager
def waiting(progress: Progress, what: str) -> Iterator[None]:
    """Names work that counts nothing, such as loading, in a line on stderr once it has taken a second.

    A caller's own function hears of counted work alone.
    """
    if not progress or callable(progress):
        yield
        return

    def name() -> None:
        with above_bars():
            sys.stderr.write(f"{_named(what, progress)} ...\n")

    timer = threading.Timer(SILENT_S, name)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _named(what: str, progress: Progress) -> str:
    return f"{what}, {progress}" if isinstance(progress, str) else what


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
