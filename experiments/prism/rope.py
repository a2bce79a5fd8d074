"""What it takes for a permutation of channels before the rotation to be safe for rotary positions."""

from __future__ import annotations

import torch
from torch import Tensor

from pgtrain.model.blocks import rotary_tables, rotate
from pgtrain.model.model_config import GPTConfig

LENGTH, SHIFT = 32, 5


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
