"""Tuning keeps every symbol, brings the model nearer to its fp32 self on unseen text, and repeats to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pgpack.errors import CalibrationError, RecipeError
from pgpack.pack import Quantized, encode
from pgpack.recipe.applied import apply
from pgpack.recipe.directives import Tune
from pgpack.recipe.recipe import parse_recipe
from pgpack.refine.fresh_text import fresh_tokens
from pgpack.refine.tuning import tune
from pgpack.tensors.grids import QuantizedTensor, UniformGrid
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record
from pgpack.tensors.trellis_grid import TrellisGrid

VOCAB, WIDTH, SEQ = 24, 16, 16
QUICK = Tune(count=24, lr=0.03)
BATCH = 128
RECIPE = parse_recipe("gain=cast|raw; *=tcq(step=0.1,states=8)|rans_scaled(states=8)")


class Tied(nn.Module):
    """Looks a token up, mixes, and reads out through the same table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gain = nn.Parameter(torch.ones(WIDTH))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        return F.linear(torch.tanh(self.mix(x) * self.gain) + x, self.table.weight)


def build(state):
    model = Tied()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(0)
    return {
        "table.weight": rng.standard_normal((VOCAB, WIDTH)).astype(np.float32) / 2,
        "mix.weight": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 2,
        "gain": np.ones(WIDTH, np.float32),
    }


def trellis_record(name, values, step=0.1):
    """A matrix rounded to multiples of 4 steps: even symbols keep the trellis in state 0."""
    symbols = (2 * np.rint(values / step / 4)).astype(np.int8)
    grid = TrellisGrid(
        np.zeros(values.shape[1], np.int8), np.zeros(len(values), np.int8), np.empty(0, np.int8), step, 8
    )
    return Record(name, values.shape, "plain", (QuantizedTensor(symbols, grid, values.shape),))


@pytest.fixture(scope="module")
def quantized(reference):
    raw = RawValues("fp16")
    gain = QuantizedTensor(raw.symbols_of(reference["gain"]), raw, (WIDTH,))
    matrices = [trellis_record(name, reference[name]) for name in ("table.weight", "mix.weight")]
    return Quantized((*matrices, Record("gain", (WIDTH,), "plain", (gain,))), {}, 0.0)


def applied_to(quantized):
    return apply(RECIPE, {record.name: record.shape for record in quantized.records})


def draw(seed, n=2048):
    return np.random.default_rng(seed).integers(0, VOCAB, n).astype(np.uint16)


def divergence(quantized, reference, ids):
    with torch.no_grad():
        ids = torch.from_numpy(ids.astype(np.int64)).view(-1, SEQ)
        arrays = {record.name: torch.tensor(record.dequantize()) for record in quantized.records}
        p = F.log_softmax(build({k: torch.from_numpy(v) for k, v in reference.items()})(ids), -1)
        q = F.log_softmax(build(arrays)(ids), -1)
        return float((p.exp() * (p - q)).sum() / ids.numel())


@pytest.fixture(scope="module")
def tuned(quantized, reference):
    return tune(quantized, build, reference, draw(1), SEQ, QUICK, batch_tokens=BATCH)


def test_tuning_lowers_the_divergence_on_unseen_tokens(quantized, tuned, reference):
    unseen = draw(2)
    assert divergence(tuned, reference, unseen) < 0.8 * divergence(quantized, reference, unseen)


def test_symbols_of_matrices_stay(quantized, tuned):
    for before, after in zip(quantized.records, tuned.records, strict=True):
        assert (before.name, before.shape, before.form) == (after.name, after.shape, after.form)
        if before.parts[0].grid.kind == "trellis":
            assert np.array_equal(before.parts[0].symbols, after.parts[0].symbols)
            assert after.parts[0].grid.trims.any()


def test_tuned_records_survive_the_round_trip(tuned):
    from pgpack.unpack import unpack

    decoded = unpack(encode(tuned, applied_to(tuned)).data).tensors()
    for record in tuned.records:
        assert np.array_equal(decoded[record.name], record.dequantize())


