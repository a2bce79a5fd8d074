"""Symbol coders without a model: raw, bit packing, bit planes.

They cost what their layout costs; byte codecs may follow. All numbers are little-endian, all packed bits most
significant first. `bitpack` and `bitplanes` begin each array with a minimum (8 bytes, two's complement) and a
width in bits (1 byte); a code is (symbol - minimum) in `width` bits; an array's bits are padded to whole bytes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

from .base import SymbolCoder, SymbolLayout, Symbols

HEADER_BYTES = 9
CHUNK = 1 << 16  # symbols at a time: temporaries of at most 64 bits x 64 Ki = 4 MiB per array


def little_endian(array: Symbols) -> Symbols:
    """`array` in C order with a little-endian dtype."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def span(array: Symbols) -> tuple[int, int]:
    """Minimum of `array` and the bits that its largest difference from it needs; (0, 0) when empty."""
    if not array.size:
        return 0, 0
    low, high = int(array.min()), int(array.max())
    return low, (high - low).bit_length()


def codes_of(symbols: Symbols, low: int) -> NDArray[np.uint64]:
    """symbol - low, modulo 2^64."""
    codes: NDArray[np.uint64] = symbols.astype(np.uint64) - np.uint64(low % (1 << 64))
    return codes


def symbols_of(codes: NDArray[np.uint64], low: int, dtype: str) -> Symbols:
    """The inverse of `codes_of`. Raises CorruptArtifact when a symbol is outside `dtype`."""
    info = np.iinfo(dtype)
    if codes.size and not (info.min <= low and low + int(codes.max()) <= info.max):
        raise CorruptArtifact(f"coded symbols from {low} upwards do not fit {np.dtype(dtype)}")
    return (codes + np.uint64(low % (1 << 64))).astype(dtype)


def parse_header(data: bytes, start: int, dtype: str) -> tuple[int, int]:
    """Minimum and width of the array whose header is at `start`. Raises CorruptArtifact."""
    if start + HEADER_BYTES > len(data):
        raise CorruptArtifact("a packed stream ends inside an array's header")
    low = int.from_bytes(data[start : start + 8], "little", signed=np.dtype(dtype).kind == "i")
    width = data[start + 8]
    if width > 64:
        raise CorruptArtifact(f"a packed array has symbols of {width} bits, expected at most 64")
    return low, width


@dataclass(frozen=True)
class Raw(SymbolCoder):
    """Symbols as they are, little-endian, array after array.

    Use when: a byte codec that looks for its own patterns follows, or the tensor is too small to matter.
    """

    def encode(self, arrays: Sequence[Symbols]) -> bytes:
        return b"".join(little_endian(array).tobytes() for array in arrays)

    def decode(self, data: bytes, layouts: Sequence[SymbolLayout]) -> list[Symbols]:
        expected = sum(layout.n_bytes for layout in layouts)
        if len(data) != expected:
            raise CorruptArtifact(f"raw symbols take {expected} bytes, found {len(data)}")
        arrays, start = [], 0
        for layout in layouts:
            part = np.frombuffer(data, layout.dtype, layout.size, start)
            arrays.append(part.reshape(layout.shape))
            start += layout.n_bytes
        return arrays

    def ideal_bits(self, arrays: Sequence[Symbols]) -> list[float]:
        return [8.0 * array.size * array.itemsize for array in arrays]


