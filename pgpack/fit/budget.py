"""A byte budget -> the best artifact that fits, on measured bytes.

The dial of the trellis engine is turned until its artifact fills the budget: with few states first, which is quick
and needs about the same bytes, then as the effort says, then with what it trains. What these give and the field
presets that fit are compared by the metric of a frontier (KL to the fp32 model unless somebody chose), or without a
model by `pgpack.calibration.distortion`; the best is returned. Without Fisher weights the trellis has no dial, and
plain GPTQ with two ratios of embedding step to matrix step takes its place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pgpack.calibration.distortion import expected_loss, relative_error
from pgpack.errors import BudgetExceeded, CalibrationError, InputChanged, PgpackError, RecipeError
from pgpack.loss.evaluator import BitsPerByte
from pgpack.measure import Measurer
from pgpack.pack import Artifact
from pgpack.progress import UNSEEN, Bar
from pgpack.recipe.dials import gaussian_bits, step_recipe, trellis_recipe
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.recipe.selector import Shapes
from pgpack.recipe.spaces import Candidate
from pgpack.study.frontier import Metric
from pgpack.tensors.roles import roles_of

from .dial import Dial, Limit, turn
from .effort import DEFAULT, FEW, LEVELS, Effort

FILL, ROUGH_FILL = 0.999, 0.98  # the second is only looked for to begin the next search near it
TRAINED_FILL = 0.99  # of a budget is enough for what trains, which may take minutes a turn
BOUNDED_FILL = 0.96  # and this where the model is so large that a turn takes most of an hour
TRAINED_STEP, TUNED_STEP = 1.005, 1.01  # the first turn's, in steps of the untrained: finer exponents cost 0.5 %
EMBEDDING_RATIOS = (1.0, 0.6)
STEP_RANGE = (0.04, 6.0)  # of GPTQ, in sigma; the finest clips at 5 sigma
TRELLIS_RANGE = (1e-7, 1.0)
SHRUNK = 0.08  # of the bytes of a step for each nat of KL: what drift takes off (SmolLM2: 0.06 to 0.10)
OVERSHOOT = 1.15  # of the first turns, so that the budget soon lies between two probes
SLACK = 32  # bytes; small artifacts grow in steps


@dataclass(frozen=True)
class Fitted:
    """A recipe that fits, its artifact, its loss (None without an evaluator) and the score it won by."""

    recipe: Recipe
    label: str
    artifact: Artifact
    loss: BitsPerByte | None
    score: float


def engine_recipe(effort: Effort, step: float, tensors: Shapes) -> Recipe:
    """The engine's recipe for an effort, at a step (as `pgpack.recipe.dials.trellis_recipe`)."""
    parts = (
        str(trellis_recipe(step, effort.states, tensors, effort.group)),
        f"@calib=tokens(count={effort.tokens})" if effort.tokens else "",
        "@drift=layers(share=1,residual=1)" if effort.drift else "",
        effort.compensation,
        effort.tuning,
    )
    return parse_recipe("; ".join(part for part in parts if part))


