"""Byte shuffle: bytes that play the same part in a word come to lie together."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

from .base import ByteCodec
from .settings import require_range

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Shuffle(ByteCodec):
    """Bytes 0, s, 2s, ..., then 1, 1+s, ..., for s = `stride`; any length.

    Use when: words of 2 or 4 bytes (fp16, fp32) go to a byte codec: their exponents come to lie together.

    *Source* the definition of HDF5's and blosc's shuffle filter. We differ: a length that is no multiple of the
    stride is shuffled whole (the first strands are one byte longer) instead of leaving its tail in place.
    """

    stride: int = 2

    def __post_init__(self) -> None:
        require_range("shuffle stride", self.stride, 2, 256)

    def encode(self, data: bytes) -> bytes:
        return shuffled_pieces([data], self.stride)

    def decode(self, data: bytes, n_bytes: int) -> bytes:
        if len(data) != n_bytes:
            raise CorruptArtifact(f"a shuffled stream has {len(data)} bytes, expected {n_bytes}")
        return unshuffled_bytes(data, self.stride)


def shuffled_pieces(pieces: Sequence[bytes | memoryview], stride: int, head: bytes = b"") -> bytes:
    """The concatenated `pieces`, shuffled, behind `head`; no other copy of them is made."""

    def fill_(whole: Bytes) -> None:
        whole[: len(head)] = np.frombuffer(head, np.uint8) if head else 0
        strands = _strands(whole[len(head) :], stride)
        position = 0
        for piece in pieces:
            plain = np.frombuffer(piece, np.uint8) if len(piece) else np.empty(0, np.uint8)
            for i, strand in enumerate(strands):
                own = plain[(i - position) % stride :: stride]
                start = -(-(position - i) // stride)  # so many of this strand's bytes came before
                strand[start : start + own.size] = own
            position += plain.size

    return _filled(len(head) + sum(len(piece) for piece in pieces), fill_)


def unshuffled_bytes(data: bytes | memoryview, stride: int) -> bytes:
    """The inverse of `shuffled_pieces` without a head; no other copy is made."""

    def fill_(plain: Bytes) -> None:
        for i, strand in enumerate(_strands(np.frombuffer(data, np.uint8), stride)):
            plain[i::stride] = strand

    return _filled(len(data), fill_)


def _strands(shuffled: Bytes, stride: int) -> list[Bytes]:
    """Where the bytes i, i + stride, ... lie, for every i below `stride`."""
    n = shuffled.size
    lengths = [len(range(i, n, stride)) for i in range(stride)]
    ends = np.cumsum(lengths)
    return [shuffled[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _filled(n: int, fill_: Callable[[Bytes], None]) -> bytes:
    """`n` bytes as `fill_` leaves them, made in place: a BytesIO gives its buffer away without a copy."""
    if not n:
        return b""
    room = io.BytesIO()
    room.seek(n - 1)
    room.write(b"\0")
    with room.getbuffer() as view:
        fill_(np.frombuffer(view, np.uint8))
    return room.getvalue()
