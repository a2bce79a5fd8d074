"""Byte shuffle: bytes that play the same part in a word come to lie together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import CorruptArtifact
from .settings import require_range


@dataclass(frozen=True)
class Shuffle:
    """Bytes 0, s, 2s, ..., then 1, 1+s, ..., for s = `stride`; any length.

    *Source* the definition of HDF5's and blosc's shuffle filter. We differ: a length that is no multiple of the
    stride is shuffled whole (the first strands are one byte longer) instead of leaving its tail in place.
    """

    stride: int = 2
    encoder_only: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        require_range("shuffle stride", self.stride, 2, 256)

    def encode(self, data: bytes) -> bytes:
        plain = np.frombuffer(data, np.uint8)
        return b"".join(plain[i :: self.stride].tobytes() for i in range(self.stride))

    def decode(self, data: bytes, n_bytes: int) -> bytes:
        if len(data) != n_bytes:
            raise CorruptArtifact(f"a shuffled stream has {len(data)} bytes, expected {n_bytes}")
        shuffled, plain = np.frombuffer(data, np.uint8), np.empty(n_bytes, np.uint8)
        start = 0
        for i in range(self.stride):
            strand = plain[i :: self.stride]
            strand[:] = shuffled[start : start + strand.size]
            start += strand.size
        return plain.tobytes()
