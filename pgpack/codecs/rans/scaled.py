"""rANS with tables chosen by scale: every symbol's table is known from its row, its column and its trellis bit.

    class of (row, column) = row level + column level      levels: 2 log2 of the mean magnitude, whole numbers
    table = (class, b)                                     b: the superset of `pgpack.tensors.trellis`, 0 without
    a trellis

Tables are shared by all arrays of the stream: a matrix whose rows and columns differ in scale costs what its parts
cost, and side information is one small integer per row and column instead of a floating-point scale.

*Layout*; V is a LEB128 varint, Z a zigzag V, numbers little-endian:

 1. V length, then that many bytes: the levels of all non-empty arrays, columns then rows, as int8, by `rans`.
 2. V length of the tables. V precision (12 or 15), V n_classes, Z lowest class; for each class, for each b (one only
    without a trellis): V alphabet (0: no table); if there is one, Z lowest symbol and a byte k; then the Rice code of
    all levels as in `rans` point 3. Frequencies sum to 2^precision.
 3. Lane states, 4 bytes each, and words, 2 bytes each, as in `rans` point 6. Order: array by array, row by row,
    and within a row in runs of up to n_lanes columns; the j-th column of a run is in lane j. A class outside the
    range counts as the nearest end. n_lanes: the power of two at or below n / 2^13, clipped to 1 to 1024.

An array with other than two dimensions is folded to (-1, last dimension); a 1-d array is one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.base import SymbolCoder, SymbolLayout, Symbols
from pgpack.errors import CorruptArtifact, RecipeError
from pgpack.tensors.trellis import POLYNOMIALS, supersets, transitions

from .coder import Rans
from .lanes import LOWEST, n_lanes
from .models import Cursor, varint, zigzag
from .scaled_decoder import Decoder
from .scaled_tables import (
    FINE_PRECISION,
    MAX_ALPHABET,
    MAX_FINE_ALPHABET,
    PRECISION,
    Ints,
    Table,
    fitted_table,
    joined_tables,
    matrix_shape,
    n_slots,
    read_tables,
    take_section,
    write_tables,
)

PER_OCTAVE = 2
FLOOR = 2.0**-7  # mean magnitudes below this are one level
ROWS_AT_ONCE = 256  # of a matrix; bounds the 8-byte temporaries
FEW = 1 << 10  # symbols that a class needs to have a table of its own at either end of the range

Contexts = NDArray[np.unsignedinteger]  # uint8 where 256 tables are enough, for there is one per symbol


@dataclass(frozen=True, eq=False)
class _Classes:
    """Levels of one array. Shape: columns (cols,), rows (rows,) int8."""

    columns: NDArray[np.int8]
    rows: NDArray[np.int8]

    def of(self, lowest: int, n_classes: int) -> NDArray[np.int16]:
        """Class index of every symbol, counted from `lowest`. Shape: (rows, cols)."""
        index: NDArray[np.int16] = self.rows.astype(np.int16)[:, None] + self.columns
        index -= np.int16(lowest)
        return np.clip(index, 0, n_classes - 1, out=index)


@dataclass(frozen=True, eq=False)
class _Model:
    """All arrays of a stream that are not empty, as matrices, with the table of every symbol.

    `counts`: for each matrix (places, how often) of every pair of context and symbol that occurs in it.
    """

    matrices: Sequence[Symbols]
    classes: Sequence[_Classes]
    tables: Sequence[Table | None]
    precision: int
    span: _Span
    counts: Sequence[tuple[Ints, Ints]]


@dataclass(frozen=True)
class _Span:
    """How contexts and symbols are numbered; `width` tables per class, `states` of the trellis or 0."""

    lowest: int
    n_classes: int
    states: int
    low: int
    size: int

    @property
    def width(self) -> int:
        return 2 if self.states else 1

    @property
    def n_contexts(self) -> int:
        return self.n_classes * self.width

    def contexts(self, classes: _Classes, matrix: Symbols) -> Contexts:
        """The table of every symbol. Shape: as `matrix`.

        Worked out anew whenever it is needed: a byte per symbol of everything at once would be too much.
        """
        narrow = np.uint8 if self.n_contexts <= 256 else np.uint16
        index = classes.of(self.lowest, self.n_classes) * self.width
        contexts: Contexts = (index + _bits(matrix, self.states)).astype(narrow)
        return contexts


def _bits(matrix: Symbols, states: int) -> NDArray[np.uint8]:
    return supersets(matrix, states) if states else np.zeros(matrix.shape, np.uint8)


@dataclass(frozen=True)
class RansScaled(SymbolCoder):
    """Entropy coder for matrices whose rows and columns differ in scale; `states` > 0 for trellis symbols.

    Use when: rows and columns differ in scale, as those of `tcq` do; there `rans` takes 20 % more.
    """

    states: int = 0

    def __post_init__(self) -> None:
        if self.states and self.states not in POLYNOMIALS:
            known = ", ".join(map(str, POLYNOMIALS))
            raise RecipeError(f"rans_scaled needs states of 0 (no trellis) or {known}, found {self.states}")

    def encode(self, arrays: Sequence[Symbols]) -> bytes:
        return self._encoded(self._fit(arrays))

    def encode_priced(self, arrays: Sequence[Symbols]) -> tuple[bytes, list[float]]:
        """`encode` and `ideal_bits` by one model."""
        model = self._fit(arrays)
        return self._encoded(model), _spread(_costs(model), arrays)

    def _encoded(self, model: _Model) -> bytes:
        levels = Rans().encode([part for c in model.classes for part in (c.columns, c.rows)])
        described = varint(model.precision) + varint(model.span.n_classes) + varint(zigzag(model.span.lowest))
        described += write_tables(model.tables)
        head = [varint(len(levels)), levels, varint(len(described)), described]
        return b"".join([*head, *_encode(model)])

    def n_slots(self, data: memoryview) -> int:
        """Of all tables. Raises CorruptArtifact."""
        cursor = Cursor(data)
        take_section(data, cursor)
        return n_slots(take_section(data, cursor), self._width)

    def decode(self, data: bytes, layouts: Sequence[SymbolLayout]) -> list[Symbols]:
        return list(self.decode_each(memoryview(data), layouts))

    def decode_each(self, data: memoryview, layouts: Sequence[SymbolLayout]) -> Iterator[Symbols]:
        """`decode`, an array at a time; what is wrong at the end of the stream is found behind the last."""
        filled = [layout for layout in layouts if layout.size]
        shapes = [matrix_shape(layout.shape) for layout in filled]
        cursor = Cursor(data)
        sides = [SymbolLayout((n,), "|i1") for rows, cols in shapes for n in (cols, rows)]
        levels = Rans().decode(take_section(data, cursor), sides)
        classes = [_Classes(levels[i], levels[i + 1]) for i in range(0, len(levels), 2)]
        tables, precision, lowest, n_classes = read_tables(take_section(data, cursor), self._width)
        n = sum(layout.size for layout in filled)
        decoder = Decoder(data[cursor.position :], tables, self._width, precision, n)
        trellis, each = transitions(self.states) if self.states else None, iter(classes)
        least = most = 0
        decoded = False
        for layout in layouts:
            if not layout.size:
                yield np.zeros(layout.shape, layout.dtype)
                continue
            c = next(each)
            row_levels, which = np.unique(c.rows, return_inverse=True)
            matrix = decoder.matrix(_Classes(c.columns, row_levels).of(lowest, n_classes), which, trellis)
            own, info = (int(matrix.min()), int(matrix.max())), np.iinfo(layout.dtype)
            least, most = (min(least, own[0]), max(most, own[1])) if decoded else own
            decoded = True
            if own[0] < info.min or own[1] > info.max or most - least >= MAX_FINE_ALPHABET:
                raise CorruptArtifact(f"a decoded symbol does not fit {layout.dtype}, or others of its stream")
            yield matrix.astype(layout.dtype).reshape(layout.shape)
        decoder.finish()

    def ideal_bits(self, arrays: Sequence[Symbols]) -> list[float]:
        """Cross-entropy of each array under the shared tables; levels and tables are left out (a few per mille)."""
        return _spread(_costs(self._fit(arrays)), arrays)

    def _fit(self, arrays: Sequence[Symbols]) -> _Model:
        matrices = [array.reshape(matrix_shape(array.shape)) for array in arrays if array.size]
        classes = [_classes_of(matrix, _bits(matrix, self.states), bool(self.states)) for matrix in matrices]
        span = _Span(*_class_range(classes), self.states, *_alphabet(matrices))
        tables, precision, counts = _fit_tables(matrices, classes, span)
        return _Model(matrices, classes, tables, precision, span, counts)

    @property
    def _width(self) -> int:
        """Tables per class."""
        return 2 if self.states else 1


def _spread(costs: Sequence[float], arrays: Sequence[Symbols]) -> list[float]:
    """The costs of the arrays that are not empty among those of all."""
    rest = iter(costs)
    return [next(rest) if array.size else 0.0 for array in arrays]


def _classes_of(matrix: Symbols, bits: NDArray[np.uint8], trellis: bool) -> _Classes:
    """Row and column levels from the mean magnitudes, columns first, rows relative to their columns."""
    magnitude = matrix.astype(np.float32)
    if trellis:
        magnitude *= 2
        magnitude += bits
    np.abs(magnitude, out=magnitude)
    if trellis:
        magnitude /= 2
    columns = _levels(magnitude.mean(axis=0, dtype=np.float64))
    magnitude /= np.exp2(columns / PER_OCTAVE).astype(np.float32)
    return _Classes(columns, _levels(magnitude.mean(axis=1, dtype=np.float64)))


def _levels(means: NDArray[np.float64]) -> NDArray[np.int8]:
    octaves = np.rint(PER_OCTAVE * np.log2(np.maximum(means, FLOOR)))
    levels: NDArray[np.int8] = np.clip(octaves, -120, 120).astype(np.int8)
    return levels


def _class_range(classes: Sequence[_Classes]) -> tuple[int, int]:
    """(lowest class, number of classes); thin classes at the ends join their neighbours."""
    counts = np.zeros(512, np.int64)
    for c in classes:
        # the classes of a matrix are all sums of a row level and a column level
        rows = np.bincount(c.rows.astype(np.int64) + 128, minlength=256)
        columns = np.bincount(c.columns.astype(np.int64) + 128, minlength=256)
        counts[:511] += np.convolve(rows, columns)
    if not counts.any():
        return 0, 1
    first = int(np.searchsorted(np.cumsum(counts), min(FEW, counts.sum())))
    last = 511 - int(np.searchsorted(np.cumsum(counts[::-1]), min(FEW, counts.sum())))
    return first - 256, max(1, last - first + 1)


def _alphabet(matrices: Sequence[Symbols]) -> tuple[int, int]:
    """(lowest symbol, number of symbols from it to the largest). Raises RecipeError where there are too many."""
    if not matrices:
        return 0, 1
    low = min(int(matrix.min()) for matrix in matrices)
    size = max(int(matrix.max()) for matrix in matrices) - low + 1
    if size > MAX_FINE_ALPHABET:
        raise RecipeError(
            f"symbols span {size} values, above the {MAX_FINE_ALPHABET} of rans_scaled; use a coarser step, or rans"
        )
    return low, size


def _fit_tables(
    matrices: Sequence[Symbols], classes: Sequence[_Classes], span: _Span
) -> tuple[list[Table | None], int, list[tuple[Ints, Ints]]]:
    """One table per context that occurs, the precision of all, and the counts of each matrix."""
    precision = PRECISION if span.size <= MAX_ALPHABET else FINE_PRECISION
    counts = np.zeros((span.n_contexts, span.size), np.int64)
    kept = []
    for matrix, c in zip(matrices, classes, strict=True):
        own = _counts(matrix, span.contexts(c, matrix), span.n_contexts, span.low, span.size)
        counts += own
        places = np.flatnonzero(own)
        kept.append((places, own.reshape(-1)[places]))
    return [fitted_table(row, span.low, precision) for row in counts], precision, kept


def _counts(matrix: Symbols, context: Contexts, n: int, low: int, size: int) -> Ints:
    """How often each symbol occurs in each context. Shape: (n, size)."""
    counts = np.zeros(n * size, np.int64)
    for rows in range(0, len(matrix), ROWS_AT_ONCE):
        index = context[rows : rows + ROWS_AT_ONCE].astype(np.int64)
        index *= size
        index += matrix[rows : rows + ROWS_AT_ONCE]
        counts += np.bincount((index - low).reshape(-1), minlength=n * size)
    return counts.reshape(n, size)


def _costs(model: _Model) -> list[float]:
    """Bits of each matrix under the tables."""
    kept = [table for table in model.tables if table is not None]
    if not kept:
        return [0.0] * len(model.matrices)
    low = min(table.low for table in kept)
    size = max(table.low + table.levels.size for table in kept) - low
    bits = np.zeros((len(model.tables), size))
    for row, table in zip(bits, model.tables, strict=True):
        if table is not None:
            at = table.low - low
            row[at : at + table.levels.size] = model.precision - np.log2(np.maximum(table.freqs, 1))
    found = []
    for places, often in model.counts:
        context, symbol = np.divmod(places, model.span.size)
        counts = np.zeros((len(bits), size), np.int64)
        counts[context, symbol + model.span.low - low] = often
        found.append(float((counts * bits).sum()))
    return found


def _encode(model: _Model) -> list[bytes]:
    """Lane states, then words in decoding order."""
    if not model.matrices:
        return []
    offsets, freqs, starts = joined_tables(model.tables)
    from .scaled_encoder import encode_band

    states = np.full(n_lanes(sum(matrix.size for matrix in model.matrices)), LOWEST, np.uint32)
    parts = []
    for matrix, classes in zip(reversed(model.matrices), reversed(model.classes), strict=True):
        narrow = matrix if matrix.dtype in (np.int8, np.int16) else matrix.astype(np.int64)
        words = np.empty(matrix.size, np.uint16)  # a symbol emits at most one, because precision <= 16
        contexts = model.span.contexts(classes, matrix)
        ordered = np.ascontiguousarray(narrow)
        reach = np.full(len(ordered), ordered.shape[1])
        begin = encode_band(ordered, contexts, reach, offsets, freqs, starts, model.precision, states, words)
        parts.append(words[begin:].astype("<u2").tobytes())
    return [states.astype("<u4").tobytes(), *reversed(parts)]