def fit_budget(
    measurer: Measurer,
    budget: int,
    presets: Sequence[Candidate] = (),
    bar: Bar = UNSEEN,
    effort: Effort = LEVELS[DEFAULT],
    metric: Metric | None = None,
) -> Fitted:
    """The best measured artifact of at most `budget` bytes. Units: bytes.

    `effort`: what is spent, bounded by the size of the model; what it trains is a last candidate. `metric`: the
    loss that decides, as on a frontier; None: KL where it is measured. `bar` counts artifacts that were packed.
    Raises BudgetExceeded, saying by how much, when the smallest artifact of every family is larger.
    """
    asked, effort = effort, effort.bounded(measurer.checkpoint.n_params)
    fill = TRAINED_FILL if effort == replace(asked, group=effort.group) else BOUNDED_FILL
    best: Fitted | None = None  # one is held, for each holds a model's symbols
    smallest: int | None = None
    tensors = measurer.checkpoint.stored_shapes
    try:
        for found in _searched(measurer, budget, effort, fill, bar, metric):
            bar.say(f"{found.label}: {found.artifact.n_bytes:,} B, {_shown(found)}")
            best = found if best is None or found.score < best.score else best
    except BudgetExceeded as error:
        smallest = error.smallest
    for preset in [*_passthroughs(measurer, budget), *presets]:
        recipe = preset.recipe.without_idle_rules(tensors)
        try:
            artifact = measurer.pack(recipe)
            bar.update()
        except InputChanged:
            raise
        except PgpackError as error:
            bar.say(f"{preset.label}: {error}")
            continue
        if artifact.n_bytes > budget:
            bar.say(f"{preset.label}: {artifact.n_bytes:,} B, does not fit")
            continue
        found = _scored(measurer, recipe, preset.label, artifact, metric)
        bar.say(f"{preset.label}: {artifact.n_bytes:,} B, {_shown(found)}")
        best = found if best is None or found.score < best.score else best
    if best is None and smallest is None:
        raise CalibrationError("no family of recipes could be packed: Hessians are missing; give --calibration FILE")
    if best is None:
        assert smallest is not None
        raise BudgetExceeded(
            f"nothing fits {budget:,} bytes: the smallest artifact that was found takes {smallest:,}, "
            f"{smallest - budget:,} too many"
        )
    return best


@dataclass(frozen=True)
class Family:
    """Recipes along one dial: a larger value gives a smaller artifact. `guess`: where to begin."""

    name: str
    recipe_at: Callable[[float], Recipe]
    finest: float
    coarsest: float
    guess: float


def _searched(
    measurer: Measurer, budget: int, effort: Effort, fill: float, bar: Bar, metric: Metric | None
) -> Iterator[Fitted]:
    """Artifacts that fill the budget, what trains `fill` of it.

    Raises BudgetExceeded as `turn_dial`.
    """
    tensors = measurer.checkpoint.stored_shapes

    def trellis(spent: Effort, guess: float) -> Family:
        return Family(spent.label, lambda step: engine_recipe(spent, step, tensors), *TRELLIS_RANGE, guess)

    try:
        dial = 1e-3
        family = trellis(effort.untrained, dial)
        _require_fisher(measurer, family)
        if effort.rough != effort.untrained:
            calibrated = family.recipe_at(dial)  # its statistics serve the rough one too: one pass over the text
            roughly = replace(measurer, calibrate=lambda recipe: measurer.calibrate(calibrated))
            dial = turn_dial(roughly, budget, trellis(effort.rough, dial), ROUGH_FILL, bar)[0]
        family, trains = trellis(effort.untrained, dial), effort != effort.untrained
        dial, artifact = turn_dial(measurer, budget, family, fill if trains else FILL, bar)
        untrained = _scored(measurer, family.recipe_at(dial), family.name, artifact, metric)
        yield untrained
        if trains:  # from where the untrained would fill the budget, without another artifact to see it
            kl = untrained.loss.kl if effort.drift and untrained.loss else None
            aim = FILL * budget * (1 + SHRUNK * min(1.0, kl or 0.0))
            full = dial * 2 ** (8 * (artifact.n_bytes - aim) / max(1, measurer.checkpoint.n_params))
            family = trellis(effort, (TUNED_STEP if effort.tune >= FEW else TRAINED_STEP) * full)
            dial, artifact = turn_dial(measurer, budget, family, fill, bar)
            yield _scored(measurer, family.recipe_at(dial), family.name, artifact, metric)
        return
    except (CalibrationError, RecipeError) as error:
        bar.say(f"trellis: {error}")
    for family in _gptq_families(measurer, budget):
        try:
            dial, artifact = turn_dial(measurer, budget, family, bar=bar)
        except (CalibrationError, RecipeError) as error:
            bar.say(f"{family.name}: {error}")
            continue
        yield _scored(measurer, family.recipe_at(dial), family.name, artifact, metric)


