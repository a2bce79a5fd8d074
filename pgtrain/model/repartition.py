"""PRISM's permutations: which channel of q and k goes where, at every depth.

Owns the tables. Source: openai/parameter-golf #2090, train_gpt_prism_token_limit.py and, for anchors and
encoder-only, train_gpt_exp_wt.py. Where we differ: anchors also hold when heads are not shuffled, and as many
anchors as heads means nothing moves (there: everything moves).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .layer_plan import layer_plan
from .model_config import GPTConfig

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


def permutation_tables(config: GPTConfig) -> tuple[Tensor, Tensor, Tensor]:
    """(q, k, v) tables: row r is the source channel of every channel at depth r.

    q and k share the channel permutation inside heads; the channels of a value head stay. Shape: (virtual layers,
    model_dim), and (virtual layers, kv_dim) twice, int64, on the CPU.
    """
    rows = []
    for step in layer_plan(config):
        generator = torch.Generator("cpu").manual_seed(config.repartition_seed + SEED_STRIDE * step.row)
        channels = torch.arange(config.head_dim, device="cpu")
        if config.repartition_channels:
            channels = channel_permutation(config.head_dim, config.rotary_dims, generator)
        q_order, k_order, v_order = _head_orders(config, generator)
        kv_anchors = _kv_anchors(config)
        q_anchors = config.anchor_heads if config.repartition_order == "independent" else _grouped(config, kv_anchors)
        parts = [_row(q_order, q_anchors, channels), _row(k_order, kv_anchors, channels)]
        parts.append(_row(v_order, config.num_kv_heads, channels))
        if config.repartition_encoder_only and not step.encoder:
            parts = [torch.arange(len(part), device="cpu") for part in parts]
        rows.append(parts)
    q, k, v = (torch.stack(part) for part in zip(*rows, strict=True))
    return q, k, v


def _head_orders(config: GPTConfig, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Source head of every head of q, k and v; the generator has drawn the channels before."""
    kv_heads, kv_anchors = config.num_kv_heads, _kv_anchors(config)
    still = torch.arange(kv_heads, device="cpu")
    if not config.repartition_heads:
        return torch.arange(config.num_heads, device="cpu"), still, still
    if config.repartition_order == "independent":
        q_order = _shuffled(config.num_heads, config.anchor_heads, generator)
        return q_order, _shuffled(kv_heads, kv_anchors, generator), still
    order = _shuffled(kv_heads, kv_anchors, generator)
    group = torch.arange(_grouped(config, 1), device="cpu")
    q_order = (order[:, None] * len(group) + group).flatten()
    return q_order, order, order if config.repartition_order == "with_values" else still


def _shuffled(heads: int, anchors: int, generator: torch.Generator) -> Tensor:
    """0, 1, ... heads - 1, all but the first `anchors` shuffled."""
    moving = torch.randperm(heads - anchors, generator=generator, device="cpu") + anchors
    return torch.cat((torch.arange(anchors, device="cpu"), moving))


def _row(order: Tensor, anchors: int, channels: Tensor) -> Tensor:
    """Source channels of heads in this order, the channels inside all but the first `anchors` heads permuted."""
    identity = torch.arange(len(channels), device="cpu")
    inside = [identity if head < anchors else channels for head in range(len(order))]
    return torch.cat([source * len(channels) + part for source, part in zip(order, inside, strict=True)])


def _kv_anchors(config: GPTConfig) -> int:
    return config.anchor_heads * config.num_kv_heads // config.num_heads


def _grouped(config: GPTConfig, kv_heads: int) -> int:
    """How many query heads so many key heads serve."""
    return kv_heads * (config.num_heads // config.num_kv_heads)
