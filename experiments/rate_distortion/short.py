"""The bench over a short dial: the curves of one model that `make reproduce-rate-distortion` has time for.

Owns which points those are. What a point is, and how it is measured, is the long bench's (`curves`, `laboratory`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pgpack.recipe.preset_candidates import SMALL_PASSTHROUGH, preset_recipe
from pgpack.recipe.recipe import parse_recipe

from . import curves
from .curves import Variant
from .gap import Gap, total_gap
from .laboratory import Laboratory
from .rows import Row

CALIBRATED = "@calib=tokens(count=8192)"
ENGINE_DIALS, ABLATION_DIALS = (0, 1, 3, 4, 5), (1, 3, 5)  # indices of curves.TARGETS
PRESET_DIALS = {
    "baseline-int8-zlib": (8.0, 7.0, 6.0, 5.0),
    "int6-zstd22": (8.0, 7.0, 6.0, 5.0),
    "sdclip-brotli": (0.6, 1.0, 1.5, 2.6),
}
ABLATIONS = (
    "scalar: 1 state",
    "column steps alike",
    "row steps alike",
    "row steps all the way",
    "Fisher weights alike",
    "no error feedback: diagonal Hessians",
    "coder: one table per tensor (rans)",
    "coder: brotli 11",
)


@dataclass(frozen=True)
class ShortBench:
    """Curves of one model by name, and the engine's gap to the Gaussian bound at its finest point."""

    peers: dict[str, list[Row]]
    engine: list[Row]
    changed: dict[str, list[Row]]
    gap: Gap


def measure_short(laboratory: Laboratory, full: bool) -> ShortBench:
    """The bench of one model; `full`: every ablation, every preset dial, and what training on text adds."""
    steps = curves.dials(laboratory)
    chosen = [each for each in curves.ABLATIONS if full or each.name in ABLATIONS]
    few = [steps[i] for i in ABLATION_DIALS]
    changed = {each.name: list(_rows(laboratory, each, few, full)) for each in (curves.ENGINES[0], *chosen)}
    if full:
        changed |= {e.name: list(_rows(laboratory, e, steps[2:5], full)) for e in curves.TRAINED.values()}
    engine = curves.ENGINES[1]
    return ShortBench(
        {name: list(_preset_rows(laboratory, name, full)) for name in PRESET_DIALS},
        list(_rows(laboratory, engine, [steps[i] for i in ENGINE_DIALS], full)),
        changed,
        total_gap(laboratory, steps[0], engine),
    )


def _rows(laboratory: Laboratory, variant: Variant, steps: Sequence[float], full: bool) -> Iterator[Row]:
    for step in steps:
        text = curves.text_of(variant, step)
        yield laboratory.recipe_row(variant.name, step, _calibrated(text, full), variant.calibration)


def _preset_rows(laboratory: Laboratory, name: str, full: bool) -> Iterator[Row]:
    """In small models only tensors of up to 4,096 values stay fp16."""
    if full:
        yield from curves.preset_rows(laboratory, name)
        return
    for dial in PRESET_DIALS[name]:
        recipe = preset_recipe(name, dial, SMALL_PASSTHROUGH, laboratory.tensors)
        yield laboratory.recipe_row(name, dial, _calibrated(str(recipe), full))


def _calibrated(text: str, full: bool) -> str:
    """The recipe, calibrated on as few tokens as the time allows unless it says how many."""
    return text if full or "@calib" in text else str(parse_recipe(f"{text}; {CALIBRATED}"))
