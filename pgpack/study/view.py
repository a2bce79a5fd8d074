"""A frontier for people: table, picture, CSV and rows, all of one `Front`, so that they cannot disagree.

matplotlib is loaded when a picture is made. In a notebook a view shows its picture, or where there is none its
table.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pgpack.files import alone
from pgpack.loss.intervals import Estimate
from pgpack.sizes import spoken_size
from pgpack.tables import Cell, Table, clipped, decimals, table

from .comparison import half_width, half_width_text, paired_difference
from .frontier import METRIC_NAMES, Front, Metric, frontier_csv, loss_of, measured
from .pictured import Curve, FrontierPicture
from .plot import frontier_svg, write_picture
from .trial import Trial

NAME_WIDTH = 96
ON_WEIGHTS = ("relative_error", "expected_loss")


@dataclass(frozen=True)
class FrontierView(Front):
    """`points` by ascending bytes, `best` within the budget, and ways to show them.

    `subject`: study, checkpoint and text in a few words. `curves`: the studies that the trials are of, for pictures.
    Units: `fp32_bpb` bits per byte of the unpacked model, `fp32_n_bytes` of its weights; `block_bytes` of the text's
    blocks, by the digest of the evaluator.
    """

    title: str = "Frontier"
    subject: str = "no study"
    curves: tuple[Curve, ...] = ()
    fp32_bpb: float | None = None
    fp32_n_bytes: int | None = None
    block_bytes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<FrontierView {self.title}: {len(self.points)} points>"

    def table(
        self,
        shown: Sequence[Trial] | None = None,
        heading: str = "on the frontier",
        more: Sequence[str] = (),
        more_of: Callable[[Trial], Sequence[str]] = lambda trial: (),
    ) -> Table:
        """A line for each point, or for those `shown`, the best marked by a star; the loss that they are
        compared by first, with its 95 % interval.

        `heading` stands over the names; `more` over further columns, which `more_of` fills.

        >>> print(pgpack.open_study("study").frontier().table())
        bytes       KL ...
        """
        trials = self.points if shown is None else shown
        losses = _columns(self.metric)
        if all(trial.expected_loss is None for trial in self.trials):  # nothing was calibrated
            losses.pop("expected loss", None)
        rows = [
            (
                "*" if self.is_best(trial) else "",
                trial.n_bytes,
                *(cell(trial) for cell in losses.values()),
                *more_of(trial),
                clipped(name, NAME_WIDTH),
            )
            for trial, name in zip(trials, distinct_names(trials), strict=True)
        ]
        return table(("", "bytes", *(name.strip() for name in losses), *more, heading), rows)

    def to_csv(self) -> str:
        """The points as CSV text with a header and full precision.

        >>> pgpack.open_study("study").frontier().to_csv().splitlines()[0]
        'n_bytes,bpb,...'
        """
        return frontier_csv(self.points, self.metric)

    def plot(self, path: Path | str | None = None) -> str:
        """The picture as SVG text, also written to `path`, as SVG or PNG by its suffix.

        Raises: StudyError when no trial was measured, or for another suffix; BlockingIOError while another process
        makes `path`.

        >>> pgpack.open_study("study").frontier(metric="kl").plot("frontier.png").startswith("<?xml")
        True
        """
        if path is not None:
            with alone(Path(path)):
                write_picture(self.picture, Path(path))
        return frontier_svg(self.picture)

    @property
    def caption(self) -> str:
        """What the table is of: study, checkpoint, text, and the loss that its points are compared by."""
        return f"{self.subject}; compared by {METRIC_NAMES[self.metric]}"

    @cached_property
    def as_good(self) -> Trial | None:
        """The smallest point whose bits per byte are not above those of the best beyond the 95 % interval of their
        difference on this text: where the loss stops falling. None where that is the best itself, or nobody knows."""
        for trial in self.points:
            if self.best is None or trial.key == self.best.key:
                return None
            above = self.above_best(trial)
            if above is not None and above.value <= (above.half_width() or 0.0):
                return trial
        return None

    @property
    def remarks(self) -> list[str]:
        """Sentences on a budget that does not bind, and on the smaller point that does as well as the best."""
        said, best = [], self.best
        if best is None or best.n_bytes is None:
            return []
        sizes = [trial.n_bytes or 0 for trial in measured(self.trials, self.metric)]
        if self.budget is not None and max(sizes) <= self.budget:
            fit = f"all {len(sizes)} fit" if len(sizes) > 1 else "it fits"
            said.append(f"{fit}; the best is {spoken_size(self.budget - best.n_bytes)} below the budget")
        if (small := self.as_good) is not None and small.n_bytes is not None:
            share = 100 * small.n_bytes / best.n_bytes
            said.append(
                f"{small.n_bytes:,} B ({share:.0f} % of the best) do as well: on this text the bits per byte do not "
                f"differ beyond their interval ({clipped(small.label or small.recipe, NAME_WIDTH)})"
            )
        return said

    def above_best(self, trial: Trial) -> Estimate | None:
        """Bits per byte of a trial above those of the best point, on one text; None where it is not known."""
        if self.best is None:
            return None
        return paired_difference(trial, self.best, self.block_bytes.get(self.best.evaluator_digest, ()))

    @property
    def picture(self) -> FrontierPicture:
        return FrontierPicture(self.curves, self.title, self.metric, self.budget, self.fp32_bpb, self.fp32_n_bytes)

    def row(self, trial: Trial) -> dict[str, Any]:
        """A trial with the half widths of its 95 % intervals and its paired difference to the best point."""
        above = self.above_best(trial)
        return {
            **trial.summary(),
            **({} if trial.bpb is not None else {name: getattr(trial, name) for name in ON_WEIGHTS}),
            "bpb_half_width": half_width(trial, "bpb"),
            "kl_half_width": half_width(trial, "kl"),
            "above_best": above and {"value": above.value, "half_width": above.half_width()},
        }

    def _repr_svg_(self) -> str | None:
        return frontier_svg(self.picture) if measured(self.trials, self.metric) else None

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table())}</pre>"


def _columns(metric: Metric) -> dict[str, Callable[[Trial], Cell]]:
    """Heading -> cell of the columns of losses: `metric` with its interval, then what else is measured."""
    if metric == "error":
        return {
            "relative error": lambda trial: trial.relative_error,
            "expected loss": lambda trial: trial.expected_loss,
        }
    columns: dict[str, Callable[[Trial], Cell]] = {
        "KL": lambda trial: "-" if trial.kl is None else decimals(trial.kl, 5),
        "bits/byte": lambda trial: "-" if trial.bpb is None else f"{trial.bpb:.4f}",
    }
    headings = {"kl": "KL", "bpb": "bits/byte", "nats": "nats"}
    first = headings[metric]
    cell = columns.get(first, lambda trial: "-" if trial.nats is None else f"{trial.nats:.4f}")
    return {
        first: cell,
        "+-": lambda trial: half_width_text(half_width(trial, metric), loss_of(trial, metric)),
    } | columns


def distinct_names(trials: Sequence[Trial]) -> list[str]:
    """Labels, or what tells a recipe from the other unlabelled ones: rules that all of them share are left out."""
    rules = [frozenset(trial.recipe.split("; ")) for trial in trials if not trial.label]
    shared = frozenset.intersection(*rules) if len(rules) > 1 else frozenset()
    return [
        trial.label or "; ".join(rule for rule in trial.recipe.split("; ") if rule not in shared) or trial.recipe
        for trial in trials
    ]
