"""What a model does inside, read from its weights and from one pass over a little text.

    checkpoint, tokens -> Reading: stream after every virtual layer, entropy of its attention, its gate -> numbers

Owns the definitions, which #2090 does not give: they are in the docstrings here.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgtrain.model.blocks import Attention, LayerValues, Pass, rotary_tables, rotate
from pgtrain.model.gpt import GPT
from pgtrain.model.model_config import GPTConfig

LENGTH, SHIFT = 32, 5  # of the scores that a permutation of channels should leave a matter of distances


@dataclass
class Reading:
    """One entry per virtual layer. Shape: streams (B, T, D), gates (B, T, 1). Units: entropies nats."""

    streams: list[Tensor] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    gates: list[Tensor] = field(default_factory=list)


@torch.inference_mode()
def read(model: GPT, ids: Tensor) -> Reading:
    """A pass over `ids`, watched. Shape: (B, T) int64."""
    found = Reading()

    def saw_block(_: nn.Module, __: Any, out: Tensor) -> None:
        found.streams.append(out)

    def sees_attention(module: nn.Module, given: tuple[Any, ...]) -> None:
        x, values, shared = given
        found.entropies.append(attention_entropy(cast("Attention", module), x, values, shared))

    def saw_gate(_: nn.Module, __: Any, out: Tensor) -> None:
        found.gates.append(torch.sigmoid(out))

    handles = [block.register_forward_hook(saw_block) for block in model.layers]
    handles += [block.attn.register_forward_pre_hook(sees_attention) for block in model.layers]
    model.forward_logits(ids)
    for handle in handles:
        handle.remove()
    handles = [b.attn.perm_gate.register_forward_hook(saw_gate) for b in model.layers if b.attn.perm_gate is not None]
    if handles:  # apart, because the entropies above ran the gates too
        model.forward_logits(ids)
    for handle in handles:
        handle.remove()
    return found


def attention_entropy(attn: Attention, x: Tensor, values: LayerValues, shared: Pass) -> float:
    """Mean over heads and positions of the entropy of what a position looks at, in nats."""
    q, k, _ = attn.heads(x, values, shared)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -math.inf).softmax(-1)
    return float(-torch.xlogy(weights, weights).sum(-1).mean())


def q_condition(model: GPT) -> float:
    """Largest over smallest singular value of the query projection, mean over blocks."""
    values = [torch.linalg.svdvals(block.attn.c_q.weight) for block in model.layers]
    return sum(float(value[0] / value[-1]) for value in values) / len(values)


def head_cosine(model: GPT) -> float:
    """|cosine| of two query heads' projections, flattened: mean over pairs and blocks."""
    cosines = []
    for block in model.layers:
        heads = F.normalize(block.attn.c_q.weight.reshape(model.config.num_heads, -1), dim=-1)
        cosines += [float((heads[i] @ heads[j]).abs()) for i, j in itertools.combinations(range(len(heads)), 2)]
    return sum(cosines) / len(cosines)


def stream_cosine(first: Tensor, second: Tensor) -> float:
    """Mean over positions of the cosine of two streams. Shape: (B, T, D) each."""
    return float(F.cosine_similarity(first, second, dim=-1).mean())


def adapter_spread(model: GPT) -> dict[str, float]:
    """Standard deviation of each table of adapters over depths and channels; nothing for a model without."""
    if model.config.adapters == "none":
        return {}
    tables = {
        "attn": model.virtual_attn_scales,
        "mlp": model.virtual_mlp_scales,
        "resid": model.virtual_resid_mix_delta,
        "qgain": model.virtual_q_gain_mult,
    }
    return {f"adapter_{name}": float(table.detach().std()) for name, table in tables.items()}


def numbers(model: GPT, ids: Tensor) -> dict[str, float]:
    """Every probe of one model by name."""
    reading = read(model, ids)
    streams = reading.streams
    found = {
        "q_condition": q_condition(model),
        "head_cosine": head_cosine(model),
        "first_last_cosine": stream_cosine(streams[0], streams[-1]),
        "adjacent_cosine": sum(stream_cosine(a, b) for a, b in itertools.pairwise(streams)) / (len(streams) - 1),
        "last_entropy": reading.entropies[-1],
        "skips": float(model.config.num_skips),
    }
    if reading.gates:
        means = [float(gate.mean()) for gate in reading.gates]
        found["gate"] = sum(means) / len(means)
        found["gate_token_std"] = sum(float(gate.std()) for gate in reading.gates) / len(means)
        found["gate_off_half"] = max(abs(mean - 0.5) for mean in means)
    return found | adapter_spread(model)


def shift_error(config: GPTConfig, sources: Tensor, seed: int) -> float:
    """How far scores of permuted q and k depend on more than how far apart they are, over their size.

    The same random q and k stand at every position; the scores of (t + SHIFT, s + SHIFT) should be those of (t, s).
    Shape: sources (head_dim,) int64.
    """
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 1, 1, config.head_dim, generator=generator) for _ in range(2))
    cos, sin = rotary_tables(config, LENGTH, torch.device("cpu"))
    q, k = (rotate(x[..., sources].expand(1, 1, LENGTH, -1), cos, sin)[0, 0] for x in (q, k))
    scores = q @ k.T
    return float((scores[SHIFT:, SHIFT:] - scores[:-SHIFT, :-SHIFT]).abs().max() / scores.abs().max())
