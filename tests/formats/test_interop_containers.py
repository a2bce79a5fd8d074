"""The field's containers: what is written is read back bit for bit, sizes add up, what cannot be said is refused."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.codecs import BYTE_CODECS
from pgpack.errors import CorruptArtifact, FormatError, RecipeError, TruncatedArtifact
from pgpack.formats.field import pergroup
from pgpack.formats.field.pergroup import Pergroup
from pgpack.formats.field.torch_baseline import TorchBaseline
from pgpack.formats.field.torch_sdclip import TorchSdclip
from pgpack.formats.own.contents import Contents
from pgpack.tensors.entropy import order0_bytes
from pgpack.tensors.grids import Codebook, QuantizedTensor, UniformGrid
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record
from tests.contracts.interop_records import BROTLI, all_kinds, assert_same_records, contents, corrected, raw, rows
from tests.formats.reading import read_field_artifact

needs_lrzip = pytest.mark.skipif(shutil.which("lrzip") is None, reason="lrzip is not installed")
CONTAINERS = [
    pytest.param(TorchBaseline(), id="torch_baseline"),
    pytest.param(TorchSdclip(stride=0), id="torch_sdclip-plain"),
    pytest.param(TorchSdclip(stride=2), id="torch_sdclip-2"),
    pytest.param(TorchSdclip(stride=7), id="torch_sdclip-7"),
    pytest.param(Pergroup(level=1), id="pergroup", marks=needs_lrzip),
]


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_kind_of_record_comes_back(container):
    records = all_kinds()
    data, _ = container.write(contents(*records), BROTLI)
    assert_same_records(records, read_field_artifact(data))


@pytest.mark.parametrize("container", CONTAINERS[2:])
@pytest.mark.parametrize("fortran", [False, True])
def test_corrections_come_back(container, fortran):
    records = [corrected("blocks.0.mlp.fc.weight", (32, 16), fortran=fortran), corrected("other", (8, 48), 2, 48)]
    data, _ = container.write(contents(*records), BROTLI)
    assert_same_records(records, read_field_artifact(data))


@pytest.mark.parametrize("container", CONTAINERS)
def test_equal_records_give_equal_bytes_that_the_report_sums_to(container):
    records = all_kinds()
    data, report = container.write(contents(*records), BROTLI)
    again, _ = container.write(contents(*all_kinds()), BROTLI)
    assert data == again
    assert report.n_bytes == len(data)
    assert report.tensors.keys() == {record.name for record in records}
    assert 0 < report.overhead["serialization"] < len(data)


@needs_lrzip
def test_a_stream_is_charged_to_its_own_tensors():
    noise = rows("blocks.0.mlp.fc.weight", (128, 64), top=127)
    silence = rows("blocks.0.attn.proj.weight", (128, 64), top=0)
    _, report = Pergroup(level=1).write(contents(noise, silence), BROTLI)
    assert report.tensors[noise.name] > 128 * 64 * 0.95
    assert report.tensors[silence.name] < 500


@needs_lrzip
def test_layers_of_a_group_keep_their_own_shapes_and_numbers():
    records = [rows(f"blocks.{i}.mlp.fc.weight", (4 + i, 6), i) for i in (10, 2, 0)]
    data, _ = Pergroup(level=1).write(contents(*records), BROTLI)
    assert_same_records(records, read_field_artifact(data))


@needs_lrzip
def test_layers_that_stay_raw_leave_the_group_to_the_others():
    kept = raw("blocks.1.attn.c_k.weight", np.ones((4, 6), "f4"), "fp16")
    records = [rows("blocks.0.attn.c_k.weight", (4, 6)), kept, rows("blocks.2.attn.c_k.weight", (4, 6))]
    data, _ = Pergroup(level=1).write(contents(*records), BROTLI)
    assert_same_records(records, read_field_artifact(data))


def test_gates_are_stored_under_their_own_keys_and_other_matrices_are_not():
    gate, dense = rows("blocks.0.attn.attn_gate_w", (8, 12)), rows("blocks.0.attn.c_q.weight", (8, 12))
    data, _ = TorchSdclip(stride=0).write(contents(gate, dense), ())
    assert b"attn_gate_w.gq" in data
    assert b"gate_int8_row" in data
    assert b"c_q.weight.gq" not in data
    assert_same_records([gate, dense], read_field_artifact(data))


@pytest.mark.parametrize(("bits", "label"), [({"a": 7}, b"gptq (int7)"), ({}, b"gptq (int6)")])
def test_a_label_is_the_quantizers_width_or_the_least_that_holds_the_symbols(bits, label):
    data, _ = TorchSdclip(stride=0).write(Contents([rows("a", (8, 12), top=31)], {}, {}, bits), ())
    assert label in data


def test_tied_names_become_records_of_their_own():
    tied = Contents([rows("a", (8, 12))], {}, {"b": "a"}, {"a": 6})
    data, report = TorchSdclip().write(tied.untied(), BROTLI)
    a, b = read_field_artifact(data)
    assert (a.name, b.name) == ("a", "b")
    assert a.dequantize().tobytes() == b.dequantize().tobytes()
    assert report.n_bytes == len(data)
    with pytest.raises(RecipeError, match="stores every name"):
        TorchSdclip().write(tied, BROTLI)


@pytest.mark.parametrize("container", [TorchSdclip(stride=0), TorchBaseline()])
@pytest.mark.parametrize("record", [rows("a", (64, 96)), raw("a", np.ones((64, 96), "f4"), "fp16")])
def test_tied_names_share_their_memory_as_torch_saves_them(container, record):
    alone, _ = container.write(Contents([record], {}, {}), ())
    both, _ = container.write(Contents([record], {}, {"b": "a"}).untied(), ())
    assert len(both) < len(alone) + 1024
    state = torch.load(io.BytesIO(both), weights_only=True)
    held = state.get("w") or {**state["quantized"], **state["passthrough"]}
    a, b = ([tensor for name, tensor in held.items() if name.split(".")[0] == key] for key in "ab")
    assert [t.data_ptr() for t in a] == [t.data_ptr() for t in b]
    first, second = read_field_artifact(both)
    assert first.dequantize().tobytes() == second.dequantize().tobytes()


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from pgpack_cli.pgpack_app import main; main()"


@pytest.mark.parametrize("preset", ["baseline-int8-zlib", "sdclip-brotli"])
def test_field_presets_are_packed_unpacked_and_verified_where_torch_cannot_be_imported(preset, tmp_path):
    rng = np.random.default_rng(0)
    names = ("tok_emb.weight", "blocks.0.mlp.fc.weight")
    save_tensors(tmp_path / "model.st", {name: rng.standard_normal((264, 256)).astype("f4") for name in names}, {})
    save_tensors(tmp_path / "hessians.st", {f"{name}.hessian": np.eye(256, dtype="f4") for name in names}, {})
    calibration = [] if "baseline" in preset else ["--calibration", tmp_path / "hessians.st"]
    packed, out = tmp_path / "packed.ptz", tmp_path / "out.safetensors"
    for command in (
        ["pack", tmp_path / "model.st", "--preset", preset, *calibration, "-o", packed],
        ["unpack", packed, "-o", out],
        ["verify", packed, "--json"],
    ):
        done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *command], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    assert out.is_file()
    decode = next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "decode")
    assert "without torch" in decode["detail"]


def inexpressible():
    table = np.array([[-1.0], [1.0]], np.float16)
    codes = np.zeros((4, 6), np.uint8)
    codebook = Codebook(table, np.zeros((0, 0), np.float16))
    good = rows("w", (4, 6)).parts[0]
    grouped = QuantizedTensor(good.symbols, UniformGrid(np.ones((4, 2), np.float16), 3), (4, 6))
    wide = QuantizedTensor(good.symbols.astype(np.int16), good.grid, (4, 6))
    half = QuantizedTensor(np.zeros((4, 1), np.uint16), RawValues("fp16"), (4, 1))
    other = QuantizedTensor(np.zeros((1, 6), np.uint16), RawValues("fp16"), (1, 6))
    return [
        pytest.param(Record("w", (4, 6), "plain", (QuantizedTensor(codes, codebook, (4, 6)),)), id="codebook"),
        pytest.param(Record("w", (4, 6), "plain", (grouped,)), id="groups"),
        pytest.param(Record("w", (4, 6), "plain", (wide,)), id="int16"),
        pytest.param(Record("w", (4, 6), "factored", (half, other)), id="factored"),
        pytest.param(Record("w", (4, 6), "corrected", (good, half, other)), id="fp16 correction"),
        pytest.param(corrected("w", (4, 6), 4, 16), id="correction whose groups are padded"),
    ]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("record", inexpressible())
def test_what_a_format_cannot_say_is_refused_with_the_way_out(container, record):
    with pytest.raises(RecipeError, match="@container=pgpack"):
        container.write(contents(record), BROTLI)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_codec_that_no_reader_could_recognize_is_refused(container):
    with pytest.raises(RecipeError, match="recognized by content"):
        container.write(contents(rows("w", (4, 6))), (BYTE_CODECS["shuffle"](), *BROTLI))


@needs_lrzip
def test_every_cut_of_a_pergroup_file_is_refused_as_truncated():
    data, _ = Pergroup(level=1).write(contents(*all_kinds()), BROTLI)
    for length in range(4, len(data), max(len(data) // 200, 1)):
        with pytest.raises(TruncatedArtifact):
            pergroup.read(data[:length])
    with pytest.raises(CorruptArtifact, match="follow"):
        pergroup.read(data + b"\0")


@needs_lrzip
def test_a_row_order_that_is_no_permutation_is_refused():
    data, _ = Pergroup(level=1).write(contents(rows("tok_emb.weight", (4, 6))), BROTLI)
    *streams, _ = pergroup.unframed(data)
    for order in (b"\0\0" * 4, b"\0\0\1\0", b"\0\0\1\0\2\0\3\0\4\0"):
        broken = pergroup.framed([*streams, BYTE_CODECS["brotli"]().encode(order)])
        with pytest.raises(FormatError, match="order"):
            pergroup.read(broken)


def test_order0_entropy_is_the_shannon_sum():
    symbols = np.array([0, 0, 0, 1, 2, 2, -1, -1], np.int8)
    shares = np.array([3, 1, 2, 2]) / 8
    assert order0_bytes(symbols) == pytest.approx(-8 * np.sum(shares * np.log2(shares)) / 8)
    assert order0_bytes(np.array([0x0102, 0x0103], "<u2")) == pytest.approx(2 / 8)
    assert order0_bytes(np.zeros((0, 3), np.int8)) == 0
