"""One layer: normalised attention with rotary positions, squared-activation MLP, and the block around them.

Owns the arithmetic of one layer. Names of submodules are the names of the tensors on disk. The sources of the
options are in `pgtrain.model.model_config`. Where we differ from all of them: rotary tables are computed once per
forward pass and handed to every layer, and weights stay fp32 (autocast, not stored bf16, gives the GPU its speed).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layer_plan import LayerStep
from .model_config import GPTConfig
from .tensor_table import mixes_first_value


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis, eps = machine epsilon of x's dtype; no learned gain."""
    return F.rms_norm(x, (x.shape[-1],))


def rotary_tables(config: GPTConfig, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of position * frequency. Shape: (T, rotary_dims / 2) float32 each.

    Frequencies base^(-2i / d). ntk: beyond the reference length the base grows by (T / reference)^(d / (d - 2)).
    yarn: frequency i is divided by 1 + ramp(i) (rope_max_len / reference - 1), ramp rising from 0 to 1 over the last
    three quarters of the channels.
    """
    dims, base, reference = config.rotary_dims, config.rope_base, config.rope_reference_len
    if config.rope_scaling == "ntk" and length > reference:
        base *= (length / reference) ** (dims / (dims - 2))
    exponents = torch.arange(0, dims, 2, dtype=torch.float32, device=device) / dims
    frequencies = 1.0 / base**exponents
    if config.rope_scaling == "yarn":
        ramp = ((exponents - 0.25) / 0.75).clamp(0.0, 1.0)
        frequencies = frequencies / (1.0 + ramp * (config.rope_max_len / reference - 1.0))
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of the first d channels; channel i < d / 2 is paired with channel i + d / 2.

    Shape: x (B, H, T, head_dim), cos and sin (T, d / 2).
    """
    half = cos.shape[-1]
    first, second, still = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos + second * sin, second * cos - first * sin, still), dim=-1)


