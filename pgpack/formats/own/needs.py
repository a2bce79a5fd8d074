"""What decoding an artifact takes, worked out from its header before anything is decoded, and the most that it may.

    header + stages --needs_of--> Needs: bytes that come out, bytes held at once --check--> refused above the limits

On the way every relation between the header's values is checked: stored symbols against grids, grids against parts,
parts against the form of their tensor, streams against what they hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pgpack.codecs.base import SymbolTransform
from pgpack.errors import CorruptArtifact, FormatError
from pgpack.tensors.grid_schema import Values, values_of

from .header import Header, StoredPart, StoredTensor
from .schema import clipped

OUTPUT_RATIO, OUTPUT_LEAST = 400, 64 << 20  # bytes that come out: so many times the file, and no less than this
HELD = 4 << 30  # bytes held at once
HELD_RATIO = 8  # and no more than so many times what may come out: int64, the most that a sound file takes, takes 8
PRODUCT_RATIO, PRODUCT_LEAST = 1 << 15, 1 << 34  # multiplications of factors: so many times the file, or this
SLOTS_PER_SYMBOL, SLOTS_LEAST = 64, 1 << 26  # of all tables of all streams: 20 of the largest that we write fit
ROOM, ROOM_PER_PART = 64 << 10, 64  # bytes that a stream may take besides twice what it holds
COPIES = 3  # of its values that a tensor takes while it is decoded
UNLIMITED = 1 << 62  # for what was just written


@dataclass(frozen=True)
class Needs:
    """Units: bytes. `output`: the values of all parts, of the products of factors, of tied names once more, and the
    companions; `held`: all symbols, side information, and the largest stream and tensor while they are decoded.
    `products`: multiplications that factors take."""

    output: int
    held: int
    products: int = 0

    def check(self, n_bytes: int, max_bytes: int | None = None) -> None:
        """Raises FormatError where a file of `n_bytes` may not take that much; `max_bytes` stands for both limits of
        bytes, and there is none of products then."""
        output = max(OUTPUT_RATIO * n_bytes, OUTPUT_LEAST)
        held, products = min(HELD, HELD_RATIO * output), max(PRODUCT_RATIO * n_bytes, PRODUCT_LEAST)
        if max_bytes is not None:
            output, held, products = max_bytes, max_bytes, self.products
        for what, needed, limit in (
            (f"gives {self.output:,} bytes", self.output, output),
            (f"holds {self.held:,} bytes", self.held, held),
            (f"takes {self.products:,} multiplications of factors", self.products, products),
        ):
            if needed > limit:
                raise FormatError(
                    f"decoding {what}, above the limit of {limit:,} for a file of {n_bytes:,}; "
                    f"if you trust its origin, allow more by --max-bytes {max(self.output, self.held)} of inspect, "
                    "unpack, eval or verify (max_bytes in Python)"
                )


def check_slots(n_slots: int, n_symbols: int) -> None:
    """Raises FormatError where the tables of a file, which take their time whatever is decoded by them, have more
    slots than those of so many symbols may."""
    most = max(SLOTS_PER_SYMBOL * n_symbols, SLOTS_LEAST)
    if n_slots > most:
        raise FormatError(f"decoding builds {n_slots:,} slots of tables, above the limit of {most:,}")


def needs_of(header: Header, transforms: Sequence[Sequence[Any]]) -> Needs:
    """What decoding takes; `transforms` are the stages of each part, in the order of `header.parts`.

    Raises CorruptArtifact where the header contradicts itself.
    """
    output = largest = products = 0
    chains = iter(transforms)
    tied = dict.fromkeys(header.aliases.values(), 0)
    for stored in header.aliases.values():
        tied[stored] += 1
    for tensor in header.tensors:
        try:
            values = [_values(part, next(chains)) for part in tensor.parts]
            result = _joined(tensor, values)
        except (ValueError, CorruptArtifact) as error:
            raise CorruptArtifact(f"the header does not describe {clipped(tensor.name)} ({error})") from None
        parts = sum(each.n_bytes for each in values)
        output += parts + (result if tensor.form != "plain" else 0) + result * tied.get(tensor.name, 0)
        if tensor.form != "plain":
            products += math.prod(tensor.shape) * tensor.parts[-1].shape[0]
        largest = max(largest, COPIES * (parts + result) + sum(part.layout.n_bytes for part in tensor.parts))
    _check_streams(header)
    symbols = sum(part.layout.n_bytes for _, part in header.parts)
    beside = sum(n_bytes for _, n_bytes in header.companions.files) if header.companions else 0
    coding = max(sum(pair) for chain in header.chains for pair in _steps(chain.lengths))
    held = symbols + header.side.lengths[0] + beside + max(coding, largest)
    return Needs(output + beside, held, products)


def _steps(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """What a chain holds at once, before and after each codec."""
    return zip(lengths, (*lengths[1:], 0), strict=True)


def _values(part: StoredPart, transforms: Sequence[SymbolTransform]) -> Values:
    """What a part gives. Raises ValueError or CorruptArtifact."""
    arrays, symbols = dict(part.arrays), part.layout
    for i, transform in reversed(list(enumerate(transforms))):
        layout_of = getattr(type(transform), "plain_layout", SymbolTransform.plain_layout)
        symbols = layout_of(transform, symbols, arrays.pop(f"@{i}", None))
    values = values_of(part.grid, part.params, symbols, arrays)
    n = math.prod(part.shape)
    if not n <= values.count <= n + values.spare:
        raise ValueError(f"{values.count} values for a part of shape {part.shape}")
    return values


def _joined(tensor: StoredTensor, values: Sequence[Values]) -> int:
    """Bytes of a tensor. Raises ValueError where its parts do not make its shape."""
    n, parts = math.prod(tensor.shape), tensor.parts
    if tensor.form != "factored" and math.prod(parts[0].shape) != n:
        raise ValueError(f"a part of shape {parts[0].shape} for a tensor of shape {tensor.shape}")
    if tensor.form == "plain":
        return values[0].n_bytes
    if any(each.dtype != "float32" for each in values):
        raise ValueError(f"a {tensor.form} tensor is of float32, its parts are {', '.join(v.dtype for v in values)}")
    A, B = parts[-2].shape, parts[-1].shape
    if len(A) != 2 or len(B) != 2 or A[1] != B[0] or A[0] * B[1] != n or A[1] > max(1, min(A[0], B[1])):
        raise ValueError(f"factors of shapes {A} and {B} for a tensor of shape {tensor.shape}")
    return 4 * n


def _check_streams(header: Header) -> None:
    """Raises CorruptArtifact where a stream is longer than what it holds; side information fills its own."""
    side = sum(part.n_side_bytes for _, part in header.parts)
    if side != header.side.lengths[0]:
        raise CorruptArtifact(f"side information declares {side} bytes, its stream {header.side.lengths[0]}")
    room = [ROOM] * len(header.streams)
    for _, part in header.parts:
        room[part.stream] += 2 * part.layout.n_bytes + ROOM_PER_PART
    for stream, most in zip(header.streams, room, strict=True):
        if stream.lengths[0] > most:
            raise CorruptArtifact(f"a stream of {stream.lengths[0]:,} bytes, where its symbols take {most:,} at most")
    for chain in header.chains:
        if max(chain.lengths) > 2 * chain.lengths[0] + ROOM:
            raise CorruptArtifact(f"a codec leaves {max(chain.lengths):,} bytes of {chain.lengths[0]:,}")
