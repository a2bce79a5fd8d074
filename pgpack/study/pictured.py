"""What a picture of a frontier shows, and the same in words.

Owns what is in a picture; `plot` owns how it looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pgpack.errors import StudyError
from pgpack.tables import counted

from .chart_view import ChartView, byte_unit, chart_view
from .frontier import LOGARITHMIC, METRIC_NAMES, Front, Metric, Points, loss_of, measured, points_of
from .names import peers_of
from .trial import Trial

WORDS: Mapping[Metric, str] = {"kl": "KL", "bpb": "bits per byte", "nats": "nats per token", "error": "error"}


@dataclass(frozen=True)
class Curve:
    """One study in a picture: its name and all its trials."""

    name: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class FrontierPicture:
    """Everything that a frontier picture shows.

    Units: `budget` bytes; `fp32_bpb` bits per byte of the unpacked model, drawn when `metric` is bpb; `fp32_n_bytes`
    bytes of its weights, for an axis of bits per weight.
    """

    curves: tuple[Curve, ...]
    title: str
    metric: Metric = "bpb"
    budget: int | None = None
    fp32_bpb: float | None = None
    fp32_n_bytes: int | None = None

    @cached_property
    def fronts(self) -> tuple[Front, ...]:
        return tuple(self._front(curve.trials) for curve in self.curves)

    @cached_property
    def whole(self) -> Front:
        return self._front(tuple(trial for curve in self.curves for trial in curve.trials))

    @cached_property
    def drawn(self) -> tuple[tuple[str, Front], ...]:
        """Curves with their names: the studies, and of one study the packers in it that were measured over a dial."""
        fronts = [*zip((curve.name for curve in self.curves), self.fronts, strict=True)]
        if len(self.curves) == 1:
            fronts += [(name, self._front(trials)) for name, trials in peers_of(self.curves[0].trials).items()]
        return tuple(fronts)

    @property
    def view(self) -> ChartView:
        """Raises: StudyError when no trial was measured in the picture's metric."""
        view = chart_view(self.whole, self.fp32_bpb)
        if view is None:
            raise StudyError(f"no trial has a {self.metric} to draw; see the errors in trials.jsonl")
        return view

    def size(self, n_bytes: float) -> str:
        """Bytes in the unit of the picture's axis."""
        divisor, unit = byte_unit(self.view.x[1])
        return f"{n_bytes / divisor:.4g} {unit}"

    def figures(self, n_bytes: float, loss: float) -> str:
        """A point in words: `15.31 MB, KL 0.0123` or `15.31 MB, 1.2345 bits per byte`."""
        word = WORDS[self.metric]
        said = f"{word} {loss:.3g}" if self.metric in LOGARITHMIC else f"{loss:.4f} {word}"
        return f"{self.size(n_bytes)}, {said}"

    @property
    def words(self) -> str:
        """The picture for who cannot see it. Raises: StudyError when there is nothing to draw."""
        whole = self.whole
        points = drawable(whole, whole.points)
        ends = " to ".join(self.figures(*point) for point in points[[0, -1]].tolist())
        n_trials = len(measured(whole.trials, self.metric))
        said = [
            f"{METRIC_NAMES[self.metric]} against artifact size: {counted(n_trials, 'trial')}, "
            f"{len(points)} on the frontier, from {ends}."
        ]
        within = "" if self.budget is None else f" within the budget of {self.size(self.budget)}"
        if whole.best is not None:
            best = self.figures(whole.best.n_bytes or 0, loss_of(whole.best, self.metric) or 0.0)
            said.append(f"Best{within}: {best}.")
        elif self.budget is not None:
            said.append(f"Nothing fits the budget of {self.size(self.budget)}.")
        return " ".join(said)

    def _front(self, trials: tuple[Trial, ...]) -> Front:
        return Front(trials, self.metric, self.budget)


def drawable(front: Front, trials: Sequence[Trial] | None = None) -> Points:
    """Bytes and loss of the trials (None: all) that have a place in a chart: a logarithmic axis has no 0.
    *Shape* (n, 2)."""
    points = points_of(front.trials if trials is None else trials, front.metric)
    return points[points[:, 1] > 0] if front.metric in LOGARITHMIC else points
