"""rANS: contract, layout as documented, cost against the model, the Shannon sum and constriction."""

from __future__ import annotations

import math
import time
import tracemalloc

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgpack.codecs import CODERS
from pgpack.codecs.base import SymbolLayout
from pgpack.codecs.rans import lanes, scaled_decoder
from pgpack.codecs.rans.coder import Rans
from pgpack.codecs.rans.lanes import BLOCK, FEW_LANES, n_lanes
from pgpack.codecs.rans.models import plan_array, write_models
from pgpack.codecs.rans.scaled import RansScaled
from pgpack.codecs.rans.tables import (
    frequencies,
    levels_from,
    levels_of,
    residuals,
    rice_decode,
    rice_encode,
    rice_parameter,
)
from pgpack.errors import CorruptArtifact, RecipeError
from pgpack.stages import parse_stage
from tests.contracts.check_codecs import check_coder, check_same, layouts_of


def gaussian(n: int, sigma: float = 2.4, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(n, dtype=np.float32) * sigma
    return np.clip(np.rint(values), -127, 127).astype(np.int8)


def shannon_bits(array: np.ndarray) -> float:
    counts = np.unique(array, return_counts=True)[1]
    return float(-(counts * np.log2(counts / array.size)).sum())


@pytest.mark.parametrize("precision", [12, 14, 15])
def test_rans_keeps_its_contract(precision):
    check_coder(Rans(precision), flips=6)


@pytest.mark.parametrize("precision", [0, 11, 16])
def test_precision_out_of_range_is_refused(precision):
    with pytest.raises(RecipeError, match="12 to 15"):
        parse_stage(f"rans(precision={precision})", CODERS)


@pytest.mark.parametrize("precision", [12, 14, 15])
@pytest.mark.parametrize(("n", "sigma"), [(300, 2.4), (9000, 0.3), (40_000, 20), (300_000, 2.4)])
def test_rans_within_64_bits_per_lane_of_model_cost(n, sigma, precision):
    arrays = [gaussian(n, sigma, seed) for seed in (1, 2)]
    coder = Rans(precision)
    excess = 8 * len(coder.encode(arrays)) - sum(coder.ideal_bits(arrays))
    assert 0 <= excess <= 64 * n_lanes(2 * n)


def test_a_million_gaussian_symbols_cost_their_entropy_and_a_tenth_of_a_percent():
    array = gaussian(1_000_000)
    assert shannon_bits(array) < 8 * len(Rans().encode([array])) < 1.001 * shannon_bits(array)


def test_rans_costs_no_more_than_constriction_and_its_tables_and_lanes():
    array = gaussian(200_000, 5)
    counts = np.bincount(array.astype(np.int64) + 127)
    model = constriction.stream.model.Categorical(counts / counts.sum(), perfect=True)
    peer = constriction.stream.stack.AnsCoder()
    peer.encode_reverse(array.astype(np.int32) + 127, model)
    ours = 8 * len(Rans().encode([array]))
    assert ours < peer.num_bits() + 40 * n_lanes(array.size) + 8 * counts.size
    assert Rans().ideal_bits([array])[0] == pytest.approx(peer.num_bits(), rel=0.001)


def test_sixty_seven_tables_cost_less_than_2_kb():
    models = [plan_array(gaussian(100_000, 2 + seed / 30, seed), 14) for seed in range(67)]
    assert min(model.planes[0].size for model in models) > 15
    assert len(write_models(models)) < 2000


def read_by_the_docstring(data: bytes, n: int, precision: int) -> list[int]:
    """One int8 array with one table, decoded number by number as the module's docstring says."""
    assert data[0] < 128
    model, rest = data[1 : 1 + data[0]], data[1 + data[0] :]
    assert model[0] & 3 == 2
    k, low, alphabet = model[0] >> 2, model[1] // 2 if model[1] % 2 == 0 else -(model[1] + 1) // 2, model[2] + 2
    bits = "".join(f"{byte:08b}" for byte in model[3:])
    quotients, at = [], 0
    for _ in range(alphabet):
        one = bits.index("1", at)
        quotients.append(one - at)
        at = one + 1
    at = -(-at // 8) * 8
    levels = [0, 0]
    for i, quotient in enumerate(quotients):
        z = (quotient << k) + int("0" + bits[at + i * k : at + i * k + k], 2)
        levels.append((z // 2 if z % 2 == 0 else -(z + 1) // 2) + 2 * levels[-1] - levels[-2])
    freq = frequencies(np.array(levels[2:]), precision).tolist()
    slots = [(f, slot, c) for c, f in enumerate(freq) for slot in range(f)]
    lanes = max(1, min(1024, 2 ** int(math.log2(max(1, n // 2**13)))))
    x = [int.from_bytes(rest[4 * i : 4 * i + 4], "little") for i in range(lanes)]
    words, symbols = rest[4 * lanes :], []
    for step in range(0, n, lanes):
        for lane in range(min(lanes, n - step)):
            f, offset, c = slots[x[lane] % 2**precision]
            x[lane] = f * (x[lane] >> precision) + offset
            symbols.append(low + c)
        for lane in range(min(lanes, n - step)):
            if x[lane] < 2**16:
                x[lane] = x[lane] * 2**16 + int.from_bytes(words[:2], "little")
                words = words[2:]
    assert x == [2**16] * lanes
    assert not words
    return symbols


@pytest.mark.parametrize(("n", "precision"), [(400, 12), (16_383, 14), (33_001, 15)])
def test_the_documented_layout_is_what_is_written(n, precision):
    array = gaussian(n)
    assert read_by_the_docstring(Rans(precision).encode([array]), n, precision) == array.tolist()


def test_many_small_arrays_share_blocks_and_lanes():
    arrays = [gaussian(300 + 7 * i, 1 + i % 5, i).reshape(1, -1) for i in range(150)] + [gaussian(BLOCK + 1)]
    coded = Rans().encode(arrays)
    check_same(Rans().decode(coded, layouts_of(arrays)), arrays)
    assert 8 * len(coded) < sum(map(shannon_bits, arrays)) * 1.06


def test_half_floats_are_split_where_that_is_cheaper():
    weights = np.random.default_rng(3).standard_normal(60_000).astype(np.float16).view(np.uint16)
    assert len(plan_array(weights, 14).planes) == 2
    assert 8 * len(Rans().encode([weights])) < 13.6 * weights.size


@given(hnp.arrays(np.int64, st.integers(2, 300), elements=st.integers(0, 1 << 35)), st.integers(12, 15))
@settings(max_examples=200, deadline=None)
def test_frequencies_fill_the_table_and_keep_every_symbol(counts, precision):
    levels = levels_of(counts)
    if np.count_nonzero(counts) < 2:
        with pytest.raises(CorruptArtifact, match="symbols"):
            frequencies(levels, precision)
        return
    freqs = frequencies(levels, precision)
    assert freqs.sum() == 1 << precision
    assert np.array_equal(freqs > 0, counts > 0)
    order = np.argsort(levels, kind="stable")
    assert (np.diff(freqs[order]) >= -1).all()  # monotone up to the remainder's unit
    z = residuals(levels)
    assert np.array_equal(levels_from(z), levels)
    k = rice_parameter(z)
    tables = rice_decode(rice_encode([(z, k), (z[:1], 0)]), [(z.size, k), (1, 0)])
    assert [t.tolist() for t in tables] == [z.tolist(), z[:1].tolist()]


def test_rare_symbols_get_one_slot_and_the_rest_stays_proportional():
    freqs = frequencies(np.array([1, 1000, 1, 2000, 0, 1]), 12)
    assert freqs[[0, 2, 5, 4]].tolist() == [1, 1, 1, 0]
    assert abs(freqs[3] / freqs[1] - 4) < 0.02


@given(hnp.arrays(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]), st.integers(0, 700)))
@settings(max_examples=100, deadline=None)
def test_any_integers_round_trip(array):
    check_same(Rans().decode(Rans().encode([array]), layouts_of([array])), [array])


def test_every_prefix_is_corrupt():
    arrays = [gaussian(500), np.arange(40, dtype=np.int32), np.full(9, 3, np.uint8)]
    coded = Rans().encode(arrays)
    for n in range(len(coded)):
        with pytest.raises(CorruptArtifact):
            Rans().decode(coded[:n], layouts_of(arrays))


def test_no_flipped_bit_of_states_and_words_decodes_to_the_same_symbols():
    array = gaussian(400)
    coded, refused = Rans().encode([array]), 0
    tried = range(8 * (1 + coded[0]), 8 * len(coded), 5)
    for i in tried:
        damaged = bytearray(coded)
        damaged[i // 8] ^= 1 << i % 8
        try:
            assert not np.array_equal(Rans().decode(bytes(damaged), layouts_of([array]))[0], array)
        except CorruptArtifact:
            refused += 1
    assert refused > 0.9 * len(tried)  # the artifact's own check is what refuses the others


@given(st.binary(max_size=300), st.sampled_from(["|i1", "<u2", "<i8"]), st.integers(0, 5000))
@settings(max_examples=200, deadline=None)
def test_noise_raises_only_corrupt_artifact(data, dtype, n):
    layouts = [SymbolLayout((n,), dtype), SymbolLayout((3, 100), dtype)]
    try:
        found = Rans().decode(data, layouts)
    except CorruptArtifact:
        return
    assert layouts_of(found) == layouts


def test_memory_is_bounded_by_four_bytes_per_symbol():
    arrays = [gaussian(1 << 20).reshape(1024, -1)]
    tracemalloc.start()
    try:
        coded = Rans().encode(arrays)
        assert tracemalloc.get_traced_memory()[1] < 4 * arrays[0].size
        tracemalloc.reset_peak()
        Rans().decode(coded, layouts_of(arrays))
        assert tracemalloc.get_traced_memory()[1] < 4 * arrays[0].size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [[1], [5, 0, 40], [700, 9000], [20_000, 10], [70_000, 3, 4000]])
@pytest.mark.parametrize("coder", [Rans(), RansScaled(8)])
def test_few_lanes_are_coded_as_many_are(sizes, coder, monkeypatch):
    """In plain integers or a step of numpy at a time: the same bytes, the same symbols, the same refusals."""
    arrays = [gaussian(n, seed=n).reshape(-1, 5 if n % 5 == 0 else 1) for n in sizes]
    rng, found = np.random.default_rng(0), []
    damages = [(int(rng.integers(1 << 30)), 1 << int(rng.integers(8))) for _ in range(12)]
    for few in (0, FEW_LANES):
        for module in (lanes, scaled_decoder):
            monkeypatch.setattr(module, "FEW_LANES", few)
        data = coder.encode(arrays)
        found.append([data, _outcome(coder, data, arrays), _outcome(coder, data[:-2], arrays)])
        for at, bit in damages if sum(sizes) < 1000 else ():
            damaged = bytearray(data)
            damaged[at % len(data)] ^= bit
            found[-1].append(_outcome(coder, bytes(damaged), arrays))
    assert found[0] == found[1]
    assert found[0][1] == [array.tobytes() for array in arrays]


def _outcome(coder, data, arrays):
    """The symbols, or why there are none."""
    try:
        return [symbols.tobytes() for symbols in coder.decode(data, layouts_of(arrays))]
    except CorruptArtifact as error:
        return str(error)


@pytest.mark.parametrize("states", [0, 64])
@pytest.mark.parametrize("shape", [(5000, 1), (2000, 16), (2000, 17), (3, 70_000), (1, 140_000), (200, 300)], ids=str)
def test_narrow_and_wide_matrices_come_back_whichever_way_they_are_decoded(
    shape: tuple[int, int], states: int
) -> None:
    rng = np.random.default_rng(0)
    scales = np.exp2(rng.integers(-2, 4, (shape[0], 1)))
    arrays = [np.rint(rng.standard_normal(shape) * scales).astype(np.int8), np.ones((3, 2), np.int8)]
    coder = RansScaled(states=states)
    found = coder.decode(coder.encode(arrays), [SymbolLayout(a.shape, "|i1") for a in arrays])
    assert all(np.array_equal(a, b) for a, b in zip(arrays, found, strict=True))


def test_a_column_of_a_million_symbols_takes_seconds() -> None:
    column = np.rint(2 * np.random.default_rng(0).standard_normal((1 << 20, 1))).astype(np.int8)
    data = RansScaled().encode([column])
    start = time.process_time()
    (found,) = RansScaled().decode(data, [SymbolLayout(column.shape, "|i1")])
    assert time.process_time() - start < 8  # row by row it took 17
    assert np.array_equal(found, column)
