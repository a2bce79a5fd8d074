"""EBLS: shared blocks whose runs deviate by a gated low-rank branch.

    run v of a module M:   M(x) + gamma_v (x A_v) B_v,   gamma_v = sigmoid(logit_v)
    training loss:         cross-entropy + ebls_penalty * sum of all gammas

Owns the block, its penalty and the report that says how large the deviations are. Source: openai/parameter-golf
#433, train_gpt.py. Read with care: gamma alone says little, because only the product gamma A B acts and neither A
nor B is penalised; and with B = 0 at the start the cross-entropy gives gamma no gradient while the penalty pushes it
down. `output_shares` therefore reports what the branch adds to the module's output on a text, and `ebls_penalty = 0`
and `ebls_b_std > 0` are the control runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from .blocks import Block, LayerValues
from .model_config import GPTConfig

START_LOGIT = -2.0  # gamma 0.119


class DeviatingBlock(Block):
    """A block with scales, residual mix and low-rank branches of its own for each of its runs."""

    def __init__(self, config: GPTConfig, index: int, uses: int) -> None:
        super().__init__(config, index, uses)
        dim, rank = config.model_dim, config.ebls_rank
        del self.attn_scale, self.mlp_scale, self.resid_mix
        self.attn_scales = nn.Parameter(torch.ones(uses, dim))
        self.mlp_scales = nn.Parameter(torch.ones(uses, dim))
        self.resid_mixes = nn.Parameter(torch.stack((torch.ones(uses, dim), torch.zeros(uses, dim)), dim=1))
        self.attn_lora_A = nn.Parameter(torch.zeros(uses, dim, rank))
        self.attn_lora_B = nn.Parameter(torch.zeros(uses, rank, dim))
        self.mlp_lora_A = nn.Parameter(torch.zeros(uses, dim, rank))
        self.mlp_lora_B = nn.Parameter(torch.zeros(uses, rank, dim))
        self.attn_shrinkage_logits = nn.Parameter(torch.full((uses,), START_LOGIT))
        self.mlp_shrinkage_logits = nn.Parameter(torch.full((uses,), START_LOGIT))

    def own_values(self, use: int) -> LayerValues:
        use = min(use, len(self.attn_scales) - 1)  # loops beyond the trained ones are like the last
        return LayerValues(self.attn_scales[use], self.mlp_scales[use], self.resid_mixes[use], self.attn.q_gain)

    def gammas(self) -> Tensor:
        """Shrinkage factors of all runs, attention then MLP. Shape: (2, uses)."""
        return torch.sigmoid(torch.stack((self.attn_shrinkage_logits, self.mlp_shrinkage_logits)))

    def branch(self, side: str) -> tuple[Tensor, Tensor, Tensor]:
        """(A, B, logits) of all runs of "attn" or "mlp". Shape: (uses, D, r), (uses, r, D), (uses,)."""
        if side == "attn":
            return self.attn_lora_A, self.attn_lora_B, self.attn_shrinkage_logits
        return self.mlp_lora_A, self.mlp_lora_B, self.mlp_shrinkage_logits

    def _deviate(self, out: Tensor, seen: Tensor, side: str, use: int) -> Tensor:
        a, b, logits = self.branch(side)
        use = min(use, len(logits) - 1)
        gamma = torch.sigmoid(logits[use]).to(out.dtype)
        return out + gamma * ((seen @ a[use].to(seen.dtype)) @ b[use].to(seen.dtype))


Place = tuple[int, str, int]  # block, "attn" or "mlp", use
Seen = Callable[[Place, Tensor, Tensor], None]


@contextmanager
def branches_seen(model: nn.Module, see: Seen) -> Iterator[None]:
    """While open, every run of a module calls see(place, what M gives, what the branch adds)."""
    blocks = [block for block in model.modules() if isinstance(block, DeviatingBlock)]

    def watched(index: int, block: DeviatingBlock) -> Callable[[Tensor, Tensor, str, int], Tensor]:
        def deviate(out: Tensor, seen: Tensor, side: str, use: int) -> Tensor:
            whole = DeviatingBlock._deviate(block, out, seen, side, use)
            see((index, side, use), out, whole - out)
            return whole

        return deviate

    for index, block in enumerate(blocks):
        object.__setattr__(block, "_deviate", watched(index, block))
    try:
        yield
    finally:
        for block in blocks:
            object.__delattr__(block, "_deviate")


@torch.no_grad()
def output_shares(model: nn.Module, batches: Iterable[Tensor]) -> dict[Place, float]:
    """|gamma (norm x) A B| / |M(norm x)| of every run of every module, root mean squares over all tokens of a text.

    0 is a run like the shared module, 1 a branch as large as it. Shape: batches (B, T) int64.
    """
    sums: dict[Place, list[float]] = {}

    def see(place: Place, out: Tensor, added: Tensor) -> None:
        held = sums.setdefault(place, [0.0, 0.0])
        held[0] += float(added.double().square().sum())
        held[1] += float(out.double().square().sum())

    with branches_seen(model, see):
        for ids in batches:
            cast("Any", model).forward_logits(ids)
    return {place: (added / max(whole, 1e-30)) ** 0.5 for place, (added, whole) in sums.items()}
