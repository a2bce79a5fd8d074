"""What a sweep says at its end: the frontier, its best point, and where things lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pgpack.tables import clipped

from ..screen.output import Screen, format_bytes, picked

WEIGHT_FIELDS = ("key", "recipe", "label", "n_bytes", "relative_error", "expected_loss", "error")

if TYPE_CHECKING:
    from pgpack.bench.sweeping import Swept
    from pgpack.study.frontier import Metric
    from pgpack.study.seeds import Across
    from pgpack.study.study import Study
    from pgpack.study.trial import Trial
    from pgpack.study.view import FrontierView


def show_swept(swept: Swept, screen: Screen) -> None:
    """Print the frontier and what else there is to know, or all of it as JSON."""
    whole, view = swept.study.merged, swept.study.frontier()
    sentences = _sentences(swept, whole, view)
    screen.show(_document(swept, whole, view), _frontier_table(view, whole.seeds), *sentences)


def nothing_fits(study: Study, budget: int) -> Exception:
    """Why no trial is within `budget`."""
    from pgpack.errors import BudgetExceeded

    sizes = [trial.n_bytes for trial in study.merged.trials if trial.ok and trial.n_bytes is not None]
    if not sizes:
        return BudgetExceeded(f"no trial succeeded; look at the errors in {study.directory}/trials.jsonl")
    return BudgetExceeded(
        f"nothing fits {budget:,} bytes: the smallest artifact takes {min(sizes):,}, {min(sizes) - budget:,} too many"
    )


def require_one(study: Study) -> None:
    """Raises: StudyError where trials were made and every one failed."""
    from pgpack.errors import StudyError

    trials = (*study.trials, *study.partial)
    if trials and not any(trial.ok for trial in trials):
        raise StudyError(
            f"none of the {len(trials)} trials succeeded; {_commonest(trials)} (all errors are in "
            f"{study.directory}/trials.jsonl)"
        )


def _commonest(trials: Sequence[Trial]) -> str:
    """What most of the trials that failed say, and how many of them."""
    reasons = Counter(trial.error or "failed" for trial in trials if not trial.ok)
    reason, n = min(reasons.items(), key=lambda found: (-found[1], found[0]))
    return f"{'one says' if n == 1 else f'{n} say' if n < len(trials) else 'all say'}: {reason}"


def _document(swept: Swept, whole: Study, view: FrontierView) -> dict[str, Any]:
    study, seeds = swept.study, whole.seeds
    return {
        "out": str(study.directory),
        "metric": view.metric,
        "subject": view.subject,
        "budget": study.meta.budget,
        "fp32_bpb": whole.meta.fp32_bpb,
        "n_checkpoints": len(study.meta.checkpoints),
        "n_trials": len(study.trials),
        **({} if swept.on_text else {"measured": "weights", "n_points": len(study.trials)}),
        "n_partial": len(study.partial),
        **picked(swept, "n_new", "n_skipped"),
        "n_failed": sum(not trial.ok for trial in study.trials),
        "frontier": [_row(trial, seeds) for trial in view.points],
        "best": _row(swept.best, seeds) if swept.best else None,
        "files": [*swept.files, *swept.artifacts],
    }


def _row(trial: Trial, seeds: Mapping[str, Across]) -> dict[str, Any]:
    row = picked(trial, *WEIGHT_FIELDS) if trial.bpb is None else trial.summary()
    each = seeds.get(trial.key)
    return row if each is None else {**row, "spread": picked(each, "n_bytes", "bpb", "kl")}


def _frontier_table(view: FrontierView, seeds: Mapping[str, Across]) -> str:
    """A row for each point; with several checkpoints also how far they differ."""

    def spread(trial: Trial) -> tuple[str, str]:
        n_bytes, bpb = seeds[trial.key].n_bytes, seeds[trial.key].bpb
        return f"{n_bytes.most - n_bytes.least:,.0f}" if n_bytes else "-", f"{bpb.sd:.4f}" if bpb else "-"

    if not seeds:
        return view.table(heading="name or recipe")
    return view.table(heading="name or recipe", more=("span", "sd of bits/byte"), more_of=spread)


def _sentences(swept: Swept, whole: Study, view: FrontierView) -> list[str]:
    from pgpack.study.frontier import METRIC_NAMES

    study, best = swept.study, swept.best
    n_checkpoints, failed = len(study.meta.checkpoints), sum(not trial.ok for trial in whole.trials)
    tried = "trials" if n_checkpoints == 1 else "recipes"
    counted = f"{len(view.points)} of {len(whole.trials)} {tried} are on the frontier"
    fp32 = "" if whole.meta.fp32_bpb is None else f"{whole.meta.fp32_bpb:.4f} bits per byte in "
    interval = f"+-: 95 % interval of the {METRIC_NAMES[view.metric]}, for the sampling of the text alone"
    if not swept.on_text:
        counted, interval = f"{counted} of bytes and weight error", ""
    lines = [
        view.caption,
        *([interval] if interval else []),
        f"{counted}, {failed} failed; fp32 {fp32}{format_bytes(study.meta.fp32_n_bytes or 0)}",
    ]
    if n_checkpoints > 1:
        lines.append(
            f"over {n_checkpoints} checkpoints: bytes are those of the largest artifact, span the difference to the "
            "smallest, losses are means"
        )
        n_waiting = len({trial.recipe_digest for trial in study.trials}) - len(whole.trials)
        if n_waiting:
            lines.append(f"{n_waiting} recipes are not measured on all checkpoints and no points yet")
    if failed:
        lines.append(f"of those that failed, {clipped(_commonest([t for t in study.trials if not t.ok]), 200)}")
    if study.partial:
        lines.append(f"{len(study.partial)} more trials were measured on the first part of the text only")
    if best is not None:
        within = f" within {format_bytes(study.meta.budget)}" if study.meta.budget else ""
        every = " on every checkpoint" if within and n_checkpoints > 1 else ""
        n_bytes = format_bytes(best.n_bytes or 0)
        found = (
            f"{n_bytes}; its loss is not known" if best.bpb is None else f"{best.bpb:.4f} bits per byte in {n_bytes}"
        )
        lines.append(f"* best{within}{every}{_by(view.metric, best)}: {found}")
        lines += view.remarks
        lines += [f"artifact  {path}" for path in swept.artifacts]
    return [*lines, f"report    {study.directory / 'report.html'}"]


def _by(metric: Metric, best: Trial) -> str:
    """What the best point is the best by."""
    if metric == "error":
        return f" by the error of the weights, {best.weight_error:.4g}"
    if metric == "bpb":
        return " by bits per byte"
    return f" by {'KL' if metric == 'kl' else 'loss'}, {getattr(best, metric):.4g} nats per token"
