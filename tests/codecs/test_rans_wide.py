"""`rans_wide`: the coders' contract, symbols of any range, matrices side by side, and no bytes lost on the way."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pgpack.codecs.base import SymbolLayout
from pgpack.codecs.rans import wide_bands, wide_decoder, wide_side
from pgpack.codecs.rans.coder import Rans
from pgpack.codecs.rans.models import Cursor, varint
from pgpack.codecs.rans.scaled import RansScaled
from pgpack.codecs.rans.wide import RansWide
from pgpack.codecs.rans.wide_bands import bands, heights
from pgpack.codecs.rans.wide_side import Side
from pgpack.errors import CorruptArtifact, RecipeError
from pgpack.tensors.trellis import POLYNOMIALS, states_at, supersets, transitions
from tests.contracts.check_codecs import check_coder, check_same, layouts_of


@pytest.fixture
def few_symbols_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of many matrices and cut ones, without the millions of symbols that they are for."""
    monkeypatch.setattr(wide_bands, "STEPS_PER_LANE", 64)
    monkeypatch.setattr(wide_bands, "SHORTEST", 40)


def model_like(seed: int = 3) -> list[np.ndarray]:
    """Matrices of several heights and widths whose rows and columns differ in scale."""
    rng = np.random.default_rng(seed)
    shapes = [(60, 50), (700, 8), (20, 30), (33, 200), (130, 70), (1, 9), (5, 1)]
    found = []
    for rows, cols in shapes:
        scales = 2 * np.exp(rng.normal(0, 1, (rows, 1))) * np.exp(rng.normal(0, 1, cols))
        found.append(np.rint(rng.standard_normal((rows, cols)) * scales).astype(np.int16))
    return [*found, np.zeros((0, 3), np.int8), np.rint(rng.normal(0, 2, (3, 4, 5))).astype(np.int8)]


@pytest.mark.parametrize("states", [0, 8])
def test_contract(states: int) -> None:
    check_coder(RansWide(states))


@pytest.mark.parametrize("states", [0, 1, 4, 8, 64, 256])
@pytest.mark.usefixtures("few_symbols_a_lane")
def test_matrices_side_by_side_and_cut_ones_come_back(states: int) -> None:
    arrays = model_like()
    cut = bands([array.shape for array in arrays[:7]], wide_bands.n_lanes(sum(array.size for array in arrays)))
    assert max(len(band.matrices) for band in cut) > 1
    assert max(piece.number for band in cut for piece in band.pieces) > 0
    coder = RansWide(states)
    data = coder.encode(arrays)
    check_same(coder.decode(data, layouts_of(arrays)), arrays)
    assert sum(coder.ideal_bits(arrays)) / 8 <= len(data)
    assert coder.encode_priced(arrays) == (data, coder.ideal_bits(arrays))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("states", [0, 8])
@pytest.mark.usefixtures("few_symbols_a_lane")
def test_any_symbols_are_taken_and_few_large_ones_cost_little(dtype: str, states: int) -> None:
    """A column, a row and single symbols as large as the type holds, in and out of that column and row."""
    info, rng = np.iinfo(dtype), np.random.default_rng(6)
    plain = (rng.integers(0, 7, (90, 80)) - (3 if info.min else 0)).astype(dtype)
    large = plain.copy()
    large[:, 7] = rng.integers(info.min, info.max, 90, dtype=dtype, endpoint=True)
    large[11] = rng.integers(info.min, info.max, 80, dtype=dtype, endpoint=True)
    large[40, 7], large[11, 50], large[30, 31], large[89, 79] = info.max, info.min, info.min, info.max
    arrays = [plain, large, plain[:20]]
    coder = RansWide(states)
    data = coder.encode(arrays)
    check_same(coder.decode(data, layouts_of(arrays)), arrays)
    more = len(data) - len(coder.encode([plain, plain, plain[:20]]))
    if info.dtype.itemsize <= 2:  # what quantizers give
        assert more < 170 * info.dtype.itemsize + 400  # 170 symbols as they are


