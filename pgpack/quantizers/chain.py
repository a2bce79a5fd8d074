"""A chain of transforms around one quantizer, applied to one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .base import Encoding, Inner, Quantizer, QuantizerInput, Transform


def quantize_matrix(source: QuantizerInput, transforms: Sequence[Transform], quantizer: Quantizer) -> Encoding:
    """The encoding of one matrix; transforms nest in order, the first outermost.

    Without transforms: Encoding('plain', (quantizer.quantize(source),)). Transforms must be bound already.
    """

    def innermost(inner_source: QuantizerInput) -> Encoding:
        return Encoding("plain", (quantizer.quantize(inner_source),))

    inner: Inner = innermost
    for transform in reversed(transforms):
        inner = partial(transform.apply, inner=inner)
    return inner(source)
