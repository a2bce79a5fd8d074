"""What is known to fail before any work: recipes that cannot be packed here, budgets that nothing fits.

Owns the sentences. Only what fails for every recipe asked for is refused; a recipe that fails among others is a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgpack.errors import BudgetExceeded, PgpackError, RecipeError, SettingError
from pgpack.fit.budget import smallest_bytes
from pgpack.measure import Measurer
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe

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


def refuse_hopeless(bench: Workpiece, budget: int) -> None:
    """Raises: BudgetExceeded where even the coarsest recipe, which stores next to nothing of a matrix, is too large.

    Looked at only where the budget is small enough for that, for it takes a pack without calibration.
    """
    companions = sum(map(len, bench.checkpoint.carried.values()))
    if budget > bench.checkpoint.n_params // 4 + companions:
        return
    smallest = smallest_bytes(Measurer(bench.checkpoint, None, lambda recipe: None))
    if smallest > budget:
        raise BudgetExceeded(
            f"nothing fits {budget:,} bytes: the coarsest recipe takes {smallest:,}, {smallest - budget:,} too many",
            smallest,
        )