def test_one_symbol_out_of_reach_costs_little_and_is_not_refused() -> None:
    """It is listed, and only its own row and column have coarser tables for it."""
    rng = np.random.default_rng(8)
    symbols = np.rint(rng.normal(0, 2, (300, 200))).astype(np.int16)
    far = symbols.copy()
    far[123, 45] = 20_000
    with pytest.raises(RecipeError, match="span"):
        RansScaled(8).encode([far])
    assert len(RansWide(8).encode([far])) - len(RansWide(8).encode([symbols])) < 200


def test_scaled_gaussians_cost_their_entropy_at_any_scale() -> None:
    """Within 1.5 % of the differential entropy, also far above what tables reach."""
    rng = np.random.default_rng(5)
    for scale in (3, 60, 4000):
        scales = np.exp(rng.normal(0, 0.7, (400, 1))) * np.exp(rng.normal(0, 0.7, 600)) * scale
        symbols = np.rint(rng.standard_normal((400, 600)) * scales).astype(np.int32)
        entropy = np.mean(np.log2(scales * np.sqrt(2 * np.pi * np.e)))
        found = 8 * len(RansWide().encode([symbols])) / symbols.size
        assert entropy - 0.02 < found < 1.015 * entropy + 0.03


def test_it_is_smaller_than_rans_scaled_on_many_matrices() -> None:
    rng = np.random.default_rng(9)
    arrays = []
    for _ in range(6):
        scales = np.exp(rng.normal(0, 0.5, (256, 1))) * np.exp(rng.normal(0, 0.5, 256)) * 1.5
        arrays.append(np.rint(rng.standard_normal((256, 256)) * scales).astype(np.int8))
    assert len(RansWide(8).encode(arrays)) < 0.997 * len(RansScaled(8).encode(arrays))


@pytest.mark.usefixtures("few_symbols_a_lane")
def test_damaged_streams_decode_to_something_or_are_corrupt() -> None:
    rng = np.random.default_rng(4)
    arrays = model_like()[:4]
    arrays[2] = arrays[2].astype(np.int32) * 90_000
    coder, layouts = RansWide(8), layouts_of(arrays)
    data = bytearray(coder.encode(arrays))
    refused = 0
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(CorruptArtifact):
            coder.decode(bytes(data[:cut]), layouts)
    for at in [*range(60), *rng.integers(len(data), size=60).tolist()]:
        bit = 1 << int(rng.integers(8))
        data[at] ^= bit
        try:
            assert [a.shape for a in coder.decode(bytes(data), layouts)] == [a.shape for a in arrays]
        except CorruptArtifact:
            refused += 1
        data[at] ^= bit
    assert refused > 60


def test_a_matrix_is_cut_where_there_is_room() -> None:
    assert heights(49_152, 576, 4096) == [7022] * 6 + [7020]
    assert heights(49_152, 3000, 4096) == [49_152]
    assert heights(1536, 64, 4096) == [1536]
    assert sum(heights(8193, 1, 4096)) == 8193
    assert [band.matrices for band in bands([(9, 3000), (8, 1000), (7, 97), (6, 5000), (5, 1)], 4096)] == [
        range(2),
        range(2, 3),
        range(3, 4),
        range(4, 5),
    ]


@pytest.mark.parametrize("states", POLYNOMIALS)
def test_the_state_above_a_row_is_known_without_walking_there(states: int) -> None:
    symbols = np.random.default_rng(1).integers(-9, 9, (40, 7)).astype(np.int8)
    bits, state = supersets(symbols, states), np.zeros(7, np.intp)
    for row in range(40):
        if row == 0 or row >= 8:
            np.testing.assert_array_equal(states_at(symbols, bits, row, states), state)
        state = transitions(states)[state, symbols[row] & 1].astype(np.intp)


def test_unknown_states_and_foreign_tables_are_refused() -> None:
    with pytest.raises(RecipeError, match="rans_wide needs states"):
        RansWide(7)
    array = np.zeros((4, 4), np.int8)
    with pytest.raises(CorruptArtifact):
        RansWide().decode(RansScaled().encode([array]), [SymbolLayout((4, 4), "|i1")])


