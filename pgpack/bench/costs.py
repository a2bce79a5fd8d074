"""What a job will need: seconds by stage and bytes of memory, from rates that this machine was measured at.

    shapes, recipes --> values to quantize, to code, to run --Rates--> Cost

Owns what recipes cost. What is not measured here is scaled from results/bench-36m.md by the trellis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Sequence

from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import TOKENS, Effort
from pgpack.recipe.applied import apply
from pgpack.recipe.dials import trellis_recipe
from pgpack.recipe.policy import STAGES
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.selector import Shapes

from .rates import BACKWARD, START, Cost, Rates, memory_bytes

TRELLIS = 1.61e6  # values a second by tcq(states=64), results/bench-36m.md; the unit of the tables below
QUANTIZERS = {"tcq": 1.0, "gptq": 2.4, "sdclip": 2.4, "rtn": 30.0, "cast": 60.0}  # others: as gptq
CODERS = {"rans": 13.0, "rans_scaled": 3.9, "rans_wide": 3.9, "brotli": 0.26, "zstd": 0.3, "lzma": 0.32, "zlib": 4.0}
CODERS |= {"xz": 0.32, "bz2": 5.0, "lrzip": 0.13, "zpaq": 0.13}  # others cost nothing
STATES = {4: 2.0, 8: 1.7, 64: 1.0}
DECODING = 9.0
RIVALS = ("brotli", "lzma", "rans")  # chains of a transcoding that are near enough to be tried on all symbols
STEP_TOKENS = 4096  # of an optimizer step
DRIFTING = 2.4  # times calibrating the same tokens: SmolLM2, 12 minutes of a core for 5
TRAINED_COPIES = 12  # of the weights, beside those of packing: SmolLM2 at effort 9 took 10.3 GB
ROUGH_TURNS, TURNS = 4, 4  # artifacts of a search for a budget, with few states and with all


def n_values(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def recipe_seconds(recipe: Recipe, shapes: Shapes, rates: Rates) -> tuple[float, float]:
    """Seconds to quantize and to encode all tensors by a recipe."""
    unit = _unit(rates)
    quantize = encode = 0.0
    for tensor in apply(recipe, shapes).tensors.values():
        policy, coding = tensor.policy, tensor.policy.coding
        rate = QUANTIZERS.get(_kind(policy.quantizer), QUANTIZERS["gptq"])
        if _kind(policy.quantizer) == "tcq":
            rate = STATES.get(getattr(policy.quantizer, "states", 64), 1.0)
        quantize += tensor.numel / (rate * unit)
        for stage in (coding.coder, *coding.byte_codecs):
            if (coded := CODERS.get(_kind(stage))) is not None:
                encode += tensor.numel / (coded * unit)
    if recipe.container.is_field:  # its codecs, or of pergroup lrzip, take all that its recipe codes
        codecs = [_kind(codec) for codec in recipe.container_codecs] or ["lrzip"]
        encode += sum(n_values(shapes) / (CODERS[codec] * unit) for codec in codecs if codec in CODERS)
    return quantize, encode


def decode_seconds(shapes: Shapes, rates: Rates) -> float:
    return _decode_seconds(n_values(shapes), rates)


def pack_cost(
    recipes: Iterable[Recipe],
    shapes: Shapes,
    rates: Rates,
    *,
    calibrated: int = 0,
    evaluated: int = 0,
    n_losses: int = 1,
) -> Cost:
    """Packing these recipes one after the other. Units: `calibrated`, `evaluated` tokens; `n_losses` evaluations."""
    values = n_values(shapes)
    stages = [recipe_seconds(recipe, shapes, rates) for recipe in recipes]
    runs_model = bool(calibrated or evaluated)
    seconds = {
        "start": START / rates.model if runs_model else 0.0,
        "calibrate": BACKWARD * values * calibrated / rates.model,
        "quantize": sum(quantize for quantize, _ in stages),
        "encode": sum(encode for _, encode in stages),
        "decode": len(stages) * decode_seconds(shapes, rates),
        "evaluate": n_losses * values * evaluated / rates.model,
    }
    return Cost(seconds, memory_bytes(values, runs_model=runs_model, calibrates=calibrated > 0), rates)


def search_recipes(effort: Effort, shapes: Shapes) -> list[Recipe]:
    """What a search for a budget packs, turn by turn."""
    rough = [] if effort.rough == effort.untrained else [effort.rough] * ROUGH_TURNS
    return [engine_recipe(each, 1e-3, shapes) for each in [*rough, *[effort.untrained] * TURNS]]


def grid_cost(recipes: Sequence[Recipe], shapes: Shapes, rates: Rates, evaluated: int) -> Cost:
    """Measuring these recipes, where those that quantize alike are quantized and evaluated once. Units: `evaluated`
    tokens of text, 0 without text."""
    seen: set[Hashable] = set()
    firsts = []
    for recipe in recipes:
        work = tuple((rule.selector, rule.policy.transforms, rule.policy.quantizer) for rule in recipe.rules)
        if work not in seen:
            seen.add(work)
            firsts.append(recipe)
    whole = pack_cost(
        recipes,
        shapes,
        rates,
        calibrated=TOKENS if evaluated else 0,
        evaluated=evaluated,
        n_losses=1 + len(firsts),
    )
    quantize = sum(recipe_seconds(recipe, shapes, rates)[0] for recipe in firsts)
    return dataclasses.replace(whole, seconds={**whole.seconds, "quantize": quantize})


def budget_cost(effort: Effort, shapes: Shapes, rates: Rates, evaluated: int) -> Cost:
    """A search for a budget; `evaluated` as in `grid_cost`."""
    effort = effort.bounded(n_values(shapes))
    tokens = TOKENS if effort.tokens is None else effort.tokens
    trained = effort if evaluated else effort.untrained
    last = [] if trained == effort.untrained else [engine_recipe(effort.untrained, 1e-3, shapes)]
    cost = pack_cost(
        [*search_recipes(effort, shapes), *last],
        shapes,
        rates,
        calibrated=tokens if evaluated else 0,
        evaluated=evaluated,
        n_losses=2,
    )
    passed = (trained.compensate + trained.tune) * STEP_TOKENS + DRIFTING * tokens * trained.drift
    train = n_values(shapes) * BACKWARD * passed / rates.model
    n_bytes = cost.n_bytes + (TRAINED_COPIES * 4 * n_values(shapes) if train else 0)
    return dataclasses.replace(cost, seconds={**cost.seconds, "train": train}, n_bytes=n_bytes)


def recoding_cost(values: int, rates: Rates) -> Cost:
    """Symbols coded anew by every chain that may be the smallest, both files decoded and compared."""
    chains = sum(1 / CODERS[name] for name in RIVALS)
    seconds = {"encode": values * chains / _unit(rates), "decode": 3 * _decode_seconds(values, rates)}
    return Cost(seconds, memory_bytes(values, runs_model=False), rates)


def matching_cost(shapes: Shapes, rates: Rates, evaluated: int) -> Cost:
    """A search for the engine's artifact of a loss."""
    recipes = [trellis_recipe(1e-3, 64, shapes)] * TURNS
    return pack_cost(recipes, shapes, rates, calibrated=TOKENS, evaluated=evaluated, n_losses=1 + 2 * TURNS)


def decoding_cost(values: int, rates: Rates) -> Cost:
    """An artifact decoded in a clean process and again here, digests and all."""
    return Cost({"decode": 2 * _decode_seconds(values, rates)}, memory_bytes(values, runs_model=False), rates)


def _unit(rates: Rates) -> float:
    """Values a second by tcq(states=64) alone."""
    return rates.trellis * TRELLIS / Rates.trellis


def _decode_seconds(values: int, rates: Rates) -> float:
    return values / (DECODING * _unit(rates))


def _kind(stage: object) -> str:
    return STAGES.name_of(stage)
