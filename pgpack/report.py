"""A study as one self-contained HTML page: chart, frontier, bytes, and the lines that reproduce the best point.

Owns what the page says; `report_page.html`, `.css` and `.js` beside this file own how it looks and moves.
Refuses every outside request (its content security policy forbids them) and trusts no text of the study:
all of it is escaped. The tables and a static chart are there without scripts.
"""

from __future__ import annotations

import html
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from pgpack.frontier import Metric, best_under, loss_of, measured, pareto, ranking
from pgpack.plot import AXIS_LABELS, Curve, FrontierPicture, byte_unit, chart_view, frontier_svg, size_axis_label
from pgpack.sweep.journal import Study
from pgpack.sweep.trial import Trial

MAX_BARS = 30
_TIMES = (("quantize", "quantize_s"), ("encode", "encode_s"), ("decode", "decode_s"), ("evaluate", "eval_s"))


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


def render_report(study: Study, breakdown: Sequence[tuple[str, int]] = ()) -> str:
    """The page of `study` as HTML text; `breakdown` lists (name, n_bytes) of the best artifact's parts.

    Equal studies give equal text.
    """
    meta = study.meta
    best = best_under(study.trials, meta.budget, ranking(study.trials))
    title = f"Frontier of {_file_name(meta.checkpoint)}"
    page = Template(_asset("report_page.html"))
    return page.substitute(
        css=_asset("report_page.css"),
        js=_asset("report_page.js"),
        title=html.escape(title),
        lead=html.escape(_lead(study, best)),
        cards="\n".join(_cards(study, best)),
        static_chart=_static_chart(study, title),
        frontier_note=html.escape(_frontier_note(study)),
        frontier_table=_frontier_table(study, best),
        breakdown=_breakdown_section(breakdown),
        reproduce=_reproduce(study, best),
        trials_note=html.escape(_trials_note(study)),
        trials_table=_trials_table(study, best),
        provenance=_provenance(study),
        data=_script_json(_chart_data(study)),
    )


def write_report(study: Study, path: Path, breakdown: Sequence[tuple[str, int]] = ()) -> None:
    """Write the page of `study` to `path`; see `render_report`."""
    path.write_text(render_report(study, breakdown), encoding="utf-8")


# --- headline ------------------------------------------------------------------------------------------


def _lead(study: Study, best: Trial | None) -> str:
    budget = study.meta.budget
    if best is not None and best.n_bytes is not None and best.bpb is not None:
        where = "" if budget is None else f", {_percent(best.n_bytes, budget)} of the budget"
        excess = _excess(study, best.bpb)
        cost = f" ({excess} mBPB to fp32)" if excess else ""
        by_kl = " It has the least KL to fp32." if ranking(study.trials) == "kl" else ""
        return f"Best point: {best.bpb:.4f} bits per byte{cost} in {_bytes(best.n_bytes)}{where}.{by_kl}"
    smallest = min((trial.n_bytes or 0 for trial in measured(study.trials)), default=None)
    if smallest is None or budget is None:
        return "No trial was measured yet."
    return f"Nothing fits the budget: the smallest artifact is {_bytes(smallest - budget)} too large."


def _cards(study: Study, best: Trial | None) -> list[str]:
    meta = study.meta
    cards = [_card("Checkpoint", meta.checkpoint, f"sha256 {meta.checkpoint_digest[:16]}", wide=True)]
    if meta.fp32_bpb is not None:
        size = "" if meta.fp32_n_bytes is None else f"{_bytes(meta.fp32_n_bytes)} as fp32"
        cards.append(_card("fp32 model", f"{meta.fp32_bpb:.4f} bpb", size))
    if meta.budget is not None:
        divisor, unit = byte_unit(meta.budget)
        cards.append(_card("Budget", f"{meta.budget / divisor:g} {unit}", _bytes(meta.budget)))
    if best is not None and best.n_bytes and best.bpb is not None:
        ratio = f", {meta.fp32_n_bytes / best.n_bytes:.1f}x smaller than fp32" if meta.fp32_n_bytes else ""
        cards.append(_card("Best point", f"{best.bpb:.4f} bpb", f"{_bytes(best.n_bytes)}{ratio}"))
    n_failed = sum(not trial.ok for trial in study.trials)
    cards.append(
        _card("Trials", f"{len(study.trials)}, {n_failed} failed", f"{len(pareto(study.trials))} on the frontier")
    )
    return cards


def _card(name: str, value: str, small: str, *, wide: bool = False) -> str:
    extra = f"<small>{html.escape(small)}</small>" if small else ""
    kind = ' class="wide"' if wide else ""
    return f"<div{kind}><dt>{html.escape(name)}</dt><dd>{html.escape(value)}{extra}</dd></div>"


