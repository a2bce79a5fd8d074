"""What happens before the first layer and after the last: smeared and hashed embeddings, low-rank residuals.

    ids -> tok_emb (+ bigram_hash) -> smear -> rms_norm -> smear -> embed_proj -> + B(Ax) = x0

Owns the modules; `pgtrain.model.gpt` decides the order. Each class names the script whose arithmetic it has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .model_config import GPTConfig

SMEAR_SHARE = 0.07  # "window_bias" adds at most this much of the previous embedding


def previous(x: Tensor, ids: Tensor, boundary_token: int) -> Tensor:
    """x of the position before; zero at the first position and where a document starts (`boundary_token`).

    Shape: x (B, T, C), ids (B, T). Source of the boundary rule: openai/parameter-golf #1855.
    """
    before = F.pad(x[:, :-1], (0, 0, 1, 0))
    return before if boundary_token < 0 else before * (ids != boundary_token).to(x.dtype)[..., None]


class SmearGate(nn.Module):
    """Mixes the previous token's embedding into each.

    channel      lerp(x, prev, sigmoid(g))                 g (C,), 0 at the start           #212 (11L), after the norm
    keep         s x + (1 - s) prev, s = sigmoid(g)        g (C,), 3 at the start           #433, before the norm
    window       x + lambda sigmoid(W x[:w]) prev          W and lambda 0 at the start      #1855, before the norm
    window_bias  x + 0.07 sigmoid(W x[:w] + b) prev        W 0, b -2 at the start          #212 (int6), after the norm
    """

    gate: Any  # a parameter or a Linear: the sources give both the same name

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.kind, self.boundary_token, width = config.smear, config.boundary_token, config.table_dim
        self.before_norm = self.kind in ("keep", "window")
        if self.kind == "channel":
            self.gate = nn.Parameter(torch.zeros(width))
        elif self.kind == "keep":
            self.gate_logit = nn.Parameter(torch.full((width,), 3.0))
        elif self.kind == "window":
            self.weight = nn.Parameter(torch.zeros(1, config.gate_window))
        else:
            self.gate = nn.Linear(config.gate_window, 1)
            nn.init.zeros_(self.gate.weight)
            nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor, ids: Tensor, smear_lambda: Tensor | None) -> Tensor:  # (B, T, C) -> (B, T, C)
        before = previous(x, ids, self.boundary_token)
        if self.kind == "channel":
            return torch.lerp(x, before, torch.sigmoid(self.gate).to(x.dtype))
        if self.kind == "keep":
            keep = torch.sigmoid(self.gate_logit).to(x.dtype)
            return keep * x + (1 - keep) * before
        if self.kind == "window":
            assert smear_lambda is not None
            gate = torch.sigmoid(F.linear(x[..., : self.weight.shape[1]], self.weight.to(x.dtype)))
            return x + smear_lambda.to(x.dtype) * gate * before
        share: Tensor = SMEAR_SHARE * torch.sigmoid(self.gate(x[..., : self.gate.in_features]))
        return x + share * before


class BigramHash(nn.Module):
    """A hashed table of token pairs, projected to the embedding's width; nothing at the start (proj = 0).

    The first position's partner is token 0. A pair may span two documents, as in the sources.
    xor       (36313 prev ^ 27191 cur) mod (n - 1), times a learned scale of 0.05     #212 (11L)
    mul31     (31 prev + cur) mod n                                                   #212 (int6)
    mul104729 (104729 prev + cur) mod n                                               #433
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.kind, self.buckets = config.bigram_hash, config.bigram_buckets
        self.embed = nn.Embedding(config.bigram_buckets, config.bigram_dim)
        self.proj = nn.Linear(config.bigram_dim, config.table_dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(0.05)) if self.kind == "xor" else None

    def bucket(self, ids: Tensor) -> Tensor:
        """Row of the table for every position. Shape: (B, T) -> (B, T)."""
        before = F.pad(ids[:, :-1], (1, 0))
        if self.kind == "xor":
            return ((36313 * before) ^ (27191 * ids)) % max(self.buckets - 1, 1)
        return (before * (31 if self.kind == "mul31" else 104729) + ids) % self.buckets

    def forward(self, ids: Tensor) -> Tensor:  # (B, T) -> (B, T, C)
        out: Tensor = self.proj(self.embed(self.bucket(ids)))
        return out if self.scale is None else self.scale.to(out.dtype) * out


class LowRankResidual(nn.Module):
    """x + B(Ax); the identity at the start, when B = 0. Source: idea exp119 of #1546, never run there."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.A = nn.Linear(dim, rank, bias=False)
        self.B = nn.Linear(rank, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.B(self.A(x))
        return out


def factorize(table: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """(tok_emb, embed_proj, head_proj) whose products are the best rank-`rank` approximation of a full table.

    Shape: (V, D) -> (V, rank), (D, rank), (rank, D). tok_emb @ embed_proj.T is the approximation, and
    head_proj = embed_proj.T has orthonormal rows. Source: Eckart and Young 1936; finding 25 of #212.
    """
    u, s, vh = torch.linalg.svd(table, full_matrices=False)
    return u[:, :rank] * s[:rank], vh[:rank].T.contiguous(), vh[:rank].contiguous()


def harmonic_spectrum(table: Tensor) -> Tensor:
    """The table with singular values S_1 / sqrt(k), k = 1, 2, ... Source: "overtone" record of 2026-03-19."""
    u, s, vh = torch.linalg.svd(table, full_matrices=False)
    ranks = torch.arange(1, len(s) + 1, dtype=s.dtype, device=s.device)
    shaped: Tensor = (u * (s[0] * ranks.rsqrt())) @ vh
    return shaped
