"""A byte budget -> the best artifact that fits, on measured bytes.

For each family of recipes (the trellis engine; plain GPTQ with two ratios of embedding step to matrix step) the
dial is turned until the artifact fills the budget; the families' winners, and the field presets that fit, are
compared by KL to the fp32 model, or without a model by `pgpack.distortion`, and the best is returned.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..allocate import gaussian_bits, step_recipe, trellis_recipe
from ..distortion import expected_loss, relative_error
from ..errors import BudgetExceeded, CalibrationError, PgpackError, RecipeError
from ..evaluate import BitsPerByte
from ..pack import Artifact
from ..recipe import Recipe, infos
from ..recipe_text import parse_recipe
from ..search_space import Candidate
from .runner import Measurer

FILL = 0.995
EMBEDDING_RATIOS = (1.0, 0.6)
STEP_RANGE = (0.04, 6.0)  # of GPTQ, in sigma; the finest clips at 5 sigma
TRELLIS_RANGE = (1e-7, 1.0)
TRELLIS_STATES = 8
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
    for family in _families(measurer, budget):
        try:
            recipe, artifact = turn_dial(measurer, budget, family)
        except BudgetExceeded as error:
            smallest = min(error.args[1], smallest or error.args[1])
            continue
        except (CalibrationError, RecipeError) as error:
            note(f"{family.name}: {error}")
            continue
        fitted.append(_scored(measurer, recipe, "", artifact))
        note(f"{family.name}: {artifact.n_bytes:,} B, {_shown(fitted[-1])}")
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
    if not fitted and smallest is None:
        raise CalibrationError("no family of recipes could be packed: Hessians are missing; give --calibration FILE")
    if not fitted:
        assert smallest is not None
        raise BudgetExceeded(
            f"nothing fits {budget:,} bytes: the smallest artifact that was found takes {smallest:,}, "
            f"{smallest - budget:,} too many"
        )
    return min(fitted, key=lambda each: each.score)


@dataclass(frozen=True)
class Family:
    """Recipes along one dial: a larger value gives a smaller artifact. `guess`: where to begin."""

    name: str
    recipe_at: Callable[[float], Recipe]
    finest: float
    coarsest: float
    guess: float


def _families(measurer: Measurer, budget: int) -> list[Family]:
    tensors = infos(measurer.checkpoint.stored_shapes)
    trellis = functools.partial(trellis_recipe, states=TRELLIS_STATES, tensors=tensors)
    found = [Family("trellis", trellis, *TRELLIS_RANGE, 1e-3)]
    guess = _step_for(8 * budget / max(1, measurer.checkpoint.n_params))
    has_embedding = any(info.role in ("embedding", "head") for info in tensors)
    for ratio in EMBEDDING_RATIOS if has_embedding else (1.0,):
        gptq = functools.partial(step_recipe, embedding_ratio=ratio, coding="rans", tensors=tensors)
        found.append(Family(f"GPTQ, embedding ratio {ratio:g}", gptq, *STEP_RANGE, guess))
    return found


def turn_dial(measurer: Measurer, budget: int, family: Family) -> tuple[Recipe, Artifact]:
    """The largest artifact of a one-dial family that fits `budget`; stops at FILL of the budget.

    Bisection in log2(dial), where bytes are nearly linear (a bit per weight an octave); each probe is a real pack.
    The first steps follow that slope, later ones the secant through the bracket.
    Raises BudgetExceeded(message, smallest n_bytes) when even the coarsest setting is too large.
    """
    n = max(1, measurer.checkpoint.n_params)
    finest, coarsest = math.log2(family.finest), math.log2(family.coarsest)
    low, high = finest, coarsest
    sizes: dict[float, int] = {}
    best: tuple[Recipe, Artifact] | None = None
    at = math.log2(family.guess)
    refusal: RecipeError | None = None  # some coders have a finest step; what they refuse counts as too large
    refused = -math.inf
    for _ in range(MAX_TURNS):
        recipe = family.recipe_at(2**at)
        try:
            artifact = measurer.pack(recipe)
        except RecipeError as error:
            refusal, refused, low = error, at, at
            if high - low < 1e-3:
                break
            at = (low + high) / 2
            continue
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
        if at <= refused:
            at = (refused + high) / 2
    if refusal is not None and not sizes:
        raise refusal
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
    if loss is not None:
        return Fitted(recipe, label, artifact, loss, loss.kl if loss.kl is not None else loss.nats)
    calibration = measurer.calibrate(recipe)
    if calibration is not None:
        return Fitted(
            recipe, label, artifact, None, expected_loss(measurer.checkpoint, artifact.records, calibration)
        )
    return Fitted(recipe, label, artifact, None, relative_error(measurer.checkpoint, artifact.records))


def _shown(fitted: Fitted) -> str:
    if fitted.loss is None:
        return f"estimated loss {fitted.score:.3g}"
    kl = "" if fitted.loss.kl is None else f", KL {fitted.loss.kl:.3g} nats per token"
    return f"{fitted.loss.bpb:.4f} bits per byte{kl}"