def _frontier_note(study: Study) -> str:
    fp32 = "" if study.meta.fp32_bpb is None else " mBPB: thousandths of a bit per byte above the fp32 model."
    return f"No other trial is both smaller and better in bits per byte.{fp32} KL in nats per token to fp32."


def _trials_note(study: Study) -> str:
    names = ", ".join(name for name, _ in _TIMES)
    return f"Every measured recipe, failed ones too. Times in seconds: {names}. Click a heading to sort."


def _provenance(study: Study) -> str:
    meta = study.meta
    calibration = meta.calibration_digest or "none"
    return html.escape(
        f"pgpack {meta.pgpack_version}, study of {meta.created}. Checkpoint {meta.checkpoint_digest}; "
        f"evaluator {meta.evaluator_digest}; calibration {calibration}."
    )


# --- tables --------------------------------------------------------------------------------------------


def _frontier_table(study: Study, best: Trial | None) -> str:
    rows = [
        _row([_name_cell(trial), *_measure_cells(study, trial), _recipe_cell(trial)], _row_class(trial, best))
        for trial in pareto(study.trials)
    ]
    return _table(["name", *_measure_names(study), "recipe"], rows, "sortable")


def _trials_table(study: Study, best: Trial | None) -> str:
    frontier = {trial.key for trial in pareto(study.trials)}
    rows = []
    for number, trial in enumerate(study.trials):
        times = [_number_cell(getattr(trial, field), "{:.2f}", f"{name} s") for name, field in _TIMES]
        cells = [_name_cell(trial), *_measure_cells(study, trial), *times, _recipe_cell(trial)]
        classes = _row_class(trial, best) + (" front" if trial.key in frontier else "")
        rows.append(_row(cells, classes, f"t{number}"))
    return _table(["name", *_measure_names(study), *(f"{name} s" for name, _ in _TIMES), "recipe"], rows, "sortable")


def _measure_names(study: Study) -> list[str]:
    share = [] if study.meta.budget is None else ["% of budget"]
    excess = [] if study.meta.fp32_bpb is None else ["mBPB to fp32"]
    return ["bytes", *share, "bpb", *excess, "KL"]


def _measure_cells(study: Study, trial: Trial) -> list[_Cell]:
    budget, fp32 = study.meta.budget, study.meta.fp32_bpb
    cells = [_number_cell(trial.n_bytes, "{:,}", "bytes")]
    if budget is not None:
        share = None if trial.n_bytes is None else 100 * trial.n_bytes / budget
        cells.append(_number_cell(share, "{:.2f}", "% of budget"))
    cells.append(_number_cell(trial.bpb, "{:.4f}", "bpb"))
    if fp32 is not None:
        excess = None if trial.bpb is None else 1000 * (trial.bpb - fp32)
        cells.append(_number_cell(excess, "{:+.1f}", "mBPB to fp32"))
    cells.append(_number_cell(trial.kl, "{:.3g}", "KL"))
    return cells


def _number_cell(value: float | None, form: str, label: str) -> _Cell:
    text = "" if value is None else form.format(value)
    return _Cell(text, None if value is None else f"{value:.9g}", label=label)


def _name_cell(trial: Trial) -> _Cell:
    name = trial.label or trial.recipe_digest[:8]
    return _Cell(name if trial.ok else f"{name} (failed)", classes="name")


def _recipe_cell(trial: Trial) -> _Cell:
    error = "" if trial.error is None else f'<span class="error">{html.escape(trial.error)}</span>'
    return _Cell(f"{error}<code>{html.escape(trial.recipe)}</code>", classes="wide", is_html=True)


def _row_class(trial: Trial, best: Trial | None) -> str:
    return "best" if best is not None and trial.key == best.key else ""


def _row(cells: Sequence[_Cell], classes: str, row_id: str = "") -> str:
    head = (f' id="{row_id}"' if row_id else "") + (f' class="{classes.strip()}"' if classes.strip() else "")
    return f"<tr{head}>{''.join(cell.markup() for cell in cells)}</tr>"