def _require_fisher(measurer: Measurer, family: Family) -> None:
    """Raises CalibrationError where there is a calibration without any Fisher weight."""
    recipe = family.recipe_at(family.guess)
    calibration = measurer.calibrate(recipe) if measurer.needs_calibration(recipe) else None
    if calibration is not None and not any(key.endswith(".fisher") for key in calibration.shapes):
        raise CalibrationError("the calibration holds no Fisher weights")


def smallest_bytes(measurer: Measurer) -> int:
    """About the least that any recipe of the engine takes: its coarsest step, without calibration. Units: bytes."""
    tensors = measurer.checkpoint.stored_shapes
    return measurer.pack(engine_recipe(LEVELS[0], TRELLIS_RANGE[1], tensors)).n_bytes


def _gptq_families(measurer: Measurer, budget: int) -> list[Family]:
    tensors = measurer.checkpoint.stored_shapes
    guess = _step_for(8 * budget / max(1, measurer.checkpoint.n_params))
    has_embedding = any(role in ("embedding", "head") for role in roles_of(tensors).values())
    found = []
    for ratio in EMBEDDING_RATIOS if has_embedding else (1.0,):
        gptq = functools.partial(step_recipe, embedding_ratio=ratio, coding="rans", tensors=tensors)
        found.append(Family(f"GPTQ, embedding ratio {ratio:g}", gptq, *STEP_RANGE, guess))
    return found


def turn_dial(
    measurer: Measurer, budget: int, family: Family, fill: float = FILL, bar: Bar = UNSEEN
) -> tuple[float, Artifact]:
    """(dial, the largest artifact of a one-dial family that fits `budget`); stops at `fill` of the budget.

    Bytes are nearly linear in log2(dial), a bit per weight an octave.
    Raises BudgetExceeded, with the smallest n_bytes, when even the coarsest setting is too large.
    """

    def packed(dial: float) -> tuple[float, Artifact]:
        artifact = measurer.pack(family.recipe_at(dial))
        bar.update()
        return artifact.n_bytes, artifact

    slope = -max(1, measurer.checkpoint.n_params) / (OVERSHOOT * 8)
    dial = Dial(family.guess, family.finest, family.coarsest, slope)
    turned = turn(packed, dial, Limit(budget, min(fill * budget, budget - SLACK), budget * (1 + fill) / 2))
    if turned.made is None:
        smallest = int(turned.least)
        raise BudgetExceeded(f"the coarsest step takes {smallest:,} bytes, {smallest - budget:,} too many", smallest)
    return turned.dial, turned.made


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


def _scored(measurer: Measurer, recipe: Recipe, label: str, artifact: Artifact, metric: Metric | None) -> Fitted:
    """Scored as trials of a study are: see `pgpack.study.frontier.loss_of`. Raises: PgpackError for a metric that the
    evaluator does not give."""
    loss = None if metric == "error" else measurer.evaluate(artifact)
    if loss is not None:
        metric = metric or ("nats" if loss.kl is None else "kl")
        score = getattr(loss, metric)
        if score is None:
            raise PgpackError(f"no {metric} is measured here; give --metric bpb or nats")
    elif (calibration := measurer.calibrate(recipe)) is not None:
        score = expected_loss(measurer.checkpoint, artifact.records, calibration)
    else:
        score = relative_error(measurer.checkpoint, artifact.records)
    return Fitted(recipe, label, artifact, loss, score)


def _shown(fitted: Fitted) -> str:
    if fitted.loss is None:
        return f"estimated loss {fitted.score:.3g}"
    kl = "" if fitted.loss.kl is None else f", KL {fitted.loss.kl:.3g} nats per token"
    return f"{fitted.loss.bpb:.4f} bits per byte{kl}"
