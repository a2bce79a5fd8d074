"""A dial -> a concrete recipe. Pure: the same numbers give the same recipe, whatever the weights are.

Two families. `trellis_recipe` has one dial for the whole model, the Lagrangian's square root: every step size follows
from Hessians and Fisher weights inside `tcq`. `step_recipe` is plain GPTQ, for calibrations without Fisher weights:

The dial of GPTQ with entropy coding is the step size in units of each row's standard deviation: at high rate a
Gaussian row costs 2.047 - log2(step) bits per weight (h(X) - log2(step)), so halving the step costs one bit.
Bits are not a dial here: 8-bit symbols leave clipping far out in the tail and the entropy coder charges only for
what occurs (clipping is pointless once symbols are entropy coded).
"""

from __future__ import annotations

import math

from .recipe import Recipe, parse_recipe
from .selector import Shapes

SMALL = "cast(dtype=fp16)|shuffle|brotli(quality=11)"
LEVELS = 127  # of 8-bit symbols on each side of zero
GAUSSIAN_BITS = 0.5 * math.log2(2 * math.pi * math.e)  # differential entropy of a unit Gaussian: 2.047


def step_recipe(step: float, embedding_ratio: float, coding: str, tensors: Shapes) -> Recipe:
    """GPTQ with `step` sigma per matrix and `step * embedding_ratio` for embeddings and heads, small tensors fp16.

    Units: `step` in standard deviations of a row; `coding` is recipe text such as `rans`.
    """
    clip, embedding_clip = (f"{value * LEVELS:.4g}" for value in (step, step * embedding_ratio))
    text = (
        f"ndim<=1={SMALL}; role:control={SMALL}; "
        f"role:embedding=gptq(bits=8,clip={embedding_clip})|{coding}; "
        f"role:head=gptq(bits=8,clip={embedding_clip})|{coding}; "
        f"*=gptq(bits=8,clip={clip})|{coding}"
    )
    return parse_recipe(text).without_idle_rules(tensors)


def trellis_recipe(step: float, states: int, tensors: Shapes, group: int = 0) -> Recipe:
    """Trellis-coded GPTQ with water-filled steps for every matrix, small tensors fp16.

    Units: `step` as in `pgpack.quantizers.tcq.Tcq`: square root of nats per token, for all tensors alike; `group`
    rows.
    """
    rows = f",group={group}" if group else ""
    coded = f"tcq(step={step:.7g},states={states}{rows})|rans_scaled(states={states})"
    text = f"ndim<=1={SMALL}; role:control={SMALL}; *={coded}"
    return parse_recipe(text).without_idle_rules(tensors)


def gaussian_bits(step: float) -> float:
    """Estimated bits per weight of a Gaussian quantized uniformly with `step` sigma and coded at its entropy.

    The high-rate formula above half a bit; below it falls off towards zero.
    """
    high_rate = GAUSSIAN_BITS - math.log2(step)
    return high_rate if high_rate > 0.5 else 0.5 * 2 ** (2 * (high_rate - 0.5))
