"""Where the codes of a rANS stream come from and go to: planes of arrays, and their order as one sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.base import SymbolLayout, Symbols
from pgpack.codecs.fixed_width import CHUNK, codes_of, pack_codes, unpack_codes
from pgpack.errors import CorruptArtifact

from .models import ArrayModel, Plane


@dataclass(frozen=True, eq=False)
class Digits:
    """One plane of one array. Shape: flat (n,): its symbols when encoding, its unsigned codes when decoding."""

    flat: Symbols
    low: int  # of the array
    shift: int
    mask: int  # 255 for a byte of a split array
    plane: Plane

    @property
    def size(self) -> int:
        return self.flat.size

    def codes(self, start: int, stop: int) -> NDArray[np.uint64]:
        """Codes of symbols `start` to `stop`, counted from the plane's low."""
        codes = codes_of(self.flat[start:stop], self.low)
        if self.mask == 255:
            codes >>= np.uint64(self.shift)
            codes &= np.uint64(255)
            codes -= np.uint64(self.plane.low)
        return codes

    def put_(self, start: int, codes: NDArray[Any]) -> None:
        """Adds codes (plane's low included) to the array; no other plane has their bits."""
        part = self.flat[start : start + codes.size]
        part |= codes.astype(part.dtype, copy=False) << part.dtype.type(self.shift)

    def pack(self) -> bytes:
        """The codes of a packed plane."""
        starts = range(0, self.size, CHUNK)
        return b"".join(pack_codes(self.codes(at, at + CHUNK), self.plane.param) for at in starts)

    def unpack_(self, data: bytes, start: int) -> int:
        """Decodes a packed plane from `start`; the position after it. Raises CorruptArtifact."""
        width, low = self.plane.param, self.plane.low
        end = start + (self.size * width + 7) // 8
        if end > len(data):
            raise CorruptArtifact(f"a plane of {self.size} codes of {width} bits ends early")
        packed = np.frombuffer(data, np.uint8, end - start, start)
        for at in range(0, self.size, CHUNK):
            codes = unpack_codes(packed[at * width // 8 :], min(CHUNK, self.size - at), width)
            if low + int(codes.max()) > self.mask:
                raise CorruptArtifact("a packed byte is above 255")
            self.put_(at, codes + np.uint64(low))
        return end

    def fill_(self) -> None:
        """Decodes a constant plane."""
        flat = self.flat
        flat |= flat.dtype.type(self.plane.low << self.shift)


def digits_of(models: Sequence[ArrayModel], arrays: Sequence[Symbols]) -> list[Digits]:
    """All planes in the order of the stream. Shape: each array (n,)."""
    return [
        Digits(flat, model.low, 8 * j, 255 if len(model.planes) > 1 else (1 << 64) - 1, plane)
        for model, flat in zip(models, arrays, strict=True)
        for j, plane in enumerate(model.planes)
    ]


def restored(codes_: NDArray[Any], low: int, layout: SymbolLayout) -> Symbols:
    """Symbols from an array's codes, in their memory. Raises CorruptArtifact when one does not fit its dtype."""
    if codes_.size and low + int(codes_.max()) > np.iinfo(layout.dtype).max:
        raise CorruptArtifact(f"coded symbols from {low} upwards do not fit {np.dtype(layout.dtype)}")
    codes_ += codes_.dtype.type(low % (1 << 8 * codes_.itemsize))
    return codes_.view(layout.dtype).reshape(layout.shape)


class Positions:
    """All table planes end to end, as one sequence of `n` positions."""

    def __init__(self, digits: Sequence[Digits]) -> None:
        self.digits = digits
        self.ends = np.cumsum([digit.size for digit in digits], dtype=np.int64)
        self.n = int(self.ends[-1]) if digits else 0

    def segments(self, start: int, stop: int) -> Iterator[tuple[int, int, slice]]:
        """For each plane met by positions `start` to `stop`: its number, its first symbol, where they lie."""
        i, at = int(np.searchsorted(self.ends, start, side="right")), start
        while at < stop:
            end = min(stop, int(self.ends[i]))
            yield i, at - int(self.ends[i]) + self.digits[i].size, slice(at - start, end - start)
            i, at = i + 1, end
