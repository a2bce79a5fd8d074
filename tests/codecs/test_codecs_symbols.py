"""Symbol coders of fixed width and symbol transforms: shared contracts and exact costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgpack.codecs.fixed_width import CHUNK, HEADER_BYTES, BitPack, BitPlanes, Raw
from pgpack.codecs.order import RowSort, Transpose
from pgpack.errors import CorruptArtifact
from tests.contracts.check_codecs import check_coder, check_same, check_symbol_transform, layouts_of

INTEGERS = st.one_of(hnp.integer_dtypes(), hnp.unsigned_integer_dtypes())
ARRAYS = st.lists(hnp.arrays(INTEGERS, hnp.array_shapes(min_dims=0, min_side=0, max_side=6)), max_size=4)


@pytest.mark.parametrize("coder", [Raw(), BitPack(), BitPlanes()], ids=repr)
def test_fixed_width_coders_keep_their_contract(coder):
    check_coder(coder)


@pytest.mark.parametrize("coder", [BitPack(), BitPlanes()], ids=repr)
def test_chunk_borders_do_not_show(coder):
    rng = np.random.default_rng(2)
    arrays = [rng.integers(-5, 6, n).astype(np.int8) for n in (CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 9)]
    coded = coder.encode(arrays)
    check_same(coder.decode(coded, layouts_of(arrays)), arrays)
    if isinstance(coder, BitPack):
        assert 8 * len(coded) - sum(coder.ideal_bits(arrays)) < 8 * len(arrays)


def test_bitpack_writes_msb_first():
    coded = BitPack().encode([np.array([-2, 5, 0], np.int8)])  # codes 0, 7, 2 in 3 bits
    assert coded == (-2).to_bytes(8, "little", signed=True) + b"\3" + bytes([0b00011101, 0b00000000])


def test_bitplanes_writes_high_planes_first():
    coded = BitPlanes().encode([np.array([-2, 5, 0], np.int8)])
    assert coded[HEADER_BYTES:] == bytes([0b01000000, 0b01100000, 0b01000000])


@given(st.sampled_from([Raw(), BitPack(), BitPlanes()]), ARRAYS)
@settings(max_examples=100, deadline=None)
def test_any_integers_round_trip(coder, arrays):
    found = coder.decode(coder.encode(arrays), layouts_of(arrays))
    for a, b in zip(found, arrays, strict=True):
        assert a.shape == b.shape
        assert np.array_equal(a, b)


@pytest.mark.parametrize("transform", [Transpose(), RowSort()], ids=repr)
def test_symbol_transforms_keep_their_contract(transform):
    check_symbol_transform(transform)


def test_transpose_stores_columns():
    forward, _ = Transpose().forward(np.arange(6, dtype=np.int8).reshape(2, 3))
    assert forward.tobytes() == bytes([0, 3, 1, 4, 2, 5])


@pytest.mark.parametrize(("dtype", "scale"), [("i1", 3), ("i2", 900), ("i8", 1 << 40)])
def test_row_sort_equals_a_naive_greedy_search(dtype, scale):
    rng = np.random.default_rng(4)
    matrix = np.rint(rng.standard_normal((150, 6)) * scale).astype(dtype)
    matrix[40:60] = matrix[:20]  # ties
    order, left = [0], list(range(1, 150))
    while left:
        gaps = [sum(abs(int(a) - int(b)) for a, b in zip(matrix[order[-1]], matrix[i], strict=True)) for i in left]
        order.append(left.pop(gaps.index(min(gaps))))
    forward, side = RowSort().forward(matrix)
    assert side is not None
    assert side.dtype == np.dtype("<u2")
    assert side.tolist() == order
    assert np.array_equal(forward, matrix[order])


@pytest.mark.parametrize("side", [None, [0, 1], [0, 1, 1], [0, 1, 3], [[0, 1, 2]], [0, -1, 2]])
def test_row_sort_refuses_what_is_no_permutation(side):
    array = None if side is None else np.array(side, np.int16 if -1 in side else np.uint16)
    with pytest.raises(CorruptArtifact, match="row"):
        RowSort().inverse(np.zeros((3, 2), np.int8), array)
