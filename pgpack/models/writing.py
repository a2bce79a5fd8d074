"""Text that a model writes itself, token by token from its own distribution: for those who have no text.

    first tokens --model--> p(next) --drawn--> ... windows of tokens

One draw per token at temperature 1, so that what is written has the model's own statistics (LLM-QAT, Liu et al. 2023,
arXiv:2305.17888, begins alike, with a first token at random). Needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgpack.loss.head import logits_of

AT_ONCE = 8192  # tokens, of a model that does not know better


def windows_written(
    model: nn.Module, first: NDArray[np.int64], length: int, n_pieces: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """A window of `length` tokens for each of the `first` tokens, in their order. Tokens from `n_pieces` on are never
    drawn. A model with a method `written` draws by itself, because it remembers what it has read, of
    `written_at_once` tokens. Deterministic for one thread count. Shape: (length,)."""
    at_once = max(1, getattr(model, "written_at_once", AT_ONCE) // length)
    for number, part in enumerate(torch.split(torch.from_numpy(first), at_once)):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed * len(first) + number)
            write = getattr(model, "written", partial(_written, model))
            yield from write(part[:, None], length, n_pieces).numpy()


def _written(model: nn.Module, ids: Tensor, length: int, n_pieces: int) -> Tensor:
    """Shape: (B, T) -> (B, length); all before a token is read again for each."""
    while ids.shape[1] < length:
        probabilities = logits_of(model, ids)[:, -1, :n_pieces].float().softmax(-1)
        ids = torch.cat((ids, torch.multinomial(probabilities, 1)), dim=1)
    return ids