def _table(names: Sequence[str], rows: Sequence[str], kind: str) -> str:
    kinds = {"name": "name", "recipe": "wide"}
    heads = "".join(f'<th scope="col" class="{kinds.get(name, "n")}">{html.escape(name)}</th>' for name in names)
    body = "\n".join(rows)
    return (
        f'<div class="table-box"><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


# --- bytes and commands --------------------------------------------------------------------------------


def _breakdown_section(breakdown: Sequence[tuple[str, int]]) -> str:
    total = sum(n_bytes for _, n_bytes in breakdown)
    if not total:
        return ""
    parts = sorted(breakdown, key=lambda part: -part[1])
    if len(parts) > MAX_BARS:
        rest = parts[MAX_BARS - 1 :]
        parts = [*parts[: MAX_BARS - 1], (f"{len(rest)} smaller parts", sum(n_bytes for _, n_bytes in rest))]
    largest = max(n_bytes for _, n_bytes in parts)
    bars = "\n".join(
        f'<span class="name">{html.escape(name)}</span>'
        f'<span class="bar"><i style="width:{100 * n_bytes / largest:.2f}%"></i></span>'
        f'<span class="size">{_bytes(n_bytes)} &middot; {_percent(n_bytes, total)}</span>'
        for name, n_bytes in parts
    )
    return (
        '<section aria-labelledby="h-bytes"><h2 id="h-bytes">Bytes of the best artifact</h2>'
        f'<p class="note">{_bytes(total)} in {len(breakdown)} parts, largest first.</p>'
        f'<div class="bars">\n{bars}\n</div></section>'
    )


def _reproduce(study: Study, best: Trial | None) -> str:
    if best is None:
        return '<p class="note">There is no artifact to reproduce yet.</p>'
    lines = [("Pack the best point:", pack_command(study, best)), ("Check it:", _verify_command(study))]
    parts = [
        f'<p class="note">{html.escape(what)}</p><pre class="command">{html.escape(line)}</pre>'
        for what, line in lines
    ]
    if study.meta.space:
        parts.append(f'<p class="note">The space that was swept:</p><pre>{html.escape(study.meta.space)}</pre>')
    return "\n".join(parts)


def pack_command(study: Study, trial: Trial) -> str:
    """The `pgpack pack` line that writes `trial`'s artifact again, quoted for a POSIX shell."""
    words = ["pgpack", "pack", study.meta.checkpoint, "--recipe", trial.recipe]
    flags = f" {study.meta.data_flags}" if study.meta.data_flags else ""
    return f"{shlex.join(words)}{flags} -o best.pgpack"


def _verify_command(study: Study) -> str:
    budget = [] if study.meta.budget is None else ["--budget", str(study.meta.budget)]
    return shlex.join(["pgpack", "verify", "best.pgpack", "--checkpoint", study.meta.checkpoint, *budget])


# --- chart ---------------------------------------------------------------------------------------------


def _chart_data(study: Study) -> dict[str, Any]:
    views = {metric: _metric_data(study, metric) for metric in AXIS_LABELS}
    shown = next((view for view in views.values() if view), None)
    divisor, name = byte_unit(shown["view"]["x"][1] if shown else 1.0)
    return {
        "budget": study.meta.budget,
        "fp32": study.meta.fp32_bpb,
        "unit": {"divisor": divisor, "name": name, "title": size_axis_label(name)},
        "metrics": views,
        "trials": [
            [number, trial.n_bytes, trial.bpb, trial.kl, trial.label]
            for number, trial in enumerate(study.trials)
            if trial in measured([trial])
        ],
    }


def _metric_data(study: Study, metric: Metric) -> dict[str, Any] | None:
    view = chart_view(study.trials, metric, study.meta.budget, study.meta.fp32_bpb)
    if view is None:
        return None
    row_of = {trial.key: number for number, trial in enumerate(study.trials)}
    best = best_under(study.trials, study.meta.budget, ranking(study.trials))
    return {
        "title": AXIS_LABELS[metric],
        "view": {"x": view.x, "y": view.y, "log_x": view.log_x, "log_y": view.log_y},
        "outside": view.n_outside,
        "frontier": [row_of[trial.key] for trial in pareto(study.trials, metric)],
        "best": None if best is None else row_of[best.key],
    }


def _static_chart(study: Study, title: str) -> str:
    """The chart for readers without scripts, from `plot`; a sentence when there is nothing to draw."""
    if not any(loss_of(trial, "bpb") is not None for trial in study.trials):
        return "<p>No trial was measured; the table below shows why.</p>"
    picture = FrontierPicture(
        (Curve("", study.trials),), title, budget=study.meta.budget, fp32_bpb=study.meta.fp32_bpb
    )
    svg = frontier_svg(picture)
    svg = svg[svg.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


# --- text ----------------------------------------------------------------------------------------------


def _asset(name: str) -> str:
    return resources.files("pgpack").joinpath(name).read_text(encoding="utf-8")


def _script_json(document: dict[str, Any]) -> str:
    """JSON that no HTML parser can leave: `<`, `>` and `&` are escaped inside strings."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or path


def _bytes(n_bytes: int) -> str:
    return f"{n_bytes:,} B"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _excess(study: Study, bpb: float) -> str:
    fp32 = study.meta.fp32_bpb
    return "" if fp32 is None or not math.isfinite(fp32) else f"{1000 * (bpb - fp32):+.1f}"
