"""The tables of trials in a report, as HTML: rows sort by their `data-v` and are cards on a phone.

Owns rows, cells and headings. All text of the study is escaped. Buttons are part of the text, though idle without
scripts: adding them to a thousand rows afterwards would lay the page out a second time.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgpack.study.comparison import decimals, half_width
from pgpack.study.frontier import Front, Metric, main_metric
from pgpack.study.seeds import Across
from pgpack.study.study import Study
from pgpack.study.trial import Trial

MAX_TABLE_CHARS = 1_500_000  # of each of the two tables
MAX_ERROR = 1000  # characters
WEIGHT_ERRORS = (("relative error", "relative_error"), ("expected loss", "expected_loss"))
TIMES = (("quantize", "quantize_s"), ("encode", "encode_s"), ("decode", "decode_s"), ("evaluate", "eval_s"))


@dataclass(frozen=True)
class _Cell:
    """A table cell: text that people read, the value it sorts by, and its column's classes."""

    text: str
    value: float | str | None = None
    classes: str = "n"
    label: str = ""
    is_html: bool = False

    def markup(self) -> str:
        value = "" if self.value is None else f"{self.value}"
        shown = self.text if self.is_html else html.escape(self.text)
        sort = f' data-v="{html.escape(value)}"' if self.classes == "n" or value else ""
        label = f' data-l="{html.escape(self.label)}"' if self.label else ""
        return f'<td class="{self.classes}"{label}{sort}>{shown}</td>'


def frontier_table(study: Study, front: Front) -> tuple[str, int]:
    """A row for every point of the frontier, and how many rows were left out."""
    rows = [
        _row([_name_cell(trial), *_measure_cells(study, trial), _recipe_cell(trial)], _row_class(trial, front))
        for trial in front.points
    ]
    kept = _fitting(rows, [row.startswith('<tr class="best"') for row in rows])
    names = ["name", *_measure_names(study), "recipe"]
    return _table(names, [rows[index] for index in kept], "sortable"), len(rows) - len(kept)


def trials_table(study: Study, fronts: Mapping[Metric, Front]) -> tuple[str, int]:
    """A row for every trial, `t0` the first, and how many rows were left out; frontiers and the best are not."""
    front = fronts["bpb"]
    frontier = frozenset().union(*(front.keys for front in fronts.values()))
    rows, first = [], []
    for number, trial in enumerate(study.trials):
        times = [_number_cell(getattr(trial, field), "{:.2f}", f"{name} s") for name, field in TIMES]
        cells = [_name_cell(trial), *_measure_cells(study, trial), *times, _recipe_cell(trial)]
        classes = _row_class(trial, front) + (" front" if trial.key in front.keys else "")
        rows.append(_row(cells, classes + (" failed" if not trial.ok else ""), f"t{number}"))
        first.append(trial.key in frontier or front.is_best(trial))
    kept = _fitting(rows, first)
    names = ["name", *_measure_names(study), *(f"{name} s" for name, _ in TIMES), "recipe"]
    return _table(names, [rows[index] for index in kept], "sortable"), len(rows) - len(kept)


def _fitting(rows: Sequence[str], first: Sequence[bool]) -> list[int]:
    """Indices of the rows that MAX_TABLE_CHARS hold, in their order; those marked in `first` are taken first."""
    kept, room = [], MAX_TABLE_CHARS
    for index in sorted(range(len(rows)), key=lambda index: not first[index]):
        if len(rows[index]) <= room:
            kept.append(index)
            room -= len(rows[index])
    return sorted(kept)


def _measure_names(study: Study) -> list[str]:
    share = [] if study.meta.budget is None else ["% of budget"]
    if main_metric(study.trials) == "weight_error":
        return ["bytes", *share, *(name for name, _ in WEIGHT_ERRORS)]
    excess = [] if study.meta.fp32_bpb is None else ["mBPB to fp32"]
    spread = ["span", "sd"] if study.meta.others else []
    return ["bytes", *share, "bpb", *excess, "KL", *spread]


