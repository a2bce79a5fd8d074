"""How often each token of a vocabulary is to be expected where no text is known: Zipf's law, and a little English.

    reference topics of CPython --tokenizer--> counts --+ Zipf over the ids--> shares, which sum to 1

*Source* Mandelbrot 1953: the r-th most frequent word has a share of about 1 / (r + 2.7). BPE numbers its pieces by
merges, the frequent ones first, so that r is the id; but letters and bytes come before all merges however rare they
are, which is why text is counted as well: with Zipf alone the rows of a small table get worse than with none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .tokenizer import Tokenizer

SHIFT = 2.7  # Mandelbrot's, of the rank
ZIPF = 0.1  # its part beside what was counted


def token_shares(tokenizer: Tokenizer) -> NDArray[np.float64]:
    """The expected share of every token. Shape: (vocabulary,)."""
    from pydoc_data.topics import topics

    zipf = zipf_weights(tokenizer.vocab_size)
    tokens = tokenizer.encode("\n\n".join(topics[name] for name in sorted(topics))).tokens
    counts = np.bincount(tokens, minlength=tokenizer.vocab_size)[: tokenizer.vocab_size]
    shares: NDArray[np.float64] = counts / max(1, counts.sum()) + ZIPF * zipf / zipf.sum()
    shares /= shares.sum()
    return shares


def zipf_weights(n_tokens: int, exponent: float = 1.0) -> NDArray[np.float64]:
    """(id + SHIFT)^-exponent: how often each of `n_tokens` ids comes, relative to the others."""
    weights: NDArray[np.float64] = np.power(np.arange(n_tokens) + SHIFT, -exponent, dtype=np.float64)
    return weights