class Packed(SymbolCoder):
    """Arrays behind their headers, one after the other; how the codes of an array become bits is its subclasses'."""

    @abstractmethod
    def pieces(self, flat: Symbols, low: int, width: int) -> Iterator[bytes]:
        """The bits of an array that is not empty, a CHUNK of symbols at a time: whole bytes but for the last."""

    @abstractmethod
    def n_bytes(self, n: int, width: int) -> int:
        """Bytes of `n` codes."""

    @abstractmethod
    def codes(self, packed: NDArray[np.uint8], at: int, n: int, width: int) -> NDArray[np.uint64]:
        """Codes `at` to `at + n` of an array's bits."""

    def encode(self, arrays: Sequence[Symbols]) -> bytes:
        parts = []
        for array in arrays:
            low, width = span(array)
            header = (low % (1 << 64)).to_bytes(8, "little") + bytes([width])
            parts += [header, *self.pieces(array.reshape(-1), low, width)]
        return b"".join(parts)

    def decode(self, data: bytes, layouts: Sequence[SymbolLayout]) -> list[Symbols]:
        arrays, start = [], 0
        for layout in layouts:
            low, width = parse_header(data, start, layout.dtype)
            start += HEADER_BYTES
            n_bytes = self.n_bytes(layout.size, width)
            if start + n_bytes > len(data):
                raise CorruptArtifact(f"packed symbols need {n_bytes} bytes, {len(data) - start} are left")
            packed = np.frombuffer(data, np.uint8, n_bytes, start)
            flat = np.empty(layout.size, layout.dtype)
            for at in range(0, layout.size, CHUNK):
                n = min(CHUNK, layout.size - at)
                flat[at : at + n] = symbols_of(self.codes(packed, at, n, width), low, layout.dtype)
            arrays.append(flat.reshape(layout.shape))
            start += n_bytes
        if start != len(data):
            raise CorruptArtifact(f"{len(data) - start} bytes follow the last packed array")
        return arrays

    def ideal_bits(self, arrays: Sequence[Symbols]) -> list[float]:
        return [8.0 * HEADER_BYTES + array.size * span(array)[1] for array in arrays]


@dataclass(frozen=True)
class BitPack(Packed):
    """The codes of an array one after the other, `width` bits each.

    Use when: the alphabet is a power of two and its symbols are about equally frequent.
    """

    def pieces(self, flat: Symbols, low: int, width: int) -> Iterator[bytes]:
        for start in range(0, flat.size if width else 0, CHUNK):
            yield pack_codes(codes_of(flat[start : start + CHUNK], low), width)

    def n_bytes(self, n: int, width: int) -> int:
        return (n * width + 7) // 8

    def codes(self, packed: NDArray[np.uint8], at: int, n: int, width: int) -> NDArray[np.uint64]:
        return unpack_codes(packed[at * width // 8 :], n, width)


@dataclass(frozen=True)
class BitPlanes(Packed):
    """Bit `width - 1` of every code of an array, then bit `width - 2`, ...; each plane padded to bytes.

    Use when: a byte codec follows and the symbols are peaked around zero.

    High planes of peaked symbols are nearly constant, which byte codecs like.
    """

    def pieces(self, flat: Symbols, low: int, width: int) -> Iterator[bytes]:
        for bit in reversed(range(width)):
            for start in range(0, flat.size, CHUNK):
                codes = codes_of(flat[start : start + CHUNK], low)
                yield np.packbits((codes >> np.uint64(bit)).astype(np.uint8) & 1).tobytes()

    def n_bytes(self, n: int, width: int) -> int:
        return (n + 7) // 8 * width

    def codes(self, packed: NDArray[np.uint8], at: int, n: int, width: int) -> NDArray[np.uint64]:
        planes = packed.reshape(width, packed.size // max(1, width))
        return join_bits(np.unpackbits(planes[:, at // 8 : at // 8 + (n + 7) // 8], axis=1, count=n), n)


def pack_codes(codes: NDArray[np.uint64], width: int) -> bytes:
    """`width` bits of each code, most significant first, padded to bytes."""
    bits = np.empty((codes.size, width), np.uint8)
    for bit in range(width):
        bits[:, width - 1 - bit] = (codes >> np.uint64(bit)).astype(np.uint8) & 1
    return np.packbits(bits.reshape(-1)).tobytes()


def unpack_codes(packed: NDArray[np.uint8], n: int, width: int) -> NDArray[np.uint64]:
    """The inverse of `pack_codes` for `n` codes; Shape: (n,)."""
    n_bytes = (n * width + 7) // 8
    bits = np.unpackbits(packed[:n_bytes], count=n * width).reshape(n, width)
    return join_bits(bits.T, n)


def join_bits(bits: NDArray[Any], n: int) -> NDArray[np.uint64]:
    """Codes from their bits, most significant first. Shape: bits (width, n); (n,) comes back."""
    codes = np.zeros(n, np.uint64)
    for plane in bits:
        codes <<= np.uint64(1)
        codes |= plane
    return codes
