"""What anybody can reach on a text without the model: chance, and a bigram of the text itself.

Owns the bound that an identification must be within. Source of the smoothing: absolute discounting, Ney, Essen and
Kneser 1994.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

DISCOUNT = 0.75
BESIDE = 0.4  # nats above the bigram at which a model is still believed: it may know less of this text than the text


def bigram_nats(tokens: NDArray[np.unsignedinteger[Any]], vocab_size: int) -> float:
    """Nats per token of each half of a text under the pairs of the other half."""
    ids = tokens.astype(np.int64)
    middle = len(ids) // 2
    if middle < 2:
        return math.log(vocab_size)
    halves = (ids[:middle], ids[middle:])
    losses = [_held_out(seen, read, vocab_size) for seen, read in (halves, halves[::-1])]
    return float(np.concatenate(losses).mean())


def _held_out(seen: NDArray[np.int64], read: NDArray[np.int64], vocab_size: int) -> NDArray[np.float64]:
    """Nats of every token of `read` but the first, by the pairs of `seen`."""
    single = np.bincount(seen, minlength=vocab_size) + 0.5
    unigram = single / single.sum()
    pairs, counts = np.unique(seen[:-1] * vocab_size + seen[1:], return_counts=True)
    before = np.bincount(pairs // vocab_size, weights=counts, minlength=vocab_size)
    kinds = np.bincount(pairs // vocab_size, minlength=vocab_size)
    wanted = read[:-1] * vocab_size + read[1:]
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    count = np.where(pairs[at] == wanted, counts[at], 0)
    total, spared = np.maximum(before[read[:-1]], 1), kinds[read[:-1]]
    known = before[read[:-1]] > 0
    probability = np.maximum(count - DISCOUNT, 0) / total + DISCOUNT * spared / total * unigram[read[1:]]
    losses: NDArray[np.float64] = -np.log(np.where(known, probability, unigram[read[1:]]))
    return losses
