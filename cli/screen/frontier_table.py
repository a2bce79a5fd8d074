"""The frontier of a study as a table for people, while a sweep runs and at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .tables import clipped, table

if TYPE_CHECKING:
    from pgpack.study.trial import Trial

NAME_WIDTH = 96


def frontier_table(
    front: Sequence[Trial],
    best: Trial | None,
    heading: str,
    more: Sequence[str] = (),
    more_of: Callable[[Trial], Sequence[str]] = lambda trial: (),
) -> str:
    """A row for each point, `best` marked. `heading` stands over the names; `more` over further columns, which
    `more_of` fills."""
    from pgpack.study.comparison import half_width, half_width_text

    rows = [
        (
            "*" if best is not None and trial.key == best.key else "",
            trial.n_bytes,
            f"{trial.bpb:.4f}",
            half_width_text(half_width(trial, "bpb")),
            "-" if trial.kl is None else f"{trial.kl:.5f}",
            *more_of(trial),
            clipped(name, NAME_WIDTH),
        )
        for trial, name in zip(front, distinct_names(front), strict=True)
    ]
    return table(("", "bytes", "bits/byte", "+-", "KL", *more, heading), rows)


def distinct_names(trials: Sequence[Trial]) -> list[str]:
    """Labels, or what tells a recipe from the other unlabelled ones: rules that all of them share are left out."""
    rules = [frozenset(trial.recipe.split("; ")) for trial in trials if not trial.label]
    shared = frozenset.intersection(*rules) if len(rules) > 1 else frozenset()
    return [
        trial.label or "; ".join(rule for rule in trial.recipe.split("; ") if rule not in shared) or trial.recipe
        for trial in trials
    ]
