"""What a job will need: seconds by stage and bytes of memory, from rates that this machine was measured at.

    shapes, recipes --> values to quantize, to code, to run --Rates--> Cost

Owns the model of cost and the file that rates are kept in. What is not measured here is scaled from
results/bench-36m.md by the trellis. Refuses nothing: a file that is not as it was written counts as not measured.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgpack.files import replace_file
from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import Effort
from pgpack.progress import duration
from pgpack.recipe.applied import apply
from pgpack.recipe.policy import STAGES
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.selector import Shapes
from pgpack.sizes import spoken_size
from pgpack.sweep.executors.machine import COPIES

RATES_FILE = "rates.json"
TRELLIS = 1.61e6  # values a second by tcq(states=64), results/bench-36m.md; the unit of the tables below
QUANTIZERS = {"tcq": 1.0, "gptq": 2.1, "sdclip": 2.4, "rtn": 30.0, "cast": 60.0}  # others: as gptq
CODERS = {"rans": 13.0, "rans_scaled": 3.9, "rans_wide": 3.9, "brotli": 0.26, "zstd": 0.3, "lzma": 0.32, "zlib": 4.0}
CODERS |= {"xz": 0.32, "bz2": 5.0, "lrzip": 0.13, "zpaq": 0.13}  # others cost nothing
STATES = {4: 2.0, 8: 1.7, 64: 1.0}
DECODING = 9.0
BACKWARD = 4.0  # passes that calibrating a token takes: forward, backward, and its outer products
CALIBRATION_TOKENS, TEXT_TOKENS = 32_768, 65_536  # where nothing else is said
STEP_TOKENS = 4096  # of an optimizer step
ROUGH_TURNS, TURNS = 4, 4  # artifacts of a search for a budget, with few states and with all
ALONE_BYTES, WITH_MODEL_BYTES = 150_000_000, 450_000_000  # of a process before its checkpoint, without and with torch
PACKING_COPIES = 3  # of the fp32 checkpoint, where no model runs


@dataclass(frozen=True)
class Rates:
    """Units: `trellis` values a second through tcq(states=64) and rans_scaled; `model` parameters times tokens a
    second in one forward pass. `measured`: here, not elsewhere."""

    trellis: float = 1.28e6
    model: float = 2.0e10
    measured: bool = False


@dataclass(frozen=True)
class Cost:
    """Units: `seconds` by stage; `n_bytes` of memory at the peak."""

    seconds: Mapping[str, float]
    n_bytes: int
    rates: Rates = field(default_factory=Rates)

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def as_document(self) -> dict[str, float | bool]:
        return {"seconds": self.total_s, "n_bytes": self.n_bytes, "measured_here": self.rates.measured}

    def times(self, n: float) -> Cost:
        """So many times the work, one after the other."""
        return dataclasses.replace(self, seconds={name: n * seconds for name, seconds in self.seconds.items()})


def read_rates(folder: Path | None) -> Rates:
    """The rates kept in `folder`, else those of another machine."""
    try:
        kept = json.loads((folder / RATES_FILE).read_text(encoding="utf-8")) if folder else {}
        rates = Rates(float(kept["trellis"]), float(kept["model"]), measured=True)
    except (OSError, ValueError, TypeError, KeyError):
        return Rates()
    return rates if min(rates.trellis, rates.model) > 0 and math.isfinite(rates.trellis * rates.model) else Rates()


def keep_rates(folder: Path, rates: Rates) -> None:
    """Raises: OSError where the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"trellis": rates.trellis, "model": rates.model}
    replace_file(folder / RATES_FILE, f"{json.dumps(kept, indent=1)}\n".encode())


def n_values(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def recipe_seconds(recipe: Recipe, shapes: Shapes, rates: Rates) -> tuple[float, float]:
    """Seconds to quantize and to encode all tensors by a recipe."""
    unit = rates.trellis * TRELLIS / 1.28e6
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
    return quantize, encode


def decode_seconds(shapes: Shapes, rates: Rates) -> float:
    return n_values(shapes) / (DECODING * rates.trellis * TRELLIS / 1.28e6)


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
    seconds = {
        "calibrate": BACKWARD * values * calibrated / rates.model,
        "quantize": sum(quantize for quantize, _ in stages),
        "encode": sum(encode for _, encode in stages),
        "decode": len(stages) * decode_seconds(shapes, rates),
        "evaluate": n_losses * values * evaluated / rates.model,
    }
    return Cost(seconds, memory_bytes(values, runs_model=bool(calibrated or evaluated)), rates)


def memory_bytes(values: int, *, runs_model: bool) -> int:
    """The peak of a process that packs a model of so many values."""
    alone, copies = (WITH_MODEL_BYTES, COPIES) if runs_model else (ALONE_BYTES, PACKING_COPIES)
    return alone + copies * 4 * values


def search_recipes(effort: Effort, shapes: Shapes) -> list[Recipe]:
    """What a search for a budget packs, turn by turn."""
    rough = [] if effort.rough == effort.untrained else [effort.rough] * ROUGH_TURNS
    return [engine_recipe(each, 1e-3, shapes) for each in [*rough, *[effort.untrained] * TURNS]]


def grid_cost(
    recipes: Sequence[Recipe], shapes: Shapes, rates: Rates, *, on_text: bool, max_tokens: int | None
) -> Cost:
    """Measuring these recipes, where those that quantize alike are quantized and evaluated once."""
    seen: set[Hashable] = set()
    firsts = []
    for recipe in recipes:
        work = tuple((rule.selector, rule.policy.transforms, rule.policy.quantizer) for rule in recipe.rules)
        if work not in seen:
            seen.add(work)
            firsts.append(recipe)
    evaluated = (max_tokens or TEXT_TOKENS) if on_text else 0
    whole = pack_cost(
        recipes,
        shapes,
        rates,
        calibrated=CALIBRATION_TOKENS if on_text else 0,
        evaluated=evaluated,
        n_losses=1 + len(firsts),
    )
    quantize = sum(recipe_seconds(recipe, shapes, rates)[0] for recipe in firsts)
    return dataclasses.replace(whole, seconds={**whole.seconds, "quantize": quantize})


def budget_cost(effort: Effort, shapes: Shapes, rates: Rates, *, on_text: bool, max_tokens: int | None) -> Cost:
    """A search for a budget."""
    tokens = CALIBRATION_TOKENS if effort.tokens is None else effort.tokens
    evaluated = (max_tokens or TEXT_TOKENS) if on_text else 0
    cost = pack_cost(
        search_recipes(effort, shapes),
        shapes,
        rates,
        calibrated=tokens if on_text else 0,
        evaluated=evaluated,
        n_losses=2,
    )
    steps = (effort.compensate + effort.tune) * STEP_TOKENS * BACKWARD if on_text else 0
    return dataclasses.replace(cost, seconds={**cost.seconds, "train": n_values(shapes) * steps / rates.model})


def lines_of(cost: Cost) -> list[str]:
    """The cost in a sentence or two."""
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in cost.seconds.items() if seconds >= 0.5)
    by = "rates measured here" if cost.rates.measured else "rates of another machine; pgpack doctor measures this one"
    return [
        f"about {duration(cost.total_s)}{f': {parts}' if parts else ''}; {spoken_size(cost.n_bytes)} of memory ({by})"
    ]


def _kind(stage: object) -> str:
    return STAGES.name_of(stage)
