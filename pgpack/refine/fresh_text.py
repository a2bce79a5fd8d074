"""How much calibration text optimizer steps take, and which of it is new to them. Refuses torch."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Tokens = NDArray[Any]
BATCH_TOKENS = 2048  # of an optimizer step
CHECKED = 8  # one batch in so many is not trained on and decides whether what was trained is kept


def fresh_tokens(tokens: Tokens, used: int, count: int) -> Tokens:
    """Calibration tokens for `count` steps on new text, none of the first `used`; all where there are too few.

    The Hessians have seen the first `used`, and GPTQ has fitted the symbols to them. On 32,768 tokens seen twice, 40
    steps of tuning raised the KL of a 4.4 M model on unseen text by 6 to 12 % *(negative)*.
    """
    wanted = tokens_for(count)
    fresh = tokens[used : used + wanted]
    return fresh if len(fresh) == wanted else tokens


def tokens_for(count: int) -> int:
    """Tokens of `count` batches for training and of those kept back."""
    return -(-count * CHECKED // (CHECKED - 1)) * BATCH_TOKENS
