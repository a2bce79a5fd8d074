"""The frontier on a terminal: what a person sees after each trial, and that nothing of it is left behind."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
from pathlib import Path

import pytest
from pgpack_cli.screen import live_table
from pgpack_cli.screen.live_table import LiveTable, duration, left, shown_live, thinned

from pgpack.loss.intervals import pack_floats
from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.spaces import Candidate
from pgpack.study.frontier import pareto
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from pgpack.sweep.executors.jobs import Job
from pgpack.sweep.pace import Pace
from tests.study.test_journal import META

JOBS = [Job(Candidate(parse_recipe(f"*=rtn(bits={bits})|zlib"))) for bits in range(2, 9)]


def row(index: int, error: str | None = None) -> Trial:
    recipe = JOBS[index].candidate.recipe
    return Trial(
        key=f"{index}",
        recipe=str(recipe),
        recipe_digest=recipe.digest,
        status="failed" if error else "ok",
        checkpoint_digest="c",
        evaluator_digest="e",
        created="now",
        n_bytes=None if error else 1000 * (index + 1),
        bpb=None if error else 2.0 - 0.1 * index,
        kl=None if error else 0.5 - 0.05 * index,
        bpb_se=0.001,
        block_excess=pack_floats([1.0] * 6) if index < 4 else None,
        quantize_s=60.0,
        error=error,
    )


def study(*rows: Trial) -> Study:
    return Study(Path("study"), dataclasses.replace(META, metric="bpb"), rows)


class Screen(io.StringIO):
    """A terminal that knows what the table uses: up n lines, clear to the end."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        shown = [""]
        for up, text in re.findall(r"\x1b\[(\d+)F\x1b\[J|([^\x1b]+)", self.getvalue()):
            if up:
                shown = [*shown[: len(shown) - 1 - int(up)], ""]
            for number, piece in enumerate(text.split("\n")):
                shown = [*shown, piece] if number else [*shown[:-1], shown[-1] + piece]
        return shown[:-1] if shown[-1] == "" else shown


def terminal(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Standard error, from now on."""
    found = Screen()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live_table, "BETWEEN_S", 0.0)
    return found


def test_the_table_is_the_frontier_so_far_with_the_best_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with shown_live(study(), Pace(JOBS), 3500, quiet=False) as show:
        assert screen.lines() == ["sweeping  0 of 7 trials, 0 s so far"]
        for index in (4, 0, 2):
            show(row(index))
        head, columns, *rows = screen.lines()
        assert re.fullmatch(r"sweeping  3 of 7 trials, 0 s so far, about 4 min left \(until (\w+ )?\d\d:\d\d\)", head)
        assert columns.split() == ["bytes", "bits/byte", "+-", "KL", "on", "the", "frontier"]
        assert [line.split()[-5:] for line in rows] == [
            ["1,000", "2.0000", "0.0026", "0.50000", str(JOBS[0].candidate.recipe)],
            ["3,000", "1.8000", "0.0026", "0.40000", str(JOBS[2].candidate.recipe)],
            ["5,000", "1.6000", "-", "0.30000", str(JOBS[4].candidate.recipe)],
        ]
        assert [line.startswith("*") for line in rows] == [False, True, False]
    assert screen.lines() == []


def test_failures_stay_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with shown_live(study(), Pace(JOBS), None, quiet=False) as show:
        show(row(0))
        show(row(1, error="no such coder"))
        assert screen.lines()[1].startswith("sweeping  2 of 7 trials, 1 failed, 0 s so far")
    assert screen.lines() == ["failed: no such coder  (*=rtn(bits=3)|zlib)"]


def test_trials_of_the_study_before_are_on_the_frontier_too(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with shown_live(study(row(3)), Pace(JOBS[:2]), None, quiet=False):
        assert screen.lines()[0].startswith("sweeping  0 of 2 trials")
        assert str(JOBS[3].candidate.recipe) in screen.lines()[-1]


def test_a_frontier_longer_than_the_terminal_keeps_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    front = pareto([row(index) for index in range(7)])
    assert [trial.key for trial in thinned(front, 4)] == ["0", "2", "4", "6"]
    assert thinned(front, 7) == front
    live = LiveTable(study(*(row(index) for index in range(7))), Pace([]), None, screen)
    live.draw()
    assert all(len(line) < 80 for line in screen.lines())


@pytest.mark.parametrize("reason", ["quiet", "no terminal", "a dumb terminal"])
def test_elsewhere_there_is_no_table(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    if reason == "no terminal":
        monkeypatch.setattr(screen, "isatty", lambda: False)
    if reason == "a dumb terminal":
        monkeypatch.setenv("TERM", "dumb")
    with shown_live(study(), Pace(JOBS), None, quiet=reason == "quiet") as show:
        show(row(0))
        show(row(1, error="no such coder"))
    text = screen.getvalue()
    assert "\x1b[" not in text.replace("\x1b[A", "")
    assert ("failed: no such coder" in text) == (reason != "quiet")


def test_time_is_said_as_people_say_it() -> None:
    assert [duration(seconds) for seconds in (0.4, 99, 100, 5990, 6000, 86_400)] == [
        "0 s", "99 s", "2 min", "1 h 40 min", "1 h 40 min", "24 h 00 min",
    ]  # fmt: skip
    assert left(Pace(JOBS)) == ""
