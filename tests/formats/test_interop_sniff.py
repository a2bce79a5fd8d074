"""Files are told apart by content, decode within the caller's limit, and never run code."""

from __future__ import annotations

import contextlib
import io
import os
import random
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.codecs import BYTE_CODECS
from pgpack.errors import CorruptArtifact, FormatError, TruncatedArtifact
from pgpack.formats.field.compressed import RECOGNIZED, decompress
from pgpack.formats.field.torch_baseline import TorchBaseline
from pgpack.formats.field.torch_sdclip import TorchSdclip
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.layout import frame
from pgpack.formats.sniff import read_identified
from pgpack.formats.torch_files.stream import load
from pgpack.formats.torch_files.zip import entries_of, framed
from pgpack.pack import pack
from pgpack.recipe.presets import preset_text
from pgpack.recipe.recipe import parse_recipe
from pgpack.stages import parse_stage
from pgpack.unpack import unpack
from tests.contracts.interop_records import BROTLI, all_kinds, assert_same_records, contents, rows
from tests.formats.reading import identify, read_field_artifact, skeleton

REAL = Path(__file__).parents[3] / "shared" / "data" / "checkpoints"
CODECS = [pytest.param((), id="none")] + [pytest.param((BYTE_CODECS[name](),), id=name) for name in RECOGNIZED]


def test_unpack_passes_its_limit_on_and_decompresses_once(monkeypatch):
    data, _ = TorchSdclip().write(contents(*all_kinds()), BROTLI)
    limits = []

    def counted(given, limit):
        limits.append(limit)
        return decompress(given, limit)

    monkeypatch.setattr("pgpack.formats.sniff.decompress", counted)
    assert_same_records(all_kinds(), unpack(data, 1 << 20).records)
    assert limits == [1 << 20]
    with pytest.raises(FormatError, match="limit"):
        unpack(data, 1000)


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def sdclip(w, m):
    return torch_bytes({"w": w, "m": m})


@pytest.mark.parametrize("codecs", CODECS)
@pytest.mark.parametrize(
    ("container", "name"),
    [(TorchBaseline(), "torch_baseline"), (TorchSdclip(0), "torch_sdclip"), (TorchSdclip(2), "torch_sdclip")],
)
def test_a_file_is_known_by_content_whatever_its_codec(container, name, codecs):
    records = all_kinds()
    data, _ = container.write(contents(*records), codecs)
    assert identify(data) == name
    assert_same_records(records, read_field_artifact(data))


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_the_mixed_format_is_read_behind_the_word_that_names_its_codec(codec):
    records = all_kinds()
    plain, _ = TorchBaseline().write(contents(*records), ())
    state = torch.load(io.BytesIO(plain), weights_only=True)
    mixed = torch_bytes({**state, "__quant_format__": "mixed_int8_int6_v1"})
    data = codec.upper().encode() + BYTE_CODECS[codec]().encode(mixed)
    assert identify(data) == "torch_baseline"
    assert_same_records(records, read_field_artifact(data))
    for broken in (data[:-1], data[:4], data[:4] + data):
        with pytest.raises(FormatError):
            read_field_artifact(broken)


def test_pgpack_artifacts_are_known_and_left_to_their_own_reader():
    data = frame({}, b"")
    assert identify(data) == "pgpack"
    with pytest.raises(FormatError, match=r"pgpack\.unpack"):
        read_field_artifact(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P",
        b"PK\x03\x04",
        b"BSHF",
        b"BSHF\x02",
        b"hello, this is a text file",
        bytes(1000),
        b"\x78\x9c",
        zlib.compress(b"no torch stream"),
        torch_bytes({"a": torch.zeros(3)}),
        torch_bytes(torch.zeros(3)),
    ],
)
def test_other_files_are_not_known_and_refused(data):
    assert identify(data) is None
    with pytest.raises(FormatError):
        read_field_artifact(data)


