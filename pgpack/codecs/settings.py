"""Range checks of stage fields; every stage refuses wrong settings with the same sentence."""

from __future__ import annotations

from pgpack.errors import RecipeError


def require_range(field: str, value: int, low: int, high: int) -> None:
    """Nothing when `low <= value <= high`. Raises RecipeError with the allowed range otherwise."""
    if not low <= value <= high:
        raise RecipeError(f"{field} must be {low} to {high}, found {value}")