def without_own_value(mixed: Tensor, v: Tensor) -> Tensor:
    """Exclusive self attention: what attention found, less its part along the position's own value.

    Shape: mixed (B, H, T, d), v (B, KV, T, d); a query head meets the value of its group.
    """
    batch, heads, length, dim = mixed.shape
    grouped = mixed.view(batch, v.shape[1], heads // v.shape[1], length, dim)
    unit = F.normalize(v, dim=-1)[:, :, None]
    return (grouped - (grouped * unit).sum(-1, keepdim=True) * unit).view(mixed.shape)


def same_document(ids: Tensor, boundary_token: int) -> Tensor:
    """Whether t may see s: it is not later, and no document starts in between. Shape: (B, 1, T, T) bool."""
    document = (ids == boundary_token).cumsum(1)
    return (document[:, None, :, None] == document[:, None, None, :]).tril()


@dataclass
class Pass:
    """What the layers of one forward pass share.

    x0, rotary tables, who may see whom where that is not the whole past, the first layer's values, penalties.
    Shape: visible (B, 1, T, T) bool.
    """

    x0: Tensor
    cos: Tensor
    sin: Tensor
    visible: Tensor | None = None
    first_value: Tensor | None = None
    penalties: list[Tensor] = field(default_factory=list)


class RunAdapter(nn.Module):
    """What one run of a looped layer adds to its q, k, v and output projection: (x A) B of each, 0 at the start.

    Shape: A (in, r), B (r, out). Source: AttentionLoRA of #212.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        dim, rank = config.model_dim, config.loop_lora_rank
        for name, width in (("q", dim), ("k", config.kv_dim), ("v", config.kv_dim), ("proj", dim)):
            self.register_parameter(f"{name}_A", nn.Parameter(torch.zeros(dim, rank)))
            self.register_parameter(f"{name}_B", nn.Parameter(torch.zeros(rank, width)))

    def added(self, name: str, x: Tensor) -> Tensor:  # (B, T, in) -> (B, T, out)
        a, b = self.get_parameter(f"{name}_A"), self.get_parameter(f"{name}_B")
        return (x @ a.to(x.dtype)) @ b.to(x.dtype)


class LayerValues(NamedTuple):
    """The small tensors of one virtual layer. Shape: (D,), (D,), (2, D), (H,).

    Without `resid_mix` the stream is read as it is. `permutation`: source channels of q, k and, where values move, v,
    (D,), (KV,), (KV,). `adapter`: what is added to this run's projections.
    """

    attn_scale: Tensor
    mlp_scale: Tensor
    resid_mix: Tensor | None
    q_gain: Tensor
    permutation: tuple[Tensor, ...] | None = None
    adapter: RunAdapter | None = None


class Attention(nn.Module):
    """Causal grouped-query attention with normalised q and k and one learned gain per query head."""

    def __init__(self, config: GPTConfig, index: int, uses: int) -> None:
        super().__init__()
        dim = config.model_dim
        self.config = config
        self.grouped = config.num_kv_heads != config.num_heads
        self.exclusive = index >= config.num_blocks - config.xsa_last_n
        self.c_q = nn.Linear(dim, dim, bias=False)
        self.c_k = nn.Linear(dim, config.kv_dim, bias=False)
        self.c_v = nn.Linear(dim, config.kv_dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.q_gain = nn.Parameter(torch.full((config.num_heads,), config.qk_gain_init))
        if config.attn_gate == "double":
            self.attn_gate_proj = nn.Linear(config.gate_window, config.num_heads, bias=False)
        elif config.attn_gate != "none":
            width = config.gate_window if config.attn_gate == "window" else dim
            self.attn_gate_w = nn.Parameter(torch.zeros(config.num_heads, width))
        mixes = mixes_first_value(config, index, uses)
        self.vr_lambda = nn.Parameter(torch.full((2,), 0.5)) if mixes else None
        self.perm_gate = nn.Linear(dim, 1) if config.repartition == "gate" else None

    def forward(self, x: Tensor, values: LayerValues, shared: Pass) -> Tensor:  # (B, T, D) -> (B, T, D)
        q, k, v = self.heads(x, values, shared)
        v = self._with_first_value(v, shared) if self.config.value_residual else v
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=shared.visible, is_causal=shared.visible is None, enable_gqa=self.grouped
        )
        if self.exclusive:
            mixed = without_own_value(mixed, v)
        if self.config.attn_gate != "none":
            mixed = mixed * self._gate(x).transpose(1, 2)[..., None]
        joined = mixed.transpose(1, 2).flatten(2)
        out: Tensor = self.proj(joined)
        return out if values.adapter is None else out + values.adapter.added("proj", joined)

    def heads(self, x: Tensor, values: LayerValues, shared: Pass) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v as attention meets them: permuted, normalised, rotated, q times its gain.

        Shape: (B, T, D) -> (B, H, T, d), (B, KV, T, d), (B, KV, T, d).
        """
        parts = (self.c_q(x), self.c_k(x), self.c_v(x))
        if (adapter := values.adapter) is not None:
            q, k, v = (part + adapter.added(name, x) for name, part in zip("qkv", parts, strict=True))
            parts = (q, k, v)
        if values.permutation is not None:
            parts = self._repartition(x, parts, values.permutation, shared)
        q, k, v = (part.view(*x.shape[:2], -1, self.config.head_dim).transpose(1, 2) for part in parts)
        if self.config.qk_norm:
            q, k = rms_norm(q), rms_norm(k)
        q = rotate(q, shared.cos, shared.sin) * values.q_gain.to(q.dtype)[:, None, None]
        return q, rotate(k, shared.cos, shared.sin), v

    def _gate(self, x: Tensor) -> Tensor:
        """One factor per position and head. Shape: (B, T, D) -> (B, T, H)."""
        window = x[..., : self.config.gate_window]
        if self.config.attn_gate == "double":
            return 2.0 * torch.sigmoid(self.attn_gate_proj(window))
        seen = x if self.config.attn_gate == "dense" else window
        scale = 1.0 if self.config.attn_gate == "dense" else self.config.attn_gate_scale
        return torch.sigmoid(scale * F.linear(seen, self.attn_gate_w.to(x.dtype)))

    def _with_first_value(self, v: Tensor, shared: Pass) -> Tensor:
        if shared.first_value is None:
            shared.first_value = v
            return v
        assert self.vr_lambda is not None
        shares = self.vr_lambda.to(v.dtype)
        return shares[0] * shared.first_value + shares[1] * v

    def _repartition(
        self, x: Tensor, parts: tuple[Tensor, Tensor, Tensor], sources: tuple[Tensor, ...], shared: Pass
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q and k with their channels permuted, wholly or in a blend g q + (1 - g) P q; v where a third table is."""
        moved = [part.index_select(-1, source) for part, source in zip(parts, sources, strict=False)]
        if self.config.repartition != "permute":
            keep: Tensor | float = self.config.repartition_static
            if self.perm_gate is not None:
                keep = torch.sigmoid(self.perm_gate(x))
                if self.training:
                    distance = keep.float().mean() - self.config.repartition_start
                    shared.penalties.append(self.config.repartition_penalty * distance.square())
            moved = [keep * part + (1 - keep) * other for part, other in zip(parts, moved, strict=False)]
        q, k, v = (*moved, *parts[len(moved) :])
        return q, k, v


class MLP(nn.Module):
    """Up, a squared or cubed rectifier, down."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.mlp_activation
        self.fc = nn.Linear(config.model_dim, config.mlp_hidden, bias=False)
        self.proj = nn.Linear(config.mlp_hidden, config.model_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.fc(x)
        if self.activation == "leaky_relu2":
            hidden = F.leaky_relu(hidden, 0.5).square()
        elif self.activation == "relu3":
            hidden = torch.relu(hidden).pow(3)
        else:
            hidden = torch.relu(hidden).square()
        out: Tensor = self.proj(hidden)
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP; the stream is first mixed with the embedding x0, per channel."""

    def __init__(self, config: GPTConfig, index: int, uses: int) -> None:
        super().__init__()
        dim = config.model_dim
        self.attn = Attention(config, index, uses)
        self.mlp = MLP(config)
        self.attn_scale = nn.Parameter(torch.ones(dim))
        self.mlp_scale = nn.Parameter(torch.ones(dim))
        mix = torch.stack((torch.ones(dim), torch.zeros(dim)))
        self.resid_mix = nn.Parameter(mix) if config.x0_mix else None

    def own_values(self, use: int) -> LayerValues:
        """Scales, residual mix and query gain of the `use`-th run of this block in a pass."""
        return LayerValues(self.attn_scale, self.mlp_scale, self.resid_mix, self.attn.q_gain)

    def mix(self, x: Tensor, values: LayerValues, shared: Pass) -> Tensor:
        """keep * x + again * x0, per channel."""
        if values.resid_mix is None:
            return x
        shares = values.resid_mix.to(x.dtype)
        return shares[0] * x + shares[1] * shared.x0

    def attend(self, x: Tensor, step: LayerStep, values: LayerValues, shared: Pass) -> Tensor:
        """What attention adds to a mixed stream."""
        seen = self._seen(x, step)
        return values.attn_scale.to(x.dtype) * self._deviate(self.attn(seen, values, shared), seen, "attn", step.use)

    def expand(self, x: Tensor, step: LayerStep, values: LayerValues) -> Tensor:
        """What the MLP adds."""
        seen = self._seen(x, step)
        return values.mlp_scale.to(x.dtype) * self._deviate(self.mlp(seen), seen, "mlp", step.use)

    def forward(self, x: Tensor, step: LayerStep, values: LayerValues, shared: Pass) -> Tensor:
        x = self.mix(x, values, shared)
        x = x + self.attend(x, step, values, shared)
        return x + self.expand(x, step, values)

    def _seen(self, x: Tensor, step: LayerStep) -> Tensor:
        return rms_norm(x) if step.norm_scale == 1.0 else rms_norm(x) * step.norm_scale

    def _deviate(self, out: Tensor, seen: Tensor, side: str, use: int) -> Tensor:
        """Hook for blocks whose runs differ from each other."""
        return out
