"""What is expected of tokens where no text is known."""

from __future__ import annotations

import numpy as np

from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.token_shares import token_shares


def test_shares_sum_to_one_and_follow_what_english_uses(tokenizer: SentencePiece) -> None:
    shares = token_shares(tokenizer)
    assert shares.shape == (tokenizer.vocab_size,)
    assert shares.min() > 0
    np.testing.assert_allclose(shares.sum(), 1)
    the, rare = tokenizer.encode("of the").tokens[-1], tokenizer.encode("ÿ").tokens[-1]
    assert shares[the] > 20 * shares[rare]
