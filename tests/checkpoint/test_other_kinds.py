"""What is no checkpoint is called what it is, in one sentence that says what to do."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

TABLE = b"W\xfb\x80\x8b$uG\xdb"  # ends the tables of TensorFlow's checkpoints
STATE = {"fc.weight": torch.ones(4, 3)}


def stream() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("model.pt"), io.BytesIO())


def number(value: int) -> bytes:
    """As protobuf writes a number below 2^14."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def framed(field: int, contents: bytes) -> bytes:
    """A field of protobuf's that holds bytes."""
    return number(field << 3 | 2) + number(len(contents)) + contents


def onnx(path: Path, producer: bytes = framed(2, b"pytorch") + framed(3, b"2.1")) -> None:
    weight = bytes([1 << 3, 3]) + framed(8, b"w") + framed(9, bytes(12))
    path.write_bytes(b"\x08\x08" + producer + framed(7, framed(5, weight)) + framed(8, b"\x10\x11"))


def flax(path: Path) -> None:
    array = b"\x93\x92\x02\x03\xa7float32\xc4\x18" + bytes(24)
    extension = b"\xc7" + bytes([len(array)]) + b"\x01" + array
    path.write_bytes(b"\x81\xa6params\x81\xa5dense\x81\xa6kernel" + extension)


def exported(path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),))
    with path.open("wb") as file:
        torch.export.save(program, file)


def keras(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", b"\x89HDF")


class Quantized(torch.Tensor):
    """As torchao's."""


def subclass(path: Path) -> None:
    torch.save({"model": {"w": torch.ones(4, 3).as_subclass(Quantized)}}, path)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("out/model.safetensors", bytes(90))


def llama2c(vocabulary: int, width: int = 64, hidden: int = 172, layers: int = 2, length: int = 32) -> bytes:
    """Of before it had a mark, with 8 heads and 4 of keys; a vocabulary below 0 is of a head of its own."""
    layer = [width, width * width, width * width // 2, width * width // 2, width * width, width, 3 * width * hidden]
    tables = abs(vocabulary) * width * (2 if vocabulary < 0 else 1) + width + 2 * length * 4
    return struct.pack("<7i", width, hidden, layers, 8, 4, vocabulary, length) + bytes(
        4 * (layers * sum(layer) + tables)
    )


KINDS: dict[str, Callable[[Path], object]] = {
    "packed with gzip; unpack it first": lambda path: path.write_bytes(gzip.compress(stream())),
    "packed with xz; unpack it first": lambda path: path.write_bytes(lzma.compress(stream())),
    "a tar archive; unpack it": tarred,
    "an array of numpy's": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(70)),
    "HDF5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)),
    "a Keras model": keras,
    "a TensorFlow Lite model": lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(90)),
    "an ONNX model": onnx,
    "an ONNX model;": lambda path: onnx(path, b""),
    "msgpack, as Flax stores parameters": flax,
    "a part of a TensorFlow checkpoint": lambda path: path.write_bytes(b"\0\0\6\x08" + bytes(90) + TABLE),
    "a SavedModel of TensorFlow": lambda path: path.write_bytes(b"\x08\x01" + framed(2, framed(1, b"serve"))),
    "a program of torch.export; save the state_dict": exported,
    "a pickle of numpy's arrays": lambda path: path.write_bytes(pickle.dumps({"w": np.ones((3, 2))})),
    "a pickle with torch.nn.modules.linear.Linear in it": lambda path: path.write_bytes(
        pickle.dumps(torch.nn.Linear(3, 2))
    ),
    r"a pickle with torch.nn.modules.linear.Linear in it, and": lambda path: torch.save(
        torch.nn.Linear(3, 2), path, _use_new_zipfile_serialization=False
    ),
    "packed with zlib; unpack it first": lambda path: path.write_bytes(zlib.compress(stream())),
    r"not a readable checkpoint \(it is neither safetensors nor a torch file\)": lambda path: path.write_bytes(
        random.Random(0).randbytes(300)
    ),
    "GGML, the format before GGUF": lambda path: path.write_bytes(b"tjgg\x03\0\0\0" + bytes(90)),
    "an export of llama2.c; give what it was exported from": lambda path: path.write_bytes(
        struct.pack("<Ii7iB", 0x616B3432, 1, 64, 192, 2, 4, 2, 320, 64, 1) + bytes(300)
    ),
    "an export of llama2.c; give": lambda path: path.write_bytes(llama2c(vocabulary=512)),
    "an export of llama2.c;": lambda path: path.write_bytes(llama2c(vocabulary=-512)),
    "a model of CTranslate2; give": lambda path: path.write_bytes(
        struct.pack("<IH16sI", 6, 16, b"TransformerSpec\0", 7) + bytes(300)
    ),
    "a zip file with out/model.safetensors in it; unpack it first": zipped,
    "an export of llm.c; give what it was exported from": lambda path: path.write_bytes(
        struct.pack("<256i", 20240326, 3, 16, 50257, 1, 2, 8, 50304, *[0] * 248) + bytes(300)
    ),
    "a pickle with torch._tensor._rebuild_from_type_v2 in it, so of tensors of classes of their own": subclass,
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


def test_the_data_of_a_tensorflow_checkpoint_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt-7.data-00000-of-00001"
    path.write_bytes(random.Random(0).randbytes(400))
    with pytest.raises(CheckpointError, match="a part of a TensorFlow checkpoint; store the model's arrays by name"):
        load_checkpoint(path)


@pytest.mark.parametrize("protocol", range(6))
def test_naming_what_is_in_a_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": [1.5, Runs()]}, protocol))
    with pytest.raises(CheckpointError, match=r"a pickle with posix.mkdir in it, and reading that would run code"):
        load_checkpoint(tmp_path / "a.pkl")
    assert not (tmp_path / "made").exists()


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


def test_words_and_numbers_in_the_state_dict_of_a_model_are_left_out_and_named(tmp_path: Path) -> None:
    torch.save({"model": {**STATE, "version": 3, "name": "small", "sizes": [4, 3]}, "step": 7}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert list(checkpoint.shapes) == ["fc.weight"]
    assert checkpoint.notes[0] == "a.pt: version, name, sizes: no tensor, left out"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_a_number_beside_packed_weights_may_be_their_scale(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"model": {"fc.weight": torch.ones(4, 3).to(dtype), "fc.scale": 0.25}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"'fc\.scale' is not a tensor"):
        load_checkpoint(tmp_path / "a.pt")


def test_words_beside_the_tensors_of_a_packed_weight_are_not_left_out(tmp_path: Path) -> None:
    packed = {"type": "ternary", "packed": torch.ones(4, 3), "n": 7}
    torch.save({"fc.weight": packed}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="'type' is not a tensor"):
        load_checkpoint(tmp_path / "a.pt")


def test_two_keys_of_one_name_on_the_way_to_a_state_dict_are_refused(tmp_path: Path) -> None:
    torch.save({1: {"model": STATE}, "1": {"step": 7}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="two of its keys are one name as text, '1'; rename"):
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
    with pytest.raises(CheckpointError, match="w holds values beyond float32; that cannot be packed"):
        load_checkpoint(tmp_path / "a.pt").tensor("w")
    torch.save({"w": torch.tensor([1e300, float("inf")], dtype=torch.float64)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="w holds values beyond float32"):
        load_checkpoint(tmp_path / "a.pt").tensor("w")
