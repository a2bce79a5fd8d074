"""A loss to match -> the engine's smallest artifact that does not lose more.

The dial of the trellis engine is a step size, and the KL to the fp32 model grows about with its square: the secant in
logarithms meets the target within a few packs. The KL decides and not bits per byte, whose noise is as large as what
a good packer loses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pgpack.errors import PgpackError
from pgpack.loss.evaluator import BitsPerByte
from pgpack.measure import Measurer
from pgpack.pack import Artifact
from pgpack.recipe.dials import trellis_recipe
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.selector import infos

STATES = 64
CLOSE = 0.95  # of the target KL
MAX_TURNS = 10
FINEST, COARSEST = math.log2(1e-7), math.log2(1.0)


@dataclass(frozen=True)
class Matched:
    """The smallest artifact that was found whose KL is not above the target, and its loss."""

    recipe: Recipe
    artifact: Artifact
    loss: BitsPerByte


def match_kl(measurer: Measurer, kl: float, note: Callable[[str], None] = lambda line: None) -> Matched:
    """The engine's artifact of the checkpoint at a KL of at most `kl`. Units: nats per token.

    Raises: PgpackError when `kl` is not positive, there is nothing to measure it with, or no step was fine enough.
    """
    if not kl > 0 or math.isinf(kl):
        raise PgpackError(
            f"a loss to match must be a positive KL, found {kl}; these weights are the checkpoint's own"
        )
    tensors = infos(measurer.checkpoint.stored_shapes)
    at = math.log2(math.sqrt(8 * kl / max(1, measurer.checkpoint.n_params)))  # were the second-order estimate exact
    probes: dict[float, float] = {}
    best: Matched | None = None
    for _ in range(MAX_TURNS):
        recipe = trellis_recipe(2**at, STATES, tensors)
        artifact = measurer.pack(recipe)
        loss = measurer.evaluate(artifact)
        if loss is None or loss.kl is None:
            raise PgpackError("matching a loss needs text and the fp32 checkpoint; give --val and --checkpoint")
        note(f"{artifact.n_bytes:,} B, KL {loss.kl:.3g} nats per token")
        probes[at] = loss.kl
        if loss.kl <= kl and (best is None or artifact.n_bytes < best.artifact.n_bytes):
            best = Matched(recipe, artifact, loss)
        if CLOSE * kl <= loss.kl <= kl:
            break
        at = _next(probes, kl)
    if best is None:
        raise PgpackError(f"no step was found whose KL is at most {kl:.3g}; the least was {min(probes.values()):.3g}")
    return best


def _next(probes: dict[float, float], kl: float) -> float:
    """The dial for just below `kl`, in log2: the secant through the bracket, or through the two nearest probes, or
    slope 2 from the only one."""
    target = math.log2(kl * (1 + CLOSE) / 2)
    heights = {at: math.log2(max(found, 1e-30)) for at, found in probes.items()}
    below = [at for at in probes if heights[at] <= target]
    above = [at for at in probes if heights[at] > target]
    ends = sorted(probes, key=lambda at: abs(heights[at] - target))[:2]
    if below and above:
        ends = [max(below), min(above)]
    slope = 2.0
    if len(ends) == 2 and ends[0] != ends[1]:
        slope = min(max((heights[ends[1]] - heights[ends[0]]) / (ends[1] - ends[0]), 0.5), 8.0)
    return min(max(ends[0] + (target - heights[ends[0]]) / slope, FINEST), COARSEST)