@pytest.mark.parametrize("codecs", CODECS[1:])
def test_every_cut_of_a_compressed_file_is_refused(codecs):
    data, _ = TorchSdclip().write(contents(*all_kinds()), codecs)
    for length in range(0, len(data), max(len(data) // 150, 1)):
        with pytest.raises(FormatError):
            read_field_artifact(data[:length])


def test_a_cut_is_called_a_cut():
    data, _ = TorchSdclip().write(contents(rows("w", (4, 6))), BROTLI)
    with pytest.raises(TruncatedArtifact):
        read_field_artifact(data[:-1])


@pytest.mark.parametrize("container", [TorchBaseline(), TorchSdclip(0)], ids=["baseline", "sdclip"])
def test_a_damaged_torch_stream_is_refused_or_decodes_but_never_fails_otherwise(container):
    """torch checks no sums, so a flipped payload bit may pass; nothing else than a FormatError may escape."""
    data, _ = container.write(contents(*all_kinds()), ())
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.randrange(min(len(data), 12_000))] ^= 1 << rng.randrange(8)
        try:
            for record in read_field_artifact(bytes(damaged)):
                record.dequantize()
        except FormatError:
            refused += 1
    assert refused > 20


def parts_of(container):
    """(pickle, contents of the tensors) of a small file of every kind of record."""
    data, _ = container.write(contents(*all_kinds()[-15:]), ())
    found = {entry.name.rpartition("/")[2]: data[entry.start : entry.end] for entry in entries_of(data)}
    tensors = [found[str(i)] for i in range(len(found)) if str(i) in found]
    assert b"".join(framed(found["data.pkl"], tensors)) == data
    return found["data.pkl"], tensors


PARTS = [parts_of(TorchBaseline()), parts_of(TorchSdclip(0))]


@given(st.sampled_from(PARTS), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_a_mutated_pickle_of_a_field_file_is_refused_or_decodes_but_never_fails_otherwise(parts, rng):
    pickle, tensors = bytearray(parts[0]), parts[1]
    for _ in range(rng.randrange(1, 4)):
        at, source = rng.randrange(len(pickle)), rng.randrange(len(pickle))
        pickle[at : at + rng.randrange(3)] = rng.choice(
            [pickle[source : source + 20], b"N", b"}", b")", b"h\x01", b"K\xff"]
        )
    with contextlib.suppress(FormatError):
        for record in read_field_artifact(b"".join(framed(bytes(pickle), tensors)), 1 << 20):
            record.dequantize()


@pytest.mark.parametrize("name", RECOGNIZED)
def test_decompression_stops_at_the_limit(name):
    fast = {"lzma": {"preset": 1}, "brotli": {"quality": 5}}
    codec = BYTE_CODECS[name](**fast.get(name, {}))
    bomb = codec.encode(bytes(20_000_000))
    with pytest.raises(FormatError, match="limit"):
        decompress(bomb, 1_000_000)
    assert decompress(codec.encode(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(FormatError, match="limit"):
        decompress(codec.encode(bytes(1001)), 1000)
    with pytest.raises(CorruptArtifact):
        decompress(codec.encode(bytes(1000)) + b"\0", 1000)


class Runs:
    """A pickle of this runs code when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    target = str(tmp_path / "made")
    data = sdclip({"a": torch.zeros(2), "b": Runs(target)}, {"a": "passthrough (float16)"})
    assert identify(data) == "torch_sdclip"
    with pytest.raises(CorruptArtifact, match="run code"):
        read_field_artifact(data)
    assert not os.path.exists(target)


def test_a_small_file_cannot_claim_a_large_tensor():
    data = sdclip({"a": torch.zeros(1).expand(1 << 40)}, {"a": "passthrough (float16)"})
    with pytest.raises(FormatError, match="limit"):
        read_field_artifact(data)
    strided = sdclip({"a": torch.zeros(8, 8).t()}, {"a": "passthrough (float16)"})
    with pytest.raises(CorruptArtifact, match="strided"):
        read_field_artifact(strided)


def test_a_compressed_entry_is_refused():
    plain = zipfile.ZipFile(io.BytesIO(sdclip({"a": torch.zeros(64)}, {"a": "passthrough (float16)"})))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in plain.infolist():
            archive.writestr(entry.filename, plain.read(entry))
    with pytest.raises(CorruptArtifact, match="compressed entry"):
        load(buffer.getvalue(), 1 << 20)


@pytest.mark.parametrize(
    ("w", "m"),
    [
        ({}, {"a": "passthrough (float16)"}),
        ({"a": torch.zeros(2)}, {}),
        ({"a": "text"}, {"a": "passthrough (float16)"}),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, {"a": "passthrough (float16)"}),
        ({"a.q": torch.zeros(2, 3)}, {"a": "gptq (int6)"}),
        ({"a.q": torch.zeros(2, 3), "a.scale": torch.zeros(2)}, {"a": "gptq (int6)"}),
        ({"a.q": torch.zeros(2, 3, dtype=torch.int8), "a.scale": torch.zeros(3)}, {"a": "gptq (int6)"}),
        ({"a.q": torch.zeros(2, 3, dtype=torch.int8), "a.scale": torch.zeros(2, 2)}, {"a": "gptq (int6)"}),
        ({"a.q": torch.zeros(2, 3, dtype=torch.int8), "a.scale": torch.zeros(2)}, {"a": "int6"}),
        ({"a.q": torch.zeros(2, 3, dtype=torch.int8), "a.scale": torch.zeros(2)}, {"a": "gptq (int6)+lqer_asym"}),
        ({1: torch.zeros(2)}, {"a": "passthrough (float16)"}),
        ({"a": torch.zeros(2).to_sparse()}, {"a": "passthrough (float16)"}),
    ],
)
def test_entries_that_do_not_fit_together_are_refused(w, m):
    with pytest.raises(FormatError):
        read_field_artifact(sdclip(w, m))


@pytest.mark.parametrize("wrong", ["A", "A_rows", "A_type", "B", "B_scales"])
def test_corrections_that_do_not_fit_are_refused(wrong):
    def codes(*shape):
        return torch.zeros(*shape, dtype=torch.int8)

    w = {
        "a.q": codes(6, 8),
        "a.scale": torch.ones(6),
        "a.lqA_a": codes(6, 2),
        "a.lqAs_a": torch.ones((), dtype=torch.half),
    }
    w |= {"a.lqB_a": codes(2, 8), "a.lqBs_a": torch.ones(4, dtype=torch.half)}
    m = {"a": "gptq (int6)+lqer_asym"}
    assert read_field_artifact(sdclip(w, m))[0].form == "corrected"
    w |= {
        "A": {"a.lqA_a": codes(6)},
        "A_rows": {"a.lqA_a": codes(5, 2)},
        "A_type": {"a.lqAs_a": torch.ones(())},
        "B": {"a.lqB_a": codes(3, 8)},
        "B_scales": {"a.lqBs_a": torch.ones(5, dtype=torch.half)},
    }[wrong]
    with pytest.raises(FormatError):
        read_field_artifact(sdclip(w, m))


def test_a_symmetric_correction_is_read():
    rng = np.random.default_rng(0)
    A, B = (torch.tensor(rng.integers(-7, 8, shape).astype(np.int8)) for shape in ((6, 2), (2, 8)))
    A_steps, B_steps = torch.rand(6).half(), torch.rand(2).half()
    q, steps = torch.tensor(rng.integers(-31, 32, (6, 8)).astype(np.int8)), torch.rand(6).half()
    w = {"a.q": q, "a.scale": steps, "a.lqA": A, "a.lqAs": A_steps, "a.lqB": B, "a.lqBs": B_steps}
    (record,) = read_field_artifact(sdclip(w, {"a": "gptq (int6)+lqer"}))
    expected = q * steps.float()[:, None] + (A * A_steps.float()[:, None]) @ (B * B_steps.float()[:, None])
    assert np.allclose(record.dequantize(), expected.numpy(), atol=1e-5)
    data, _ = TorchSdclip(0).write(Contents([record], {}, {}), ())
    assert b"+lqer" in data
    assert_same_records([record], read_field_artifact(data))


def test_a_skeleton_is_the_stream_without_its_tensors():
    small = skeleton(torch_bytes({"a": torch.zeros(1000), "b": torch.zeros(3)}))
    large = torch_bytes({"a": torch.zeros(1000), "b": torch.zeros(3)})
    assert len(large) - len(small) == 4 * 1003


@pytest.mark.skipif(not (REAL / "nolanvild_final.int8.ptz").is_file(), reason="the published artifact is not here")
def test_a_published_artifact_is_read_and_equals_our_own_packing():
    published = (REAL / "nolanvild_final.int8.ptz").read_bytes()
    assert identify(published) == "torch_baseline"
    checkpoint = load_checkpoint(REAL / "nolanvild_final_model.pt")
    recipe = parse_recipe(preset_text("baseline-int8-zlib")).without_idle_rules(checkpoint.stored_shapes)
    ours = pack(checkpoint, recipe)
    assert_same_records(ours.records, read_field_artifact(published))
    assert abs(ours.n_bytes - len(published)) <= 0.001 * len(published)


@pytest.mark.parametrize("codec", ["zlib", "zstd", "brotli"])
def test_a_small_file_decodes_to_64_mib_at_most(codec):
    bomb = parse_stage(codec, BYTE_CODECS).encode(bytes((64 << 20) + 1))
    assert len(bomb) < 100_000
    with pytest.raises(FormatError, match="more than the limit of 67,108,864 bytes"):
        read_identified(bomb)
    with pytest.raises(FormatError, match="holds no torch stream"):
        read_identified(bomb, 128 << 20)
