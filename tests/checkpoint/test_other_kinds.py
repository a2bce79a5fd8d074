"""What is no checkpoint is called what it is, in one sentence that says what to do."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

STATE = {"fc.weight": torch.ones(4, 3)}


def stream() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("model.pt"), io.BytesIO())


def keras(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", b"\x89HDF")


KINDS: dict[str, Callable[[Path], object]] = {
    "packed with gzip; unpack it first": lambda path: path.write_bytes(gzip.compress(stream())),
    "packed with xz; unpack it first": lambda path: path.write_bytes(lzma.compress(stream())),
    "a tar archive; unpack it": tarred,
    "an array of numpy's": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(70)),
    "HDF5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)),
    "a Keras model": keras,
    "a TensorFlow Lite model": lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(90)),
    "GGML, the format before GGUF": lambda path: path.write_bytes(b"tjgg\x03\0\0\0" + bytes(90)),
    "a web page": lambda path: path.write_text("<!DOCTYPE html><html><body>404</body></html>"),
    "an empty file": lambda path: path.touch(),
}


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_another_kind_of_file_is_named(tmp_path: Path, what: str, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    KINDS[what](path)
    with pytest.raises(CheckpointError, match=rf"model{suffix}: {what}"):
        load_checkpoint(path)


def test_torchscript_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl"):
            file.writestr(f"model/{name}", b"\x80\x02}." * 30)
    with pytest.raises(CheckpointError, match=r"TorchScript, a program with its weights; save"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("value", "found"), [(torch.ones(3), "a tensor"), ([torch.ones(3)], "list"), ({}, "an empty one")]
)
def test_what_is_no_dictionary_is_named(tmp_path: Path, value: object, found: str) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"expected a dictionary of tensors, found {found}; save"):
        load_checkpoint(tmp_path / "a.pt")


def test_words_and_numbers_beside_tensors_are_left_out_and_named(tmp_path: Path) -> None:
    extras = {
        "config": {"n": [1, 2], "name": "small"},
        "step": 7,
        "rate": 0.1,
        "sizes": (4, 3),
        "dtype": torch.float16,
    }
    torch.save({**STATE, **extras}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert list(checkpoint.shapes) == ["fc.weight"]
    assert checkpoint.notes == ("a.pt: config, step, rate, sizes, dtype: no tensor, left out",)


def test_words_beside_the_tensors_of_a_packed_weight_are_not_left_out(tmp_path: Path) -> None:
    packed = {"type": "ternary", "packed": torch.ones(4, 3), "n": 7}
    torch.save({"fc.weight": packed}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="'type' is not a tensor"):
        load_checkpoint(tmp_path / "a.pt")


def test_two_keys_of_one_name_on_the_way_to_a_state_dict_are_refused(tmp_path: Path) -> None:
    torch.save({1: {"model": STATE}, "1": {"step": 7}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="two of its keys are one name as text"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("dtype", ["F32", "F8_E4M3", "BF16", "I64", "C64"])
@pytest.mark.parametrize("shape", [[1 << 63, 0], [1 << 62, 0, 4], [0] * 70, [1] * 70], ids=str)
def test_a_shape_that_no_array_has_is_refused(tmp_path: Path, dtype: str, shape: list[int]) -> None:
    n_bytes = {"F32": 4, "F8_E4M3": 1, "BF16": 2}.get(dtype, 8) * (0 not in shape)
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(n_bytes))
    with pytest.raises(CheckpointError, match="x claims a shape that no array can have"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["x", ""])
def test_several_values_in_a_byte_are_refused_under_any_name(tmp_path: Path, name: str) -> None:
    header = json.dumps({name: {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(3))
    with pytest.raises(CheckpointError, match=f"{name} is of type F6_E2M3, several values in a byte"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0x7FF8000000000000, 0xFFF0000000000003])
def test_what_is_no_number_is_refused_without_a_warning(tmp_path: Path, bits: int) -> None:
    save_file({"w": np.array([bits, 0], np.uint64).view(np.float64)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="w holds NaN or infinity"):
        load_checkpoint(tmp_path / "a.safetensors").tensor("w")


def test_values_beyond_float32_are_not_called_infinite(tmp_path: Path) -> None:
    torch.save({"w": torch.full((2, 2), 1e300, dtype=torch.float64)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="w holds values beyond float32, which cannot be packed"):
        load_checkpoint(tmp_path / "a.pt").tensor("w")
