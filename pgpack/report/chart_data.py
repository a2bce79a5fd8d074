"""The chart of a report: what its scripts draw, and the same as a picture for readers without scripts.

Owns which trials and losses are in it. Whichever loss is drawn, the best point is the study's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from pgpack.study.chart_view import byte_unit, chart_view, size_axis_label
from pgpack.study.comparison import half_width
from pgpack.study.frontier import LOGARITHMIC, METRIC_NAMES, Metric, loss_of, measured, pareto
from pgpack.study.names import peers_of
from pgpack.study.pictured import Curve
from pgpack.study.plot import frontier_figure
from pgpack.study.study import Study
from pgpack.study.tensor_bytes import TensorBytes
from pgpack.study.trial import Trial
from pgpack.study.view import FrontierView

from .inline_picture import inline_svg
from .tables import clipped

MAX_TENSOR_CHARS = 600_000  # of the bytes tensor by tensor
MAX_DOTS, MAX_STATIC_DOTS = 8_000, 1_500  # trials in the chart, and in the one for readers without scripts
BUTTONS: Mapping[Metric, str] = {
    "kl": "KL to fp32",
    "bpb": "bits per byte",
    "nats": "nats per token",
    "error": "error of the weights",
}


def losses_of(view: FrontierView) -> tuple[Metric, ...]:
    """What a reader may choose between: the loss of `view` first, then what else was measured on text."""
    others: tuple[Metric, ...] = () if view.metric == "error" else ("kl", "bpb")
    return tuple(dict.fromkeys((view.metric, *(metric for metric in others if measured(view.trials, metric)))))


def chart_data(study: Study, view: FrontierView, views: Mapping[Metric, FrontierView]) -> dict[str, Any]:
    """What the scripts draw. A trial: its row in the table, bytes, label, losses and half widths in `order`."""
    row_of = {trial.key: number for number, trial in enumerate(study.trials)}
    metrics = {metric: _metric_data(each, row_of, view.best) for metric, each in views.items()}
    shown = next((data for data in metrics.values() if data), None)
    divisor, name = byte_unit(shown["view"]["x"][1] if shown else 1.0)
    return {
        "order": list(views),
        "budget": study.meta.budget,
        "fp32": study.meta.fp32_bpb,
        "tensors": tensor_data(study, view),
        "unit": {"divisor": divisor, "name": name, "title": size_axis_label(name)},
        "metrics": metrics,
        "trials": [
            [
                number,
                trial.n_bytes,
                clipped(trial.label, 100),
                [loss_of(trial, metric) for metric in views],
                *_widths(trial, tuple(views)),
            ]
            for number, trial in _dots(study, view, views)
        ],
    }


def _widths(trial: Trial, metrics: Sequence[Metric]) -> list[list[float | None]]:
    """The half widths as a list in a list, which is empty where none is known."""
    widths = [half_width(trial, metric) for metric in metrics]
    return [[width and float(f"{width:.3g}") for width in widths]] if any(widths) else []


def _dots(study: Study, view: FrontierView, views: Mapping[Metric, FrontierView]) -> list[tuple[int, Trial]]:
    """(row, trial) of the trials in the chart: the frontiers, the best and the named curves, and of the others up to
    MAX_DOTS."""
    needed = {trial.key for each in views.values() for trial in each.points}
    needed |= {trial.key for group in peers_of(study.trials).values() for trial in group}
    needed |= {view.best.key} if view.best is not None else set()
    shown = [(n, trial) for n, trial in enumerate(study.trials) if loss_of(trial, view.metric) is not None]
    others = [n for n, trial in shown if trial.key not in needed]
    kept = set(_spread(others, MAX_DOTS))
    return [(n, trial) for n, trial in shown if n in kept or trial.key in needed]


def _spread(items: Sequence[int], most: int) -> Sequence[int]:
    """At most `most` of the items, evenly spread."""
    return items[:: -(-len(items) // most)] if len(items) > most else items


def _metric_data(view: FrontierView, row_of: Mapping[str, int], best: Trial | None) -> dict[str, Any] | None:
    chart = chart_view(view, view.fp32_bpb)
    if chart is None:
        return None
    peers = {name: pareto(trials, view.metric) for name, trials in peers_of(view.trials).items()}
    return {
        "name": BUTTONS[view.metric],
        "title": METRIC_NAMES[view.metric],
        "view": {"x": chart.x, "y": chart.y, "log_x": chart.log_x, "log_y": view.metric in LOGARITHMIC},
        "frontier": [row_of[trial.key] for trial in view.points],
        "peers": [[name, [row_of[trial.key] for trial in trials]] for name, trials in peers.items() if trials],
        "best": None if best is None else row_of[best.key],
    }


def tensor_data(study: Study, view: FrontierView) -> dict[str, Any] | None:
    """Bytes of each tensor by the row of the trial, as far as MAX_TENSOR_CHARS go: frontier and labelled trials
    first. Of several checkpoints those of the first; None where the study kept none."""
    kept = TensorBytes(study.directory).of()
    first = {key: each.trials[0].key for key, each in study.seeds.items()}
    found = [(n, t, kept.get(first.get(t.key, t.key))) for n, t in enumerate(study.trials)]
    names = next((tuple(sizes) for _, _, sizes in found if sizes), ())
    rows, room = {}, MAX_TENSOR_CHARS
    for number, _, sizes in sorted(found, key=lambda each: not (each[1].key in view.keys or each[1].label)):
        if sizes is not None and tuple(sizes) == names:
            room -= sum(len(str(n_bytes)) + 1 for n_bytes in sizes.values())
            if room >= 0:
                rows[number] = list(sizes.values())
    return {"names": names, "bytes": rows} if rows else None


def static_chart(view: FrontierView) -> Markup | str:
    """The chart for readers without scripts, from `plot`; '' when there is nothing to draw."""
    if not view.points:
        return ""
    others = [number for number, trial in enumerate(view.trials) if trial.key not in view.keys]
    kept = set(_spread(others, MAX_STATIC_DOTS))
    trials = tuple(trial for n, trial in enumerate(view.trials) if n in kept or trial.key in view.keys)
    picture = replace(view.picture, curves=(Curve("", trials),))
    return inline_svg(frontier_figure(picture), picture.title, picture.words)
