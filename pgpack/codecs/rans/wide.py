"""rANS for whole models: tables chosen by scale, symbols of any range, steps across many matrices.

    class of (row, column) = row level + column level      levels: 4 log2 of the mean magnitude, whole numbers
    symbol = head * 2^shift + tail                         shift: 0 up to class 16, then a bit for every 4 classes
    table = (class - 4 shift, b)                           b: the superset of `pgpack.tensors.trellis`, 0 without one

As `rans_scaled`, with levels twice as fine, and nothing refused: what is large has its lowest bits stored as they are
(`wide_split`), and what is out of the reach of its table is listed. Matrices stand side by side (`wide_bands`).

*Layout*; V is a LEB128 varint, Z a zigzag V, numbers little-endian:

 1. V number of escapes (of n symbols at most n / 12 + 65,536). V length, then that many bytes by `rans`: for every
    non-empty array the levels of its columns and of its rows as int8, and where it is cut the trellis states (uint8)
    in which the columns of all pieces but the first begin; after all arrays, where there are escapes, their places as
    int64 (each less the one before and 1; the first as it is; counted through all arrays, row by row) and what is to
    be added to each head as int64, in units of twice the reach of its class.
 2. V length of the tails. For each array, for each shift above 0 from small to large: the tails of all symbols of
    that shift, row by row, each highest bit first, padded to whole bytes.
 3. V length of the tables, which are those of `rans_scaled` point 2 with a precision of 12, of heads from -256 to
    255. Then for each class a byte, log2 of its reach.
 4. Lane states, 4 bytes each, and words, 2 bytes each, as in `rans` point 6. Order: band by band, row by row of the
    band, its columns in runs of up to n_lanes; the j-th column of a run is in lane j. A class below the range of the
    tables counts as its lowest, one above as its highest. n_lanes: the power of two at or below n / 2^14, clipped to
    1 to 4096.
 5. Bands. A matrix is cut into min(n_lanes / columns, rows / 4096) pieces (whole numbers; at least 1) of as many rows
    each, rounded up; the last has what is left. A band holds the pieces of consecutive matrices, as many as have
    n_lanes columns at most, or of one; pieces stand side by side by falling height, equal ones in order. Row r of a
    band has the columns of the pieces that have a row r.

An array with other than two dimensions is folded to (-1, last dimension); a 1-d array is one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pgpack.codecs.base import SymbolCoder, SymbolLayout, Symbols
from pgpack.errors import CorruptArtifact, RecipeError
from pgpack.tensors.trellis import POLYNOMIALS, transitions

from .models import Cursor
from .scaled_tables import PRECISION, matrix_shape, n_slots, read_tables, take_section
from .wide_bands import bands, n_lanes
from .wide_decoder import Decoder, Lookup
from .wide_model import WideModel
from .wide_side import Side
from .wide_split import REACH, REACH_BITS, Large, joined, read_tails, table_classes


@dataclass(frozen=True)
class RansWide(SymbolCoder):
    """Entropy coder for many matrices whose rows and columns differ in scale; `states` > 0 for trellis symbols.

    Use when: as `rans_scaled`, where the model has more than a few million weights: smaller, and decoded several
    times as fast; or symbols may be of any range.
    """

    states: int = 0

    def __post_init__(self) -> None:
        if self.states and self.states not in POLYNOMIALS:
            known = ", ".join(map(str, POLYNOMIALS))
            raise RecipeError(f"rans_wide needs states of 0 (no trellis) or {known}, found {self.states}")

    def encode(self, arrays: Sequence[Symbols]) -> bytes:
        return WideModel.of(arrays, self.states).encoded()

    def encode_priced(self, arrays: Sequence[Symbols]) -> tuple[bytes, list[float]]:
        """`encode` and `ideal_bits` by one model."""
        model = WideModel.of(arrays, self.states)
        return model.encoded(), model.spread_costs(arrays)

    def ideal_bits(self, arrays: Sequence[Symbols]) -> list[float]:
        """Cross-entropy of each array under the shared tables, and its tails; levels, tables and escapes are left
        out (a few per mille)."""
        return WideModel.of(arrays, self.states).spread_costs(arrays)

    def n_slots(self, data: memoryview) -> int:
        """Of all tables. Raises CorruptArtifact."""
        cursor = Cursor(data)
        cursor.varint()
        for _ in range(2):
            take_section(data, cursor)
        return n_slots(take_section(data, cursor), self._width)

    def decode(self, data: bytes, layouts: Sequence[SymbolLayout]) -> list[Symbols]:
        return list(self.decode_each(memoryview(data), layouts))

    def decode_each(self, data: memoryview, layouts: Sequence[SymbolLayout]) -> Iterator[Symbols]:
        """`decode`, some matrices at a time; what is wrong at the end of the stream is found behind the last."""
        filled = [layout for layout in layouts if layout.size]
        each = self._decoded(data, filled)
        for layout in layouts:
            yield next(each).reshape(layout.shape) if layout.size else np.zeros(layout.shape, layout.dtype)
        next(each, None)  # to the end, where the stream is checked

    @property
    def _width(self) -> int:
        """Tables per class."""
        return 2 if self.states > 1 else 1

    def _decoded(self, data: memoryview, layouts: Sequence[SymbolLayout]) -> Iterator[Symbols]:
        """The matrices of the layouts, none of them empty."""
        shapes = [matrix_shape(layout.shape) for layout in layouts]
        lanes = n_lanes(sum(layout.size for layout in layouts)) if layouts else 0
        cursor, width = Cursor(data), self._width
        side = Side.read(data, cursor, shapes, lanes, self.states > 1)
        tails = memoryview(take_section(data, cursor))
        tables, precision, lowest, n_classes = read_tables(take_section(data, cursor), width)
        begin = cursor.position + n_classes
        reach = np.frombuffer(data[cursor.position : begin], np.uint8)
        far = [table for table in tables if table and not -REACH <= table.low <= REACH - table.levels.size]
        if precision != PRECISION or reach.size < n_classes or (reach > REACH_BITS).any() or far:
            raise CorruptArtifact("a wide rANS stream has tables out of range")
        decoder = Decoder(data[begin:], tables, precision, lanes, transitions(self.states or 1))
        for band in bands(shapes, lanes):
            lookups = []
            for m in band.matrices:
                columns, rows = side.columns[m], side.rows[m]
                large = Large.of(columns, rows)
                values, read = read_tails(tails, large)
                tails = tails[read:]
                levels, which = np.unique(rows, return_inverse=True)
                classes = table_classes(levels.astype(np.int16)[:, None] + columns)
                bases = (np.clip(classes - lowest, 0, n_classes - 1) * width).astype(np.uint16)
                lookups.append(Lookup(bases, which.reshape(-1), side.starts[m], large, values))
            heads = decoder.band(band, lookups)
            for m, lookup in zip(band.matrices, lookups, strict=True):
                matrix = np.empty(shapes[m], np.int16)
                for piece in band.pieces:
                    if piece.matrix == m:
                        matrix[piece.down] = heads[: piece.rows, piece.columns]
                places, multiples = side.escapes(m)
                row, column = np.divmod(places, shapes[m][1])
                bits = reach[lookup.bases[lookup.levels[row], column] // width].astype(np.int64)
                more = multiples << (bits + 1)
                yield joined(matrix, lookup.large, lookup.tails, places, more, np.dtype(layouts[m].dtype))
        if len(tails):
            raise CorruptArtifact("a wide rANS stream has tails that belong to no symbol")
        decoder.finish()
