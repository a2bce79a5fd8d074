"""Which block runs at which depth: loops, sharing, U-Net skips and lanes as one flat list.

    physical blocks --sharing--> layers --loops--> virtual layers = steps of one pass

Owns `LayerStep` and `layer_plan`. Refuses torch and weights: a plan is a value.
Source: order and pairing of openai/parameter-golf #1394 (loops), #2090 and #433 (sharing).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import or_
from typing import TYPE_CHECKING

from pgpack.errors import DataError

if TYPE_CHECKING:
    from .model_config import GPTConfig


@dataclass(frozen=True)
class LayerStep:
    """One virtual layer.

    block: index of the physical block. layer: index of the layer before looping. use: how often this block ran before
    in the pass. row: depth in the pass, the row of per-virtual-layer tables. norm_scale: factor on both normalised
    inputs. saves: the output is kept for a decoder layer. skip: row of skip_weights to mix in first, -1 none.
    in_lanes: runs on two lanes, which never merge before the end; other steps run on the stream. encoder: lies in
    the first half of the layers.
    """

    block: int
    layer: int
    use: int
    row: int
    norm_scale: float = 1.0
    saves: bool = False
    skip: int = -1
    in_lanes: bool = False
    encoder: bool = False


def block_of(config: GPTConfig, layer: int) -> int:
    """The physical block of a layer (before looping)."""
    if config.sharing == "encoder_decoder":
        return int(layer >= config.num_layers // 2)
    if config.sharing == "consecutive":
        return layer // (config.num_layers // config.shared_blocks)
    return 0 if config.sharing == "single" else layer


def layer_plan(config: GPTConfig, loops: int | None = None) -> tuple[LayerStep, ...]:
    """The steps of one pass with `loops` repetitions of the looped segment (default: the config's).

    The first half of the pass saves its outputs, the second half takes them back, deepest first. Loops beyond the
    config's come right after the trained ones; they neither save nor take skips and use the tables of the last
    trained loop (#212 ran its 6 loops after 3 trained ones without skips too).
    Raises: DataError for a number of loops that the model cannot run.
    """
    loops = config.num_loops if loops is None else loops
    if loops < 0 or (loops and not config.num_loops):
        raise DataError(
            f"{loops} loops asked of a model that has {config.num_loops}; only a looped model can loop more"
        )
    trained = min(loops, config.num_loops)
    segment = list(range(config.loop_start, config.loop_end + 1)) if config.num_loops else []
    layers = [*range(config.loop_start), *segment * (trained + 1)] if segment else []
    extra_at = len(layers)
    layers += list(range(config.loop_end + 1, config.num_layers)) if segment else list(range(config.num_layers))

    encoder_length = len(layers) // 2
    skips = encoder_length if config.skips != "none" else 0
    uses = Counter[int]()

    def step(layer: int, row: int, saves: bool = False, skip: int = -1) -> LayerStep:
        block = block_of(config, layer)
        use = uses[block]
        uses[block] += 1
        depth = {"none": 0, "block": block, "virtual": row}[config.norm_scale]
        in_lanes, encoder = 0 <= config.lane_start <= layer, layer < config.num_layers // 2
        in_lanes = in_lanes and (config.lane_scope != "decoder" or row >= encoder_length)
        return LayerStep(block, layer, use, row, (depth + 1) ** -0.5, saves, skip, in_lanes, encoder)

    steps = []
    for row, layer in enumerate(layers):
        taken = row - encoder_length
        steps.append(step(layer, row, saves=row < skips, skip=taken if 0 <= taken < skips else -1))
    extra = [
        step(layer, extra_at - len(segment) + i) for _ in range(loops - trained) for i, layer in enumerate(segment)
    ]
    order = [*steps[:extra_at], *extra, *steps[extra_at:]]
    if config.lane_scope == "rest":
        held = accumulate((step.in_lanes for step in order), or_)
        order = [replace(step, in_lanes=lanes) for step, lanes in zip(order, held, strict=True)]
    split = next((i for i, step in enumerate(order) if step.in_lanes), None)
    if split is not None and config.lane_split == "no_skip":
        order[split] = replace(order[split], skip=-1)
    return tuple(order)


def uses_of(config: GPTConfig) -> list[int]:
    """How often each block runs in one pass with all its loops."""
    counts = Counter(step.block for step in layer_plan(config))
    return [counts[block] for block in range(config.num_blocks)]
