"""One stream of an artifact: symbol arrays that share a coder and byte codecs -> bytes.

arrays --coder (one call)--> bytes --byte codec*--> stream
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgpack.codecs.base import ByteCodec, PricedCoder, SymbolCoder, Symbols


@dataclass(frozen=True, eq=False)
class EncodedStream:
    """The bytes of a stream, their length before the first and after each byte codec, and what each array is
    estimated to cost by itself (in bits, under the coder's model)."""

    data: bytes
    lengths: tuple[int, ...]
    ideal_bits: tuple[float, ...]


StreamCoder = Callable[[SymbolCoder, Sequence[ByteCodec], Sequence[Symbols]], EncodedStream]


def encode_stream(coder: SymbolCoder, codecs: Sequence[ByteCodec], arrays: Sequence[Symbols]) -> EncodedStream:
    """The stream of `arrays`."""
    if isinstance(coder, PricedCoder):
        data, bits = coder.encode_priced(arrays)
    else:
        data, bits = coder.encode(arrays), coder.ideal_bits(arrays)
    lengths = [len(data)]
    for codec in codecs:
        data = codec.encode(data)
        lengths.append(len(data))
    return EncodedStream(data, tuple(lengths), tuple(map(float, bits)))
