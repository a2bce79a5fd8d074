"""A frontier for people: table, picture, CSV and rows, all of one `Front`, so that they cannot disagree.

matplotlib is loaded when a picture is made. In a notebook a view shows its picture, or where there is none its
table.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgpack.tables import clipped, table

from .comparison import half_width, half_width_text, paired_difference
from .frontier import Front, frontier_csv, measured
from .plot import Curve, FrontierPicture, frontier_svg, write_picture
from .trial import Trial

NAME_WIDTH = 96


@dataclass(frozen=True)
class FrontierView(Front):
    """`points` by ascending bytes, `best` within the budget, and ways to show them.

    `curves`: the studies that the trials are of, for pictures. Units: `fp32_bpb` bits per byte of the unpacked model;
    `block_bytes` of the text's blocks, by the digest of the evaluator.
    """

    title: str = "Frontier"
    curves: tuple[Curve, ...] = ()
    fp32_bpb: float | None = None
    block_bytes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<FrontierView {self.title}: {len(self.points)} points>"

    def table(
        self,
        shown: Sequence[Trial] | None = None,
        heading: str = "on the frontier",
        more: Sequence[str] = (),
        more_of: Callable[[Trial], Sequence[str]] = lambda trial: (),
    ) -> str:
        """A line for each point, or for those `shown`, the best marked by a star; losses with their 95 % intervals.

        `heading` stands over the names; `more` over further columns, which `more_of` fills.

        >>> print(pgpack.open_study("study").frontier().table())
        bytes  bits/byte ...
        """
        trials = self.points if shown is None else shown
        on_weights = self.metric == "weight_error"
        losses = ("relative error", "expected loss") if on_weights else ("bits/byte", "+-", "KL")
        rows = [
            (
                "*" if self.is_best(trial) else "",
                trial.n_bytes,
                *((trial.relative_error, trial.expected_loss) if on_weights else _loss_cells(trial)),
                *more_of(trial),
                clipped(name, NAME_WIDTH),
            )
            for trial, name in zip(trials, distinct_names(trials), strict=True)
        ]
        return table(("", "bytes", *losses, *more, heading), rows)

    def to_csv(self) -> str:
        """The points as CSV text with a header and full precision.

        >>> pgpack.open_study("study").frontier().to_csv().splitlines()[0]
        'n_bytes,bpb,...'
        """
        return frontier_csv(self.points, self.metric)

    def plot(self, path: Path | str | None = None) -> str:
        """The picture as SVG text, also written to `path`, as SVG or PNG by its suffix.

        Raises: StudyError when no trial was measured, or for another suffix.

        >>> pgpack.open_study("study").frontier(metric="kl").plot("frontier.png").startswith("<?xml")
        True
        """
        if path is not None:
            write_picture(self.picture, Path(path))
        return frontier_svg(self.picture)

    @property
    def picture(self) -> FrontierPicture:
        return FrontierPicture(self.curves, self.title, self.metric, self.budget, self.fp32_bpb, self.best_by)

    def row(self, trial: Trial) -> dict[str, Any]:
        """A trial with the half widths of its 95 % intervals and its paired difference to the best point."""
        best, above = self.best, None
        if best is not None:
            above = paired_difference(trial, best, self.block_bytes.get(best.evaluator_digest, ()))
        return {
            **trial.summary(),
            "bpb_half_width": half_width(trial, "bpb"),
            "kl_half_width": half_width(trial, "kl"),
            "above_best": above and {"value": above.value, "half_width": above.half_width()},
        }

    def _repr_svg_(self) -> str | None:
        return frontier_svg(self.picture) if measured(self.trials, self.metric) else None

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table())}</pre>"


def _loss_cells(trial: Trial) -> tuple[str, str, str]:
    kl = "-" if trial.kl is None else f"{trial.kl:.5f}"
    return f"{trial.bpb:.4f}", half_width_text(half_width(trial, "bpb")), kl


def distinct_names(trials: Sequence[Trial]) -> list[str]:
    """Labels, or what tells a recipe from the other unlabelled ones: rules that all of them share are left out."""
    rules = [frozenset(trial.recipe.split("; ")) for trial in trials if not trial.label]
    shared = frozenset.intersection(*rules) if len(rules) > 1 else frozenset()
    return [
        trial.label or "; ".join(rule for rule in trial.recipe.split("; ") if rule not in shared) or trial.recipe
        for trial in trials
    ]
