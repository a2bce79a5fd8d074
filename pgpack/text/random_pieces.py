"""Text of pieces drawn at random: `--calib random`, for those who have no text.

    expected shares of the tokens --drawn--> windows of pieces --decoded--> documents, LIMIT tokens in all

It says nothing, but the weights make of it much of what they make of text: which inputs of a matrix are large, which
outputs matter. Drawing takes no time, and fewer bytes are needed at equal loss than by the weights alone
(`results/peers-smollm.md`); what the model writes itself (`--calib self`) is better and takes minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .documents import Part
from .stream import DocumentTokens
from .token_shares import token_shares
from .tokenizer import Tokenizer

LIMIT = 131_072  # tokens
LENGTH = 256  # pieces of a document
SEEDS = {"calib": 0, "val": 1}


def random_text(tokenizer: Tokenizer, side: str) -> DocumentTokens:
    """One side of a text, the same at each call; `side` is "calib" or "val"."""
    return DocumentTokens(_documents(tokenizer, SEEDS[side]), tokenizer, "pieces drawn at random")


def _documents(tokenizer: Tokenizer, seed: int) -> Iterator[Part]:
    rng, shares = np.random.default_rng(seed), token_shares(tokenizer)
    for number in range(LIMIT // LENGTH):
        pieces = rng.choice(len(shares), LENGTH, p=shares)
        if (text := tokenizer.decode(pieces)).strip():
            yield Part(f"document {number}", 0, text)
