"""The layers of the baseline GPT: normalised attention with rotary positions, squared-activation MLP, block.

Owns the arithmetic of one layer. Names of submodules are the names of the tensors on disk.
Source: openai/parameter-golf train_gpt.py. Where we differ: rotary tables are computed once per forward
pass and handed to every layer, and weights stay fp32 (autocast, not stored bf16, gives the GPU its speed).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgtrain.model_config import GPTConfig


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis, eps = machine epsilon of x's dtype; no learned gain."""
    return F.rms_norm(x, (x.shape[-1],))


def rotary_tables(seq_len: int, head_dim: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of position * base^(-2i / head_dim). Shape: (T, head_dim / 2) float32 each."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    angles = torch.outer(torch.arange(seq_len, dtype=torch.float32, device=device), 1.0 / base**exponents)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding; channel i is paired with channel i + head_dim / 2.

    Shape: x (B, H, T, head_dim), cos and sin (T, head_dim / 2).
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class Attention(nn.Module):
    """Causal grouped-query attention with normalised q and k and one learned gain per query head."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        dim, kv_dim = config.model_dim, config.num_kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.grouped = config.num_kv_heads != config.num_heads
        self.c_q = nn.Linear(dim, dim, bias=False)
        self.c_k = nn.Linear(dim, kv_dim, bias=False)
        self.c_v = nn.Linear(dim, kv_dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.q_gain = nn.Parameter(torch.full((config.num_heads,), config.qk_gain_init))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        batch, length, _ = x.shape
        q, k, v = (
            layer(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
            for layer in (self.c_q, self.c_k, self.c_v)
        )
        q = rotate(rms_norm(q), cos, sin) * self.q_gain.to(q.dtype)[:, None, None]
        k = rotate(rms_norm(k), cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.grouped)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class MLP(nn.Module):
    """Up, a squared or cubed rectifier, down.

    Source: relu2 is the baseline's; leaky_relu2 = LeakyReLU(0.5)^2 and relu3 come from later submissions.
    """

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

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.attn_scale = nn.Parameter(torch.ones(config.model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(config.model_dim))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(config.model_dim), torch.zeros(config.model_dim))))

    def forward(self, x: Tensor, x0: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        keep, again = self.resid_mix.to(x.dtype)
        x = keep * x + again * x0
        x = x + self.attn_scale.to(x.dtype) * self.attn(rms_norm(x), cos, sin)
        out: Tensor = x + self.mlp_scale.to(x.dtype) * self.mlp(rms_norm(x))
        return out
