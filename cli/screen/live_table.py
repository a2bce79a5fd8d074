"""The frontier on the terminal while a sweep runs: on a terminal a table that is drawn anew, elsewhere a line now and
then, with -q nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from pgpack.progress import duration, progress_bar, say_above
from pgpack.tables import clipped, wrapped

if TYPE_CHECKING:
    from pgpack.study.study import Study
    from pgpack.study.trial import Trial
    from pgpack.sweep.pace import Pace

BETWEEN_S = 0.1  # two drawings at least
AROUND = 6  # lines of the terminal that are not rows of the frontier
Show = Callable[["Trial"], None]


@contextmanager
def shown_live(study: Study, pace: Pace, budget: int | None, quiet: bool) -> Iterator[Show]:
    """Tell the result each new trial; `study` is what was known before."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        with progress_bar(pace.n_left, "trial", "sweeping", quiet) as bar:
            bar.bar_format = "{desc}: {n_fmt} of {total_fmt} trials, {elapsed}{postfix}"
            said: set[str] = set()
            yield lambda trial: _tell(bar, pace, trial, said)
        return
    live = LiveTable(study, pace, budget, sys.stderr)
    live.draw()
    try:
        yield live.take
    finally:
        live.clear()


def _tell(bar: Any, pace: Pace, trial: Trial, said: set[str]) -> None:
    """Move the bar, which shows the time left, and say above it what failed, unless it is among what was `said`."""
    pace.saw(trial)
    bar.total = bar.n + 1 + pace.n_left  # a search that goes on is spared what it asked for before
    bar.set_postfix_str(left(pace), refresh=False)
    bar.update()
    if trial.error and trial.error not in said:
        said.add(trial.error)
        say_above(bar, failure(trial))


class LiveTable:
    """The drawing: a line on how far the sweep is, the frontier by size, and what failed, above it for good."""

    def __init__(self, study: Study, pace: Pace, budget: int | None, stream: TextIO) -> None:
        self._study, self._pace, self._budget, self._stream = study, pace, budget, stream
        self._new: list[Trial] = []
        self._total, self._started = pace.n_left, time.monotonic()
        self._n_failed = self._n_lines = 0
        self._drawn = -BETWEEN_S
        self._said: set[str] = set()

    def take(self, trial: Trial) -> None:
        """Show a new trial."""
        self._pace.saw(trial)
        self._new.append(trial)
        if trial.error:
            self._n_failed += 1
            if trial.error not in self._said:
                self._said.add(trial.error)
                self.clear()
                print(failure(trial), file=self._stream)
        if trial.error or time.monotonic() - self._drawn >= BETWEEN_S or not self._pace.n_left:
            self.draw()

    def draw(self) -> None:
        """The table in place of the one before."""
        columns, lines = _size(self._stream)
        head = wrapped(self._head(), columns - 1).split("\n")
        text = [*head, *self._frontier(columns - 1, max(3, lines - AROUND))]
        self.clear(flush=False)
        self._stream.write("".join(f"{line}\n" for line in text))
        self._stream.flush()
        self._n_lines, self._drawn = len(text), time.monotonic()

    def clear(self, flush: bool = True) -> None:
        """Take the drawing away; the cursor stands where it began."""
        if self._n_lines:
            self._stream.write(f"\x1b[{self._n_lines}F\x1b[J")
            self._n_lines = 0
        if flush:
            self._stream.flush()

    def _head(self) -> str:
        done = self._total - self._pace.n_left
        said = [f"sweeping  {done} of {self._total} trials"]
        if self._n_failed:
            said.append(f"{self._n_failed} failed")
        said.append(f"{duration(time.monotonic() - self._started)} so far")
        if self._pace.n_left:
            said.append(left(self._pace))
        return ", ".join(part for part in said if part)

    def _frontier(self, columns: int, room: int) -> list[str]:
        """The table in lines of at most `columns` characters; as many points as `room` lines hold."""
        view = self._study.with_rows(tuple(self._new)).frontier(budget=self._budget)
        shown = thinned(view.points, room)
        text = view.table(shown).within(columns).split("\n") if shown else []
        per_point = -(-len(text) // (len(shown) + 1))
        if per_point > 1 and len(shown) > room // per_point:
            text = view.table(thinned(view.points, max(2, room // per_point))).within(columns).split("\n")
        return text


def thinned(front: Sequence[Trial], room: int) -> list[Trial]:
    """At most `room` of them, evenly spaced, with both ends."""
    if len(front) <= room:
        return list(front)
    return [front[round(i * (len(front) - 1) / (room - 1))] for i in range(room)]


def failure(trial: Trial) -> str:
    """What is said of a failed trial."""
    return f"failed: {clipped(trial.error or '', 160)}  ({clipped(trial.recipe, 80)})"


def left(pace: Pace) -> str:
    """The time that is left and the clock's at its end, which stays true while nothing is drawn; '' if not known."""
    seconds = pace.left_s()
    if seconds is None:
        return ""
    end = time.localtime(time.time() + seconds)
    day = time.strftime("%a ", end) if end[:3] != time.localtime()[:3] else ""
    return f"about {duration(seconds)} left (until {day}{time.strftime('%H:%M', end)})"


def _size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal behind `stream`."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return max(40, size.columns), max(10, size.lines)
