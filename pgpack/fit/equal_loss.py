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

from .budget import TRELLIS_RANGE
from .dial import Dial, Limit, turn

STATES = 64
CLOSE = 0.95  # of the target KL
SLOPE = 2.0  # octaves of KL for one of the step
LEAST_KL = 1e-30  # nats per token; an unquantized model's KL is 0 and has no logarithm


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
    tensors = measurer.checkpoint.stored_shapes

    def matched(step: float) -> tuple[float, Matched]:
        recipe = trellis_recipe(step, STATES, tensors)
        artifact = measurer.pack(recipe)
        loss = measurer.evaluate(artifact)
        if loss is None or loss.kl is None:
            raise PgpackError(
                "matching a loss needs text and the fp32 checkpoint; give --text or --val, and --checkpoint"
            )
        note(f"{artifact.n_bytes:,} B, KL {loss.kl:.3g} nats per token")
        return math.log2(max(loss.kl, LEAST_KL)), Matched(recipe, artifact, loss)

    guess = math.sqrt(8 * kl / max(1, measurer.checkpoint.n_params))  # were the second-order estimate exact
    limit = Limit(*(math.log2(share * kl) for share in (1, CLOSE, (1 + CLOSE) / 2)))
    turned = turn(matched, Dial(guess, *TRELLIS_RANGE, SLOPE), limit)
    if turned.made is None:
        raise PgpackError(f"no step was found whose KL is at most {kl:.3g}; the least was {2**turned.least:.3g}")
    return turned.made
