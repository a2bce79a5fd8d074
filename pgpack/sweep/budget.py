"""A byte budget -> the best artifact that fits, on measured bytes.

For each family of recipes (a ratio of embedding step to matrix step) the step is turned until the artifact fills
the budget; the families' winners, and the field presets that fit, are compared by KL to the fp32 model (or by the
relative error of the weights when there is no model), and the best is returned.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..allocate import gaussian_bits, step_recipe
from ..errors import BudgetExceeded, PgpackError
from ..evaluate import BitsPerByte
from ..pack import Artifact
from ..recipe import Recipe, infos
from ..recipe_text import parse_recipe
from ..search_space import Candidate
from .runner import Measurer

FILL = 0.995
EMBEDDING_RATIOS = (1.0, 0.7, 0.5)
STEP_RANGE = (0.04, 6.0)  # the finest clips at 5 sigma
MAX_TURNS = 12


@dataclass(frozen=True)
class Fitted:
    """A recipe that fits, its artifact, its loss (None without an evaluator) and the score it won by."""

    recipe: Recipe
    label: str
    artifact: Artifact
    loss: BitsPerByte | None
    score: float


def fit_budget(
    measurer: Measurer,
    budget: int,
    presets: Sequence[Candidate] = (),
    note: Callable[[str], None] = lambda line: None,
) -> Fitted:
    """The best measured artifact of at most `budget` bytes. Units: bytes.

    Raises BudgetExceeded, saying by how much, when the smallest artifact of every family is larger.
    """
    fitted: list[Fitted] = []
    smallest: int | None = None
    tensors = infos(measurer.checkpoint.stored_shapes)
    for ratio in EMBEDDING_RATIOS:
        try:
            family = functools.partial(step_recipe, embedding_ratio=ratio, coding="rans", tensors=tensors)
            recipe, artifact = turn_dial(measurer, budget, family)
        except BudgetExceeded as error:
            smallest = min(error.args[1], smallest or error.args[1])
            continue
        fitted.append(_scored(measurer, recipe, "", artifact))
        note(f"embedding ratio {ratio:g}: {artifact.n_bytes:,} B, {_shown(fitted[-1])}")
        if len(fitted) > 1 and fitted[-1].recipe == fitted[-2].recipe:
            break  # the model has no embedding: every ratio is the same recipe
    for preset in [*_passthroughs(measurer, budget), *presets]:
        recipe = preset.recipe.without_idle_rules(tensors)
        try:
            artifact = measurer.pack(recipe)
        except PgpackError as error:
            note(f"{preset.label}: {error}")
            continue
        fits = artifact.n_bytes <= budget
        if fits:
            fitted.append(_scored(measurer, recipe, preset.label, artifact))
        note(f"{preset.label}: {artifact.n_bytes:,} B, " + (_shown(fitted[-1]) if fits else "does not fit"))
    if not fitted:
        assert smallest is not None
        raise BudgetExceeded(
            f"nothing fits {budget:,} bytes: the smallest artifact that was found takes {smallest:,}, "
            f"{smallest - budget:,} too many"
        )
    return min(fitted, key=lambda each: each.score)


def turn_dial(measurer: Measurer, budget: int, recipe_at: Callable[[float], Recipe]) -> tuple[Recipe, Artifact]:
    """The largest artifact of a one-dial family that fits `budget`; stops at FILL of the budget.

    Bisection in log2(step), where bytes are nearly linear; each probe is a real pack. The first guess comes from
    the Gaussian rate, later ones from the secant through the bracket.
    Raises BudgetExceeded(message, smallest n_bytes) when even the coarsest step is too large.
    """
    n = max(1, measurer.checkpoint.n_params)
    finest, coarsest = (math.log2(step) for step in STEP_RANGE)
    low, high = finest, coarsest
    sizes: dict[float, int] = {}
    best: tuple[Recipe, Artifact] | None = None
    at = math.log2(_step_for(8 * budget / n))
    for _ in range(MAX_TURNS):
        recipe = recipe_at(2**at)
        artifact = measurer.pack(recipe)
        sizes[at] = artifact.n_bytes
        if artifact.n_bytes > budget:
            low = at
        else:
            high = at
            if best is None or artifact.n_bytes > best[1].n_bytes:
                best = (recipe, artifact)
        filled = best is not None and best[1].n_bytes >= FILL * budget
        if filled or low >= coarsest or high <= finest or high - low < 1e-3:
            break
        at = min(max(_next(sizes, low, high, budget, n), finest), coarsest)
    if best is None:
        smallest = min(sizes.values())
        raise BudgetExceeded(f"the coarsest step takes {smallest:,} bytes, {smallest - budget:,} too many", smallest)
    return best


def _passthroughs(measurer: Measurer, budget: int) -> list[Candidate]:
    """Unquantized recipes, where the budget is so large that they may fit."""
    found = []
    for dtype, n_bytes in (("fp32", 4), ("fp16", 2)):
        if 0.9 * n_bytes * measurer.checkpoint.n_params < budget:
            recipe = parse_recipe(f"*=cast(dtype={dtype})|shuffle(stride={n_bytes})|brotli(quality=9)")
            found.append(Candidate(recipe, dtype))
    return found


def _step_for(bits: float) -> float:
    """The step whose Gaussian rate is `bits` per weight."""
    low, high = STEP_RANGE
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gaussian_bits(middle) > bits else (low, middle)
    return high


def _next(sizes: dict[float, int], low: float, high: float, budget: int, n: int) -> float:
    """Where to look next: the secant of the bracket aimed just under the budget, else one Gaussian step from the
    nearest probe; always strictly inside the bracket."""
    target = budget * (1 + FILL) / 2
    if low in sizes and high in sizes:
        slope = (sizes[high] - sizes[low]) / (high - low)
        guess = low + (target - sizes[low]) / slope if slope else (low + high) / 2
        margin = 0.02 * (high - low)
        return min(max(guess, low + margin), high - margin)
    nearest = min(sizes, key=lambda at: abs(sizes[at] - target))
    return nearest + 1.15 * 8 * (sizes[nearest] - target) / n


def _scored(measurer: Measurer, recipe: Recipe, label: str, artifact: Artifact) -> Fitted:
    loss = measurer.evaluate(artifact)
    if loss is None:
        return Fitted(recipe, label, artifact, None, weight_error(measurer, artifact))
    return Fitted(recipe, label, artifact, loss, loss.kl if loss.kl is not None else loss.nats)


def weight_error(measurer: Measurer, artifact: Artifact) -> float:
    """Sum over tensors of the relative squared error of the decoded weights, weighted by their size."""
    total = 0.0
    for record in artifact.records:
        weight = measurer.checkpoint.tensor(record.name)
        if weight.dtype.kind == "f" and weight.size:
            error = float(np.square(weight - record.dequantize(), dtype=np.float64).sum())
            power = float(np.square(weight, dtype=np.float64).sum())
            total += weight.size * error / power if power else 0.0
    return total / max(1, measurer.checkpoint.n_params)


def _shown(fitted: Fitted) -> str:
    if fitted.loss is None:
        return f"relative squared error {fitted.score:.3g}"
    kl = "" if fitted.loss.kl is None else f", KL {fitted.loss.kl:.3g} nats per token"
    return f"{fitted.loss.bpb:.4f} bits per byte{kl}"
