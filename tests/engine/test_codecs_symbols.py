"""Symbol coders of fixed width and symbol transforms: shared contracts and exact costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgpack.codecs.fixed_width import CHUNK, HEADER_BYTES, BitPack, BitPlanes, Raw
from tests.contracts.check_codecs import check_coder, check_same, layouts_of

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
