"""The order in which #1546 and #1855 run their layers, written out slowly: two lists, one stack, and what lies on it.

What one layer computes is the model's own (`Block`): here only streams, lanes and skips are written anew, after
`_forward_logits_from_embeddings` of #1546 and `_forward_hidden` of #1855.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgtrain.model.blocks import Pass, rotary_tables
from pgtrain.model.gpt import GPT
from pgtrain.model.layer_plan import layer_plan

Lanes = tuple[Tensor, Tensor]


def oracle_logits(model: GPT, ids: Tensor, *, both_skip: bool, decoder_only: bool) -> Tensor:
    """Logits as the scripts compute them. `both_skip`: PARALLEL_SKIP_LANE0_ONLY=0; `decoder_only`: #1855."""
    config = model.config
    loop = list(range(config.loop_start, config.loop_end + 1)) * (config.num_loops + 1)
    order = [*range(config.loop_start), *loop, *range(config.loop_end + 1, config.num_layers)]
    half = len(order) // 2
    x = model.embed(ids)
    shared = Pass(x, *rotary_tables(config, ids.shape[1], ids.device))
    steps = {step.row: step for step in layer_plan(config)}  # only for the factor of the norm
    lanes: Lanes | None = None
    stack: list[Tensor | Lanes] = []

    def mixed(x: Tensor, skip: Tensor, row: int) -> Tensor:
        weighted = model.skip_weights[row] * skip
        return torch.lerp(weighted, x, torch.sigmoid(model.skip_gates[row]))

    def in_lanes(lanes: Lanes, layer: int, row: int) -> Lanes:
        block, values = model.layers[layer], model.layers[layer].own_values(0)
        attn = block.attend(block.mix(lanes[0], values, shared), steps[row], values, shared)
        mlp = block.expand(lanes[1], steps[row], values)
        keep, post = model.parallel_resid_lambdas[layer], model.parallel_post_lambdas[layer]
        return tuple(keep[i] * lanes[i] + post[0, i] * attn + post[1, i] * mlp for i in (0, 1))

    for row, layer in enumerate(order):
        block, values = model.layers[layer], model.layers[layer].own_values(0)
        if row < half:
            if layer >= config.lane_start and not decoder_only:
                lanes = in_lanes(lanes or (x, x), layer, row)
                stack.append(lanes)
            else:
                x = block(x, steps[row], values, shared)
                stack.append(x)
            continue
        taken = row - half
        takes = bool(stack) and taken < half
        if layer >= config.lane_start:
            if lanes is None and decoder_only:
                lanes = (x, x)
                if takes:
                    lanes = (mixed(x, stack.pop(), taken), x)
            elif lanes is None:
                if not both_skip and takes:
                    x = mixed(x, stack.pop(), taken)
                lanes = (x, x)
            elif takes:
                skip = stack.pop()
                first, second = skip if isinstance(skip, tuple) else (skip, skip)
                lanes = (mixed(lanes[0], first, taken), mixed(lanes[1], second, taken) if both_skip else lanes[1])
            lanes = in_lanes(lanes, layer, row)
        else:
            if takes:
                skip = stack.pop()
                x = mixed(x, skip[1] if isinstance(skip, tuple) else skip, taken)
            x = block(x, steps[row], values, shared)
    return model.logits(model.final_norm(x if lanes is None else 0.5 * (lanes[0] + lanes[1])))