def test_tuning_repeats_to_the_bit(quantized, tuned, reference):
    again = tune(quantized, build, reference, draw(1), SEQ, QUICK, batch_tokens=BATCH)
    assert encode(again, applied_to(again)).data == encode(tuned, applied_to(tuned)).data


def test_inputs_are_left_as_they_were(quantized, reference):
    before = {name: array.copy() for name, array in reference.items()}
    bits = encode(quantized, applied_to(quantized)).data
    tune(quantized, build, reference, draw(1), SEQ, Tune(count=2), batch_tokens=BATCH)
    assert encode(quantized, applied_to(quantized)).data == bits
    assert all(np.array_equal(reference[name], array) for name, array in before.items())


@pytest.mark.parametrize(("rows", "columns"), [(0, 2), (4, 0), (1, 8)])
def test_exponents_are_stored_as_coarsely_as_asked(quantized, reference, rows, columns):
    steps = Tune(count=24, lr=0.1, rows=rows, columns=columns)
    for record in tune(quantized, build, reference, draw(1), SEQ, steps, batch_tokens=BATCH).records[:2]:
        for found, per_octave in ((record.parts[0].grid.trims, rows), (record.parts[0].grid.columns, columns)):
            assert not (found % (8 // per_octave) if per_octave else found).any()


def test_a_model_that_is_exact_comes_back_itself(reference):
    exact = Quantized(
        tuple(
            Record(name, v.shape, "plain", (QuantizedTensor(v.view("<u4"), RawValues("fp32"), v.shape),))
            for name, v in reference.items()
        ),
        {},
        0.0,
    )
    assert tune(exact, build, reference, draw(1), SEQ, QUICK, batch_tokens=BATCH) is exact


def test_other_grids_stay_and_raw_tensors_can_be_left_out(quantized, reference):
    scale = np.full((WIDTH, 1), 0.3, np.float16)
    symbols = np.rint(reference["mix.weight"] / 0.3).astype(np.int8)
    uniform = Record(
        "mix.weight", (WIDTH, WIDTH), "plain", (QuantizedTensor(symbols, UniformGrid(scale), (WIDTH, WIDTH)),)
    )
    table, _, gain = quantized.records
    mixed = Quantized((table, uniform, gain), {}, 0.0)
    found = tune(mixed, build, reference, draw(1), SEQ, QUICK, raw=False, batch_tokens=BATCH).records
    assert found[0] is not table
    assert found[1] is uniform
    assert found[2] is gain


def test_too_few_tokens_and_foreign_tensors_are_refused(quantized, reference):
    with pytest.raises(CalibrationError, match="two windows"):
        tune(quantized, build, reference, draw(1, SEQ + 3), SEQ, QUICK, batch_tokens=BATCH)
    foreign = Quantized((*quantized.records, trellis_record("w", reference["mix.weight"])), {}, 0.0)
    with pytest.raises(CalibrationError, match="w is not a parameter"):
        tune(foreign, build, reference, draw(1), SEQ, QUICK, batch_tokens=BATCH)


@pytest.mark.parametrize("wrong", [{"count": -1}, {"lr": 0.0}, {"rows": 3}, {"columns": 16}])
def test_steps_outside_their_range_are_refused(wrong):
    with pytest.raises(RecipeError):
        Tune(**wrong)


def test_batches_without_tokens_are_refused_and_no_steps_change_nothing(quantized, reference):
    with pytest.raises(RecipeError, match="at least 1 token, found 0"):
        tune(quantized, build, reference, draw(1), SEQ, QUICK, batch_tokens=0)
    assert tune(quantized, build, reference, draw(1), SEQ, Tune()) is quantized


def test_tuning_reads_new_text_where_there_is_enough():
    tokens = np.arange(100_000)
    fresh = fresh_tokens(tokens, 32_768, 7)
    assert fresh[0] == 32_768
    assert len(fresh) == 8 * 2048
    assert fresh_tokens(tokens, 32_768, 40) is tokens
