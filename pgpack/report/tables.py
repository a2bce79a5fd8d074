"""The tables of trials in a report: what stands in which column, and which rows a page has room for.

Owns columns and cells; `assets/row.html` and `cells.html` own how they are written. Rows sort by their cells' values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pgpack.study.comparison import PLAIN, decimals, half_width, half_width_text
from pgpack.study.frontier import Front, Metric, default_metric
from pgpack.study.study import Study
from pgpack.study.trial import Trial

from .templates import filled

MAX_TABLE_CHARS = 1_500_000  # of each of the two tables
MAX_ERROR = 1000  # characters


@dataclass(frozen=True)
class Cell:
    """A number in a table: what people read, the value it sorts by, and the part of its cell that a bar fills."""

    text: str = ""
    value: str = ""
    bar: float | None = None


@dataclass(frozen=True)
class TrialTable:
    """Headings, the rows that fit, and how many did not."""

    names: tuple[str, ...]
    rows: tuple[Markup, ...]
    n_left_out: int


Columns = dict[str, Callable[[Trial], Cell]]


def number_cell(value: float | None, form: str, bar: float | None = None) -> Cell:
    """A number as `form` has it, nothing for None."""
    return Cell() if value is None else Cell(format(value, form), _sorted_by(value), bar)


def _sorted_by(value: float) -> str:
    """A number to sort by: whole ones exactly, others to 7 digits."""
    return str(value) if isinstance(value, int) else f"{value:.7g}"


def frontier_table(study: Study, front: Front, names: Mapping[str, str]) -> TrialTable:
    """A row for every point of the frontier; `names` of trials by their keys."""
    columns = _measures(study)
    best = [front.is_best(trial) for trial in front.points]
    rows = [
        _row(trial, columns, names, "best" if is_best else "")
        for trial, is_best in zip(front.points, best, strict=True)
    ]
    return _fitting(columns, rows, best)


def trials_table(study: Study, front: Front, fronts: Mapping[Metric, Front], names: Mapping[str, str]) -> TrialTable:
    """A row for every trial, `t0` the first; the points of all `fronts` and the best of `front` are never left out.

    Nothing in it is of the clock: a study that was stopped and went on has the page of one that was not.
    """
    frontier = frozenset().union(*(front.keys for front in fronts.values()))
    columns = _measures(study)
    rows, first = [], []
    for number, trial in enumerate(study.trials):
        is_best = front.is_best(trial)
        kinds = {"best": is_best, "front": trial.key in front.keys, "failed": not trial.ok}
        rows.append(_row(trial, columns, names, " ".join(kind for kind in kinds if kinds[kind]), f"t{number}"))
        first.append(is_best or trial.key in frontier)
    return _fitting(columns, rows, first)


def _fitting(columns: Iterable[str], rows: Sequence[Markup], first: Sequence[bool]) -> TrialTable:
    """The rows that MAX_TABLE_CHARS hold, in their order; those marked in `first` are taken first."""
    kept, room = [], MAX_TABLE_CHARS
    for index in sorted(range(len(rows)), key=lambda index: not first[index]):
        if len(rows[index]) <= room:
            kept.append(index)
            room -= len(rows[index])
    shown = tuple(rows[index] for index in sorted(kept))
    return TrialTable(("name", *columns, "recipe"), shown, len(rows) - len(kept))


def _row(trial: Trial, columns: Columns, names: Mapping[str, str], classes: str, row_id: str = "") -> Markup:
    name = names[trial.key]
    values = {
        "name": name if trial.ok else f"{name} (failed)",
        "cells": {label: cell(trial) for label, cell in columns.items()},
        "recipe": trial.recipe,
        "error": trial.error and clipped(trial.error, MAX_ERROR),
        "classes": classes,
        "id": row_id,
    }
    return filled("row.html", values)


def _measures(study: Study) -> Columns:
    """Bytes and losses, or errors of the weights where there is no text; of several checkpoints also how far those of
    a recipe differ."""
    budget, fp32 = study.meta.budget, study.meta.fp32_bpb
    columns: Columns = {"bytes": lambda trial: number_cell(trial.n_bytes, ",")}
    if budget is not None:
        columns["% of budget"] = lambda trial: number_cell(trial.n_bytes and 100 * trial.n_bytes / budget, ".2f")
    if default_metric(study.trials) == "error":
        columns["relative error"] = lambda trial: number_cell(trial.relative_error, ".3g")
        if any(trial.expected_loss is not None for trial in study.trials):  # something was calibrated
            columns["expected loss"] = lambda trial: number_cell(trial.expected_loss, ".3g")
        return columns
    columns["bpb"] = lambda trial: number_cell(trial.bpb, ".4f")
    if fp32 is not None:
        columns["mBPB to fp32"] = lambda trial: _excess_cell(trial, fp32)
    columns["KL"] = _kl_cell
    if study.meta.others:
        spreads = {
            key: (seeds.n_bytes.most - seeds.n_bytes.least, seeds.bpb.sd)
            for key, seeds in study.seeds.items()
            if seeds.n_bytes and seeds.bpb
        }
        columns["span"] = lambda trial: number_cell(spreads.get(trial.key, (None, None))[0], ",.0f")
        columns["sd"] = lambda trial: number_cell(spreads.get(trial.key, (None, None))[1], ".4f")
    return columns


def _excess_cell(trial: Trial, fp32: float) -> Cell:
    if trial.bpb is None:
        return Cell()
    excess = trial.bpb - fp32
    return Cell(excess_text(excess, trial), _sorted_by(1000 * excess))


def excess_text(excess: float, trial: Trial) -> str:
    """Bits per byte above the fp32 model as thousandths, with the half width of their interval where it is known."""
    width = half_width(trial, "bpb")
    width = None if width is None else 1000 * width
    digits = f".{decimals(width, 1)}f"
    return f"{1000 * excess:+{digits}}{_with(width, digits)}"


def _kl_cell(trial: Trial) -> Cell:
    if trial.kl is None:
        return Cell()
    width = half_width(trial, "kl")
    if width and 0 < trial.kl < PLAIN:
        return Cell(f"{trial.kl:.2e} ± {half_width_text(width, trial.kl)}", _sorted_by(trial.kl))
    digits = f".{decimals(width, 0)}f" if width else ".3g"
    return Cell(f"{trial.kl:{digits}}{_with(width, digits)}", _sorted_by(trial.kl))


def _with(width: float | None, digits: str) -> str:
    return "" if width is None else f" ± {width:{digits}}"


def clipped(text: str, most: int) -> str:
    """At most so many characters; what was cut is marked."""
    return text if len(text) <= most else f"{text[:most]} ..."
