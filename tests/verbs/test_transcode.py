"""A transcoded artifact decodes to the same bits, whatever container it came in; what it cost is what is reported."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from pgpack import transcode as transcode_module
from pgpack.codecs import CODERS
from pgpack.errors import FormatError, RoundTripError
from pgpack.formats.field.pergroup import Pergroup
from pgpack.formats.field.torch_baseline import TorchBaseline
from pgpack.formats.field.torch_sdclip import TorchSdclip
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.writer import Pgpack
from pgpack.inspect import inspect_artifact
from pgpack.recipe.policy import Coding
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.record import Record
from pgpack.tensors.trellis_grid import TrellisGrid
from pgpack.transcode import best_chain, chain_coding, compare, tied, transcode
from pgpack.unpack import Unpacked, unpack
from tests.contracts.interop_records import BROTLI, all_kinds, contents, corrected, raw, rows
from tests.formats.test_interop_bits import BINARY, REST, TERNARY, saved

needs_lrzip = pytest.mark.skipif(shutil.which("lrzip") is None, reason="lrzip is not installed")
CONTAINERS = [
    pytest.param(TorchBaseline(), id="torch_baseline"),
    pytest.param(TorchSdclip(stride=2), id="torch_sdclip"),
    pytest.param(Pergroup(level=1), id="pergroup", marks=needs_lrzip),
]


def assert_same_weights(before, after):
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert (values.dtype, values.shape) == (after[name].dtype, after[name].shape)
        assert values.tobytes() == after[name].tobytes(), name


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_kind_of_record_decodes_to_the_same_bits(container):
    records = all_kinds()
    if not isinstance(container, TorchBaseline):
        records.append(corrected("blocks.2.mlp.fc.weight", (32, 16)))
    data, _ = container.write(contents(*records), BROTLI)
    found = transcode(data)
    assert_same_weights(unpack(data).tensors(), unpack(found.data).tensors())
    assert found.n_before == len(data)
    assert found.report.n_bytes == found.n_bytes == len(found.data)
    assert sum(choice.n_tensors for choice in found.choices) == len(found.unpacked.records)
    assert all(choice.n_bytes <= min(choice.others.values()) for choice in found.choices)
    parts = inspect_artifact(found.data)
    assert sum(t.n_bytes for t in parts.tensors) + sum(parts.overhead.values()) == found.n_bytes


@pytest.mark.parametrize("entries", [TERNARY | REST, BINARY | REST], ids=["ternary", "binary"])
def test_bit_packed_containers_decode_to_the_same_bits(entries):
    data = saved(entries)
    found = transcode(data)
    assert_same_weights(unpack(data).tensors(), unpack(found.data).tensors())
    assert found.n_bytes < found.n_before


def trellis_artifact():
    rng = np.random.default_rng(0)
    none = np.zeros(0, np.int8)
    symbols = rng.integers(-3, 4, (16, 24)).astype(np.int8)
    grid = TrellisGrid(none, rng.integers(-8, 8, 16).astype(np.int8), none, 0.03125, 8)
    record = Record("w", (16, 24), "plain", (QuantizedTensor(symbols, grid, (16, 24)),))
    kept = raw("scale", rng.standard_normal(8).astype("f4"), "fp16")
    coding = {"w": Coding(), "scale": Coding((), CODERS["bitpack"]())}
    return Pgpack().write(Contents([record, kept], coding, {"other": "w"}), ())[0]


def test_our_own_artifacts_are_coded_anew_with_their_ties():
    data = trellis_artifact()
    found = transcode(data)
    assert found.kind == "pgpack"
    assert dict(found.unpacked.aliases) == {"other": "w"}
    assert_same_weights(unpack(data).tensors(), unpack(found.data).tensors())
    assert any("rans_scaled(states=8)" in {choice.chain, *choice.others} for choice in found.choices)


def test_equal_matrices_are_stored_once_and_equal_vectors_twice():
    first = rows("tok_emb.weight", (64, 48))
    head = dataclasses.replace(first, name="lm_head.weight")
    ones = np.ones(40, "f4")
    data, _ = TorchSdclip().write(contents(first, head, raw("a", ones, "fp16"), raw("b", ones, "fp16")), BROTLI)
    found = transcode(data)
    assert dict(found.unpacked.aliases) == {"lm_head.weight": "tok_emb.weight"}
    assert_same_weights(unpack(data).tensors(), unpack(found.data).tensors())


def test_a_tie_to_a_matrix_that_is_itself_tied_away_leads_to_the_kept_one():
    first = rows("a", (8, 6))
    stored, aliases = tied([first, dataclasses.replace(first, name="b")], {"c": "b"})
    assert [record.name for record in stored] == ["a"]
    assert aliases == {"c": "a", "b": "a"}


def test_a_large_kind_is_decided_on_a_sample_and_measured_in_full(monkeypatch):
    monkeypatch.setattr(transcode_module, "SAMPLE", 1000)
    members = [rows(f"blocks.{i}.attn.proj.weight", (40, 30), i) for i in range(4)]
    choice = best_chain("int8", members)
    arrays = [part.symbols for record in members for part in record.parts]
    assert choice.n_symbols == 4800
    coding = chain_coding(choice.chain)
    coded = coding.coder.encode(arrays)
    for codec in coding.byte_codecs:
        coded = codec.encode(coded)
    assert choice.n_bytes == len(coded)


def test_a_difference_is_found_and_named():
    before = Unpacked("x", (rows("a", (4, 6)), rows("b", (4, 6))), {}, "")
    after = Unpacked("x", (rows("a", (4, 6)), rows("b", (4, 6), seed=1)), {}, "")
    with pytest.raises(RoundTripError, match="b does not decode"):
        compare(before, after)
    with pytest.raises(RoundTripError, match="other tensors come back: b"):
        compare(before, dataclasses.replace(after, records=after.records[:1]))


@pytest.mark.parametrize("data", [b"", b"text", b"PGPK", b"\xfd7zXZ\x00"])
def test_what_is_no_artifact_is_refused(data):
    with pytest.raises(FormatError):
        transcode(data)
