"""The three kinds of coding stage, and the layout that a decoder is given.

    symbols --SymbolTransform*--> symbols --SymbolCoder--> bytes --ByteCodec*--> bytes

A stage is a frozen dataclass of one of these kinds: its fields are its whole configuration. Those named in
`encoder_only` steer the encoder alone and are not stored. Decoding needs numpy and the codec's own library, imported
when first used. Every decoder is given the exact size of what it must return and refuses anything else, so that
hostile input costs bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from numpy.typing import NDArray

from pgpack.tensors.layout import SymbolLayout

__all__ = [
    "ByteCodec",
    "PricedCoder",
    "SteadyCoder",
    "SymbolCoder",
    "SymbolLayout",
    "SymbolTransform",
    "Symbols",
    "TabledCoder",
]

Symbols = NDArray[Any]


class SymbolTransform(Protocol):
    """Symbols -> symbols of the same dtype and count, invertible given `side`."""

    encoder_only: ClassVar[frozenset[str]] = frozenset()

    def forward(self, symbols: Symbols) -> tuple[Symbols, NDArray[Any] | None]:
        """Transformed symbols and the side information (little-endian array) that `inverse` needs, or None."""

    def inverse(self, symbols: Symbols, side: NDArray[Any] | None) -> Symbols: ...

    def again(self, symbols: Symbols, side: NDArray[Any] | None) -> Symbols:
        """What `inverse` made `symbols` of, with the `side` that was stored: nothing is searched for, as `forward`
        may."""
        ...

    def plain_layout(self, symbols: SymbolLayout, side: SymbolLayout | None) -> SymbolLayout:
        """The layout of what `inverse` gives, known before anything is decoded: here as `symbols`.

        Raises CorruptArtifact when `side` is not what `forward` gives.
        """
        return symbols


class SymbolCoder(Protocol):
    """All symbol arrays of a stream <-> bytes. One call codes many tensors, so that they share fixed costs."""

    encoder_only: ClassVar[frozenset[str]] = frozenset()

    def encode(self, arrays: Sequence[Symbols]) -> bytes: ...

    def decode(self, data: bytes, layouts: Sequence[SymbolLayout]) -> list[Symbols]:
        """Raises CorruptArtifact when `data` cannot hold exactly these layouts."""

    def ideal_bits(self, arrays: Sequence[Symbols]) -> list[float]:
        """Estimated cost of each array in bits under this coder's model (tables included)."""


@runtime_checkable
class PricedCoder(Protocol):
    """A coder whose bytes and costs come of one model, which is fitted once for both."""

    def encode_priced(self, arrays: Sequence[Symbols]) -> tuple[bytes, list[float]]:
        """`encode` and `ideal_bits`."""
        ...


@runtime_checkable
class SteadyCoder(Protocol):
    """A coder that decodes an array at a time, so that not all of them are in memory."""

    def decode_each(self, data: memoryview, layouts: Sequence[SymbolLayout]) -> Iterator[Symbols]:
        """`decode`; what is wrong behind the last array is found when more is asked for."""
        ...


@runtime_checkable
class TabledCoder(Protocol):
    """A coder whose stream says how many tables to build, whatever it holds."""

    def n_slots(self, data: memoryview) -> int:
        """Slots of all tables of a stream, counted before one is built. Raises CorruptArtifact."""
        ...


class ByteCodec(Protocol):
    """Bytes <-> bytes, lossless and deterministic."""

    encoder_only: ClassVar[frozenset[str]] = frozenset()

    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes, n_bytes: int) -> bytes:
        """Exactly `n_bytes` bytes. Raises CorruptArtifact when `data` decodes to anything else."""
