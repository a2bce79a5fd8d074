"""PRISM's permutations: which channel of q and k goes where, at every depth.

Owns the tables. Source: openai/parameter-golf #2090, train_gpt_prism_token_limit.py and, for anchors and
encoder-only, train_gpt_exp_wt.py. Where we differ: anchors also hold when heads are not shuffled, and as many
anchors as heads means nothing moves (there: everything moves).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgtrain.layer_plan import layer_plan
from pgtrain.model_config import GPTConfig

SEED_STRIDE = 1009  # depth r draws from seed + 1009 r


def channel_permutation(head_dim: int, rotary_dims: int, generator: torch.Generator) -> Tensor:
    """A permutation of a head's channels that rotary positions survive.

    Channels j and j + rotary_dims / 2 are one rotating pair: pairs move as pairs, the other channels freely among
    themselves. Shape: (head_dim,) int64.
    """
    half = rotary_dims // 2
    pairs = torch.randperm(half, generator=generator, device="cpu")
    rest = torch.randperm(head_dim - 2 * half, generator=generator, device="cpu")  # nothing is drawn for none
    return torch.cat((pairs, pairs + half, rest + 2 * half))


def permutation_tables(config: GPTConfig) -> tuple[Tensor, Tensor]:
    """(q, k) tables: row r is the source channel of every channel at depth r.

    q and k share the channel permutation inside heads; the orders of their heads are drawn independently, and
    values never move. Shape: (virtual layers, model_dim), (virtual layers, kv_dim) int64, on the CPU.
    """
    identity = torch.arange(config.head_dim, device="cpu")
    kv_anchors = config.anchor_heads * config.num_kv_heads // config.num_heads
    q_rows, k_rows = [], []
    for step in layer_plan(config):
        generator = torch.Generator("cpu").manual_seed(config.repartition_seed + SEED_STRIDE * step.row)
        channels = identity
        if config.repartition_channels:
            channels = channel_permutation(config.head_dim, config.rotary_dims, generator)
        rows = []
        for heads, anchors in ((config.num_heads, config.anchor_heads), (config.num_kv_heads, kv_anchors)):
            order = torch.arange(heads, device="cpu")
            if config.repartition_heads:
                moving = torch.randperm(heads - anchors, generator=generator, device="cpu") + anchors
                order = torch.cat((order[:anchors], moving))
            inside = [identity if h < anchors else channels for h in range(heads)]
            rows.append(torch.cat([h * config.head_dim + part for h, part in zip(order, inside, strict=True)]))
        if config.repartition_encoder_only and not step.encoder:
            rows = [torch.arange(len(row), device="cpu") for row in rows]
        q_rows.append(rows[0])
        k_rows.append(rows[1])
    return torch.stack(q_rows), torch.stack(k_rows)