def _measure_cells(study: Study, trial: Trial) -> list[_Cell]:
    budget, fp32 = study.meta.budget, study.meta.fp32_bpb
    cells = [_number_cell(trial.n_bytes, "{:,}", "bytes")]
    if budget is not None:
        share = None if trial.n_bytes is None else 100 * trial.n_bytes / budget
        cells.append(_number_cell(share, "{:.2f}", "% of budget"))
    if main_metric(study.trials) == "weight_error":
        return [*cells, *(_number_cell(getattr(trial, field), "{:.3g}", name) for name, field in WEIGHT_ERRORS)]
    cells.append(_number_cell(trial.bpb, "{:.4f}", "bpb"))
    if fp32 is not None:
        excess = None if trial.bpb is None else trial.bpb - fp32
        text = "" if excess is None else excess_text(excess, trial)
        cells.append(_Cell(text, None if excess is None else f"{1000 * excess:.9g}", label="mBPB to fp32"))
    width = half_width(trial, "kl")
    digits = f".{decimals(width, 0)}f" if width else ".3g"
    cells.append(_number_cell(trial.kl, f"{{:{digits}}}{_with(width, digits)}", "KL"))
    return [*cells, *_spread_cells(study.seeds.get(trial.key))] if study.meta.others else cells


def _spread_cells(seeds: Across | None) -> list[_Cell]:
    """How far the checkpoints of a recipe differ, empty where one of its rows failed."""
    span = sd = None
    if seeds is not None and seeds.n_bytes is not None and seeds.bpb is not None:
        span, sd = seeds.n_bytes.most - seeds.n_bytes.least, seeds.bpb.sd
    return [_number_cell(span, "{:,.0f}", "span"), _number_cell(sd, "{:.4f}", "sd")]


def excess_text(excess: float, trial: Trial) -> str:
    """Bits per byte above the fp32 model as thousandths, with the half width of their interval where it is known."""
    width = half_width(trial, "bpb")
    width = None if width is None else 1000 * width
    digits = f".{decimals(width, 1)}f"
    return f"{1000 * excess:+{digits}}{_with(width, digits)}"


def _with(width: float | None, digits: str) -> str:
    return "" if width is None else f" ± {width:{digits}}"


def _number_cell(value: float | None, form: str, label: str) -> _Cell:
    text = "" if value is None else form.format(value)
    return _Cell(text, None if value is None else f"{value:.9g}", label=label)


def _name_cell(trial: Trial) -> _Cell:
    name = trial.label or trial.recipe_digest[:8]
    return _Cell(name if trial.ok else f"{name} (failed)", classes="name")


def _recipe_cell(trial: Trial) -> _Cell:
    error = (
        "" if trial.error is None else f'<span class="error">{html.escape(clipped(trial.error, MAX_ERROR))}</span>'
    )
    button = '<button type="button" class="copy">copy recipe</button>'
    return _Cell(f"{error}{button}<code>{html.escape(trial.recipe)}</code>", classes="wide", is_html=True)


def _row_class(trial: Trial, front: Front) -> str:
    return "best" if front.is_best(trial) else ""


def _row(cells: Sequence[_Cell], classes: str, row_id: str = "") -> str:
    head = (f' id="{row_id}"' if row_id else "") + (f' class="{classes.strip()}"' if classes.strip() else "")
    return f"<tr{head}>{''.join(cell.markup() for cell in cells)}</tr>"


def heading(name: str, classes: str) -> str:
    """A column heading that sorts."""
    return f'<th scope="col" class="{classes}"><button type="button" class="sort">{html.escape(name)}</button></th>'


def _table(names: Sequence[str], rows: Sequence[str], kind: str) -> str:
    kinds = {"name": "name", "recipe": "wide"}
    heads = "".join(heading(name, kinds.get(name, "n")) for name in names)
    body = "\n".join(rows)
    return (
        f'<div class="table-box"><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def clipped(text: str, most: int) -> str:
    """At most so many characters; what was cut is marked."""
    return text if len(text) <= most else f"{text[:most]} ..."
