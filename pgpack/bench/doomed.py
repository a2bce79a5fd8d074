"""What is known to fail before any work: recipes that cannot be packed here, budgets that nothing fits.

Owns the sentences. Only what fails for every recipe asked for is refused; a recipe that fails among others is a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import BudgetExceeded, PgpackError, RecipeError, SettingError
from pgpack.fit.budget import smallest_bytes
from pgpack.formats.own.companions import packed_size
from pgpack.measure import Measurer
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe

if TYPE_CHECKING:
    from .workpiece import Workpiece


def refuse_doomed(bench: Workpiece, recipes: Sequence[Recipe]) -> None:
    """Raises: RecipeError, CoverageError, SettingError where every one of the recipes is known to fail."""
    reasons = [_reason(bench, recipe) for recipe in recipes]
    if reasons and all(reasons):
        assert reasons[0] is not None
        raise reasons[0]


def _reason(bench: Workpiece, recipe: Recipe) -> PgpackError | None:
    """Why a recipe cannot be packed here; None where nothing is known against it."""
    try:
        applied = apply(recipe, bench.checkpoint.stored_shapes)
    except RecipeError as error:
        return error
    options = bench.options
    reads_text = options.calib is not None or bool(options.text) or "data_defaults" in bench.checkpoint.metadata
    if recipe.trains and not reads_text:
        return SettingError(
            f"{recipe}: its @drift, @compensate or @tune runs the model on calibration text, and none is known; give "
            "--text PATH or --calib GLOB, or leave it out"
        )
    if options.strict and applied.needs_calibration and not bench.can_calibrate:
        return SettingError(
            f"--strict: {applied.needs_hessian[0]} wants a Hessian under {recipe}, and there is nothing to calibrate "
            "on; give --text PATH, --calib GLOB or --calibration FILE, or leave --strict out"
        )
    return None


def refuse_hopeless(checkpoint: Checkpoint, budget: int, hint: str = "", most: int | None = None) -> None:
    """Raises: BudgetExceeded, `hint` ending its sentence, where even the coarsest recipe, which stores next to
    nothing of a matrix, is too large.

    Looked at only where the budget is small enough for that, for it takes a pack without calibration; of a model of
    more than `most` values only what lies beside the weights is.
    """
    companions = sum(map(len, checkpoint.carried.values()))
    if budget > checkpoint.n_params // 4 + companions:
        return
    if most is not None and checkpoint.n_params > most:
        smallest, what = packed_size(checkpoint.carried), "what lies beside the weights"
    else:
        smallest, what = smallest_bytes(Measurer(checkpoint, None, lambda recipe: None)), "the coarsest recipe"
    if smallest > budget:
        over = f"{what} takes {smallest:,}, {smallest - budget:,} too many"
        raise BudgetExceeded(f"nothing fits {budget:,} bytes: {over}{hint}", smallest)


def without_companions(checkpoint: Checkpoint) -> str:
    """How a budget that nothing fits may fit after all, as the end of a sentence; '' where no way is known."""
    carried = checkpoint.carried
    return f"; {', '.join(carried)} are part of it: --weights-only leaves them out" if carried else ""
