"""A study as one self-contained HTML page: chart, frontier, bytes, and the lines that reproduce the best point.

Owns what the page says of this study; `assets/page.html`, `.css` and the scripts there own its standing words, how it
looks and moves, and `anatomy` the sections on the best artifact's insides.
Refuses every outside request (its content security policy forbids them) and trusts no text of the study: the
templates escape all of it. The tables and a static chart are there without scripts. However many trials a study has,
the page stays below 5 MB: the frontier comes first, and what is left out is said.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pgpack.inspect import Anatomy
from pgpack.study.chart_view import byte_unit
from pgpack.study.comparison import half_width
from pgpack.study.files import replace_study_file
from pgpack.study.frontier import METRIC_NAMES, measured
from pgpack.study.names import names_of
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from pgpack.study.view import FrontierView

from .anatomy import anatomy_sections
from .chart_data import chart_data, losses_of, static_chart
from .tables import clipped, excess_text, frontier_table, trials_table
from .templates import filled

MAX_BARS = 30
MAX_TEXT = 20_000  # characters of a space


def render_report(
    study: Study,
    breakdown: Sequence[tuple[str, int]] = (),
    anatomy: Anatomy | None = None,
    *,
    live_version: str = "",
) -> str:
    """The page of `study` as HTML text; `breakdown` lists (name, n_bytes) of the best artifact's parts, which
    `anatomy` takes apart. Equal arguments give equal text.

    `live_version`: the page is to ask its own server for news of a study that was in this state.
    """
    study = study.merged
    view = study.frontier()
    views = {metric: study.frontier(metric) for metric in losses_of(view)}
    names = dict(zip((trial.key for trial in study.trials), names_of(study.trials), strict=True))
    values = {
        "live_version": live_version,
        "title": view.title,
        "meta": study.meta,
        "lead": _lead(study, view),
        "cards": _cards(study, view),
        "metric_name": METRIC_NAMES[view.metric],
        "chart_words": view.picture.words if view.points else "",
        "static_chart": "" if live_version else static_chart(view),
        "has_intervals": any(half_width(trial, "bpb") is not None for trial in view.points),
        "frontier_table": frontier_table(study, view, names),
        "anatomy": anatomy_sections(anatomy),
        "parts": _largest(breakdown),
        "n_parts": len(breakdown),
        "commands": _commands(study, view.best),
        "space": clipped(study.meta.space, MAX_TEXT),
        "trials_table": trials_table(study, view, views, names),
        "data": chart_data(study, view, views),
    }
    return str(filled("page.html", values))


def write_report(
    study: Study, path: Path, breakdown: Sequence[tuple[str, int]] = (), anatomy: Anatomy | None = None
) -> None:
    """Write the page of `study` to `path` in one step; see `render_report`. Raises: StudyError when it cannot."""
    replace_study_file(path, render_report(study, breakdown, anatomy).encode())


# --- headline ------------------------------------------------------------------------------------------


def _lead(study: Study, view: FrontierView) -> str:
    budget, best = view.budget, view.best
    if best is not None and best.n_bytes is not None and best.bpb is not None:
        where = "" if budget is None else f", {100 * best.n_bytes / budget:.1f} % of the budget"
        excess = "" if study.meta.fp32_bpb is None else excess_text(best.bpb - study.meta.fp32_bpb, best)
        cost = f" ({excess} mBPB to fp32)" if excess else ""
        by_kl = " It has the least KL to fp32." if view.metric == "kl" else ""
        return f"Best point: {best.bpb:.4f} bits per byte{cost} in {_bytes(best.n_bytes)}{where}.{by_kl}"
    if best is not None and best.n_bytes is not None and best.weight_error is not None:
        error = f"{METRIC_NAMES['error']} {best.weight_error:.3g}"
        return f"Best point: {error} in {_bytes(best.n_bytes)}; no text is known, so no loss was measured."
    smallest = min((trial.n_bytes or 0 for trial in measured(study.trials)), default=None)
    if smallest is None or budget is None:
        return "No trial was measured yet."
    return f"Nothing fits the budget: the smallest artifact is {_bytes(smallest - budget)} too large."


def _cards(study: Study, view: FrontierView) -> list[tuple[str, str, str]]:
    """(name, value, what is said below it); the first is that of the checkpoints."""
    meta, best = study.meta, view.best
    cards = [("Checkpoint", meta.checkpoint, f"sha256 {meta.checkpoint_digest[:16]}")]
    if meta.others:
        cards = [(f"{len(meta.checkpoints)} checkpoints", meta.title, "largest artifact, mean loss")]
    if meta.fp32_bpb is not None:
        size = "" if meta.fp32_n_bytes is None else f"{_bytes(meta.fp32_n_bytes)} as fp32"
        cards.append(("fp32 models, mean" if meta.others else "fp32 model", f"{meta.fp32_bpb:.4f} bpb", size))
    if meta.budget is not None:
        divisor, unit = byte_unit(meta.budget)
        cards.append(("Budget", f"{meta.budget / divisor:g} {unit}", _bytes(meta.budget)))
    if best is not None and best.n_bytes:
        ratio = f", {meta.fp32_n_bytes / best.n_bytes:.1f}x smaller than fp32" if meta.fp32_n_bytes else ""
        value = f"{METRIC_NAMES['error']} {best.weight_error:.3g}" if best.bpb is None else f"{best.bpb:.4f} bpb"
        cards.append(("Best point", value, f"{_bytes(best.n_bytes)}{ratio}"))
    tried = f"{len(study.trials)}, {view.n_failed} failed"
    cards.append(("Recipes" if meta.others else "Trials", tried, f"{len(view.points)} on the frontier"))
    return cards


# --- bytes and commands --------------------------------------------------------------------------------


def _largest(breakdown: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The parts, largest first, and those beyond MAX_BARS as one; nothing when they are empty."""
    parts = sorted(breakdown, key=lambda part: -part[1])
    if len(parts) > MAX_BARS:
        rest = parts[MAX_BARS - 1 :]
        parts = [*parts[: MAX_BARS - 1], (f"{len(rest)} smaller parts", sum(n_bytes for _, n_bytes in rest))]
    return parts if any(n_bytes for _, n_bytes in parts) else []


def _commands(study: Study, best: Trial | None) -> list[tuple[str, str]]:
    """What a line does, and the line."""
    if best is None:
        return []
    budget = [] if study.meta.budget is None else ["--budget", str(study.meta.budget)]
    verify = shlex.join(["pgpack", "verify", "best.pgpack", "--checkpoint", study.meta.checkpoint, *budget])
    return [("Pack the best point:", pack_command(study, best)), ("Check it:", verify)]


def pack_command(study: Study, trial: Trial) -> str:
    """The `pgpack pack` line that writes `trial`'s artifact again, quoted for a POSIX shell."""
    words = ["pgpack", "pack", study.meta.checkpoint, "--recipe", trial.recipe]
    flags = f" {study.meta.data_flags}" if study.meta.data_flags else ""
    return f"{shlex.join(words)}{flags} -o best.pgpack"


# --- text ----------------------------------------------------------------------------------------------


def _bytes(n_bytes: int) -> str:
    return f"{n_bytes:,} B"