class Counted(list[tuple[int, int]]):
    """Shapes that count how many of them were asked for."""

    asked = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        self.asked += len(found) if isinstance(at, slice) else 1
        return found

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self.asked += len(self)
        return super().__iter__()


def test_where_the_escapes_of_a_matrix_begin_is_not_counted_anew_for_each() -> None:
    """32,768 matrices in a stream took half a minute, nearly all of it sums over those before."""
    shapes = Counted([(1, 2)] * 1000)
    none = [np.zeros(0, np.int8)] * 1000
    side = Side(shapes, none, none, none, np.arange(0, 2000, 2), np.ones(1000, np.int64))
    assert all(side.escapes(m)[0].tolist() == [0] for m in range(1000))
    assert shapes.asked <= 3000


def escaped(n: int, n_escapes: int) -> bytes:
    """A stream of zeros, the first of which are listed as escapes."""
    whole = RansWide().encode([np.zeros((1, n), np.int8)])
    cursor = Cursor(whole)
    assert cursor.varint() == 0
    length = cursor.varint()
    listed = [np.zeros(n, np.int8), np.zeros(1, np.int8), *[np.zeros(n_escapes, np.int64)] * 2]
    side = Rans().encode(listed)
    return varint(n_escapes) + varint(len(side)) + side + whole[cursor.position + length :]


@pytest.mark.parametrize(("n_escapes", "refused"), [(3, False), (4, True), (12, True), (13, True)])
def test_no_more_escapes_than_the_scales_of_rows_and_columns_allow(
    monkeypatch: pytest.MonkeyPatch, n_escapes: int, refused: bool
) -> None:
    """Each takes 100 bytes, which 300 kB of file could ask for 16 million times."""
    monkeypatch.setattr(wide_side, "FREE_ESCAPES", 2)
    layouts = [SymbolLayout((1, 12), "|i1")]
    if refused:
        with pytest.raises(CorruptArtifact, match=f"{n_escapes} escapes among 12 symbols"):
            RansWide().decode(escaped(12, n_escapes), layouts)
    else:
        check_same(RansWide().decode(escaped(12, n_escapes), layouts), [np.zeros((1, 12), np.int8)])


@pytest.mark.parametrize("spread", [0.5, 2.0, 8.0, 30.0])
def test_what_is_encoded_has_few_escapes(monkeypatch: pytest.MonkeyPatch, spread: float) -> None:
    """One far symbol in each row and column, rows and columns of any scale, none of it free."""
    monkeypatch.setattr(wide_side, "FREE_ESCAPES", 0)
    rng = np.random.default_rng(int(spread))
    scales = np.exp(rng.normal(0, spread, (256, 1))) * np.exp(rng.normal(0, spread, 256))
    far = np.where(np.eye(256, dtype=bool), 1e6, rng.normal(0, 1, (256, 256)))
    array = np.clip(np.rint(far * scales), -1e18, 1e18).astype(np.int64)
    check_same(RansWide().decode(RansWide().encode([array]), layouts_of([array])), [array])


@pytest.mark.parametrize("states", [0, 8])
def test_a_wide_row_is_decoded_some_columns_at_a_time(monkeypatch: pytest.MonkeyPatch, states: int) -> None:
    arrays, coder = model_like(), RansWide(states)
    arrays.append(arrays[3].astype(np.int32) * 4000)  # with tails
    data = coder.encode(arrays)
    monkeypatch.setattr(wide_decoder, "COLUMNS", 7)
    check_same(coder.decode(data, layouts_of(arrays)), arrays)


def test_a_row_of_millions_holds_few_bytes_a_symbol() -> None:
    """A file of 223 bytes, one row of 64 MiB, took 5.7 GB: 86 bytes for each symbol."""
    n = 1 << 20
    array = np.zeros((1, n), np.int8)
    data = RansWide().encode([array])
    tracemalloc.start()
    try:
        check_same(RansWide().decode(data, [SymbolLayout(array.shape, "|i1")]), [array])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * n
