"""Every file that a training script may leave is read as it is meant, and nothing in it is run or expanded."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError


def state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(6, 4, generator=generator)
    return OrderedDict(
        {
            "tok_emb.weight": shared,
            "lm_head.weight": shared,
            "third": shared.clone(),
            "blocks.0.attn.c_q.weight": torch.randn(4, 4, generator=generator).bfloat16(),
            "strided": torch.randn(5, 3, generator=generator).t(),
            "half": torch.randn(3, generator=generator).half(),
            "double": torch.randn(2, 2, generator=generator).double(),
            "fp8": torch.randn(4, 2, generator=generator).to(torch.float8_e4m3fn),
            "scalar": torch.tensor(2.5),
            "steps": torch.arange(4),
            "mask": torch.tensor([True, False]),
            "empty": torch.zeros(0, 3),
        }
    )


def assert_holds(checkpoint, tensors):
    assert list(checkpoint.shapes) == list(tensors)
    for name, tensor in tensors.items():
        expected = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        found = checkpoint.tensor(name)
        assert checkpoint.shapes[name] == found.shape == expected.shape
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected), name


@pytest.mark.parametrize("name", ["final_model.pt", "pytorch_model.bin", "model.pth", "no-suffix"])
def test_a_bare_state_dict_is_read_whatever_its_name_and_dtypes(tmp_path: Path, name: str) -> None:
    torch.save(state(), tmp_path / name)
    assert_holds(load_checkpoint(tmp_path / name), state())


def test_the_format_before_zip_files_is_read_too(tmp_path: Path) -> None:
    older = {name: tensor for name, tensor in state().items() if name != "fp8"}
    torch.save(older, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_holds(load_checkpoint(tmp_path / "old.pt"), older)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {
            "model": s,
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []},
            "step": 7,
        },
        lambda s: {"step": 7, "model": {"module": s}},
        lambda s: {"args": {"lr": 0.1}, "my_own_name": s},
        lambda s: {"config": None, "model_state_dict": s, "ema": s},
        lambda s: {"model": s, "config": {"lr": 0.1}, "rng_state": torch.zeros(8, dtype=torch.uint8)},
    ],
    ids=["state_dict", "model", "nested", "only-dict-of-tensors", "with-ema", "beside-a-tensor"],
)
def test_a_wrapped_state_dict_is_found(tmp_path: Path, wrap) -> None:
    torch.save(wrap(state()), tmp_path / "wrapped.pt")
    assert_holds(load_checkpoint(tmp_path / "wrapped.pt"), state())


def test_names_lose_what_wrappers_put_before_all_of_them(tmp_path: Path) -> None:
    torch.save({f"module._orig_mod.{name}": tensor for name, tensor in state().items()}, tmp_path / "ddp.pt")
    assert_holds(load_checkpoint(tmp_path / "ddp.pt"), state())
    assert next(iter(load_checkpoint(tmp_path / "ddp.pt", as_stored=True).shapes)).startswith("module._orig_mod.")


def test_tensors_of_one_storage_are_tied_however_often(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "tied.pt")
    checkpoint = load_checkpoint(tmp_path / "tied.pt")
    assert checkpoint.aliases == {"lm_head.weight": "tok_emb.weight", "third": "tok_emb.weight"}
    assert "third" not in checkpoint.stored_shapes


def on_cuda(data: bytes) -> bytes:
    """The stream as a GPU machine writes it: every storage was on cuda:0."""
    source = zipfile.ZipFile(io.BytesIO(data))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            contents = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                contents = contents.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            target.writestr(entry.filename, contents)
    return buffer.getvalue()


def test_cuda_storages_are_read_where_there_is_no_gpu(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "cpu.pt")
    data = on_cuda((tmp_path / "cpu.pt").read_bytes())
    assert b"cuda:0" in data
    (tmp_path / "gpu.pt").write_bytes(data)
    assert_holds(load_checkpoint(tmp_path / "gpu.pt"), state())


def test_reading_a_torch_file_loads_no_torch(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "final_model.pt")
    code = (
        "import sys; from pgpack.checkpoint.checkpoint import load_checkpoint; "
        "print(load_checkpoint(sys.argv[1]).digest, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "final_model.pt")], capture_output=True, check=True
    )
    assert done.stdout.decode().split() == [load_checkpoint(tmp_path / "final_model.pt").digest, "False"]


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "evil.pt"
    torch.save({"a": torch.zeros(2), "b": Runs(tmp_path / "made")}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="run code"):
        load_checkpoint(file)
    assert not (tmp_path / "made").exists()


def test_a_compressed_torch_file_is_refused_without_expanding_it(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 20)}, buffer)
    source = zipfile.ZipFile(buffer)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(CheckpointError, match="compressed entry"):
        load_checkpoint(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    "value",
    [
        {"a": torch.zeros(2).to_sparse()},
        {"a": torch.zeros(2, device="meta")},
        {"a": 1},
        {},
        torch.zeros(3),
        [torch.zeros(3)],
    ],
    ids=["sparse", "meta", "only-number", "empty", "tensor", "list"],
)
def test_what_is_no_state_dict_is_refused_in_a_sentence(tmp_path: Path, value) -> None:
    torch.save(value, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"odd\.pt: "):
        load_checkpoint(tmp_path / "odd.pt")


def test_a_tensor_outlives_its_file(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    kept = checkpoint.tensor("tok_emb.weight")
    expected = kept.copy()
    kept += 1  # a copy: the file and the next reading are not changed
    assert np.array_equal(checkpoint.tensor("tok_emb.weight"), expected)


def test_what_is_no_tensor_is_left_out_and_named(tmp_path: Path) -> None:
    torch.save(state() | {"fc._extra_state": None}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert_holds(checkpoint, state())
    assert checkpoint.notes == ("a.pt: fc._extra_state: no tensor, left out",)
    torch.save({"a": "text"}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="'a' is not a tensor"):
        load_checkpoint(tmp_path / "b.pt")


def test_two_keys_that_are_one_name_are_refused(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(2), "1": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="two of its keys are one name"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore")  # of torch about quantized tensors
def test_quantized_tensors_and_every_8_bit_float_are_read(tmp_path: Path) -> None:
    weight = torch.randn(8, 8)
    quantized = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    torch.save({"q": quantized, "w": weight}, tmp_path / "a.pt")
    assert np.array_equal(load_checkpoint(tmp_path / "a.pt").tensor("q"), quantized.dequantize().numpy())
    kinds = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
    save_file({str(i): weight.to(kind) for i, kind in enumerate(kinds)}, tmp_path / "b.safetensors")
    found = load_checkpoint(tmp_path / "b.safetensors")
    for i, kind in enumerate(kinds):
        assert np.array_equal(found.tensor(str(i)), weight.to(kind).float().numpy())


def test_floats_of_four_bits_are_refused_by_name(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F4", "shape": [4, 4], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="w is of type F4, several values in a byte"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.gguf"])
def test_a_git_lfs_pointer_says_what_it_is(tmp_path: Path, name: str) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1918982\n"
    (tmp_path / name).write_text(pointer)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(CheckpointError, match=r"a git-lfs pointer.*run `git lfs pull`"):
            load_checkpoint(path)


def test_ties_that_metadata_tells_of_one_another_come_back(tmp_path: Path) -> None:
    w = torch.arange(12.0).view(3, 4)
    told = {"mtp.weight": "head.weight", "head.weight": "emb.weight", "x": "y", "y": "x", "z": "none"}
    save_file({"emb.weight": w}, tmp_path / "a.safetensors", metadata=told)
    found = load_checkpoint(tmp_path / "a.safetensors")
    assert set(found.shapes) == {"emb.weight", "head.weight", "mtp.weight"}
    assert np.array_equal(found.tensor("mtp.weight"), w.numpy())


def test_a_name_that_save_model_left_out_is_there_again(tmp_path: Path) -> None:
    from safetensors.torch import save_model

    model = torch.nn.Module()
    model.a, model.b = torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(4, 3, bias=False)
    model.b.weight = model.a.weight
    save_model(model, str(tmp_path / "tied.safetensors"))
    found = load_checkpoint(tmp_path / "tied.safetensors")
    assert set(found.shapes) == {"a.weight", "b.weight"}
    assert len(found.aliases) == 1
    assert np.array_equal(found.tensor("b.weight"), model.a.weight.detach().numpy())


def test_reading_bfloat16_loads_no_torch(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5).bfloat16(),
        "b": torch.tensor(-2.5).bfloat16(),
        "c": torch.zeros(0, 2).bfloat16(),
    }
    tensors["d"] = torch.tensor([float("inf"), -0.0, 1e-40]).bfloat16()
    save_file(tensors, tmp_path / "a.safetensors")
    found = load_checkpoint(tmp_path / "a.safetensors")
    assert all(np.array_equal(found.load(name), tensor.float().numpy()) for name, tensor in tensors.items())
    code = (
        "import sys; from pgpack.checkpoint.checkpoint import load_checkpoint; "
        "c = load_checkpoint(sys.argv[1]); c.load('a'); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.safetensors")], capture_output=True, check=True
    )
    assert done.stdout.split() == [b"False"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["model.safetensors"], None),
        (["model.safetensors", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.model"], None),
        (["weights.safetensors"], "the file weights.safetensors is read"),
        (["weights.safetensors", "older.pt"], "weights.safetensors is read; older.pt beside it is not"),
        (
            ["model.safetensors", "a.pth", "b.gguf", "c.npz", "d.pt"],
            "is read; a.pth, b.gguf, c.npz and 1 more",
        ),
    ],
)
def test_a_folder_says_which_of_its_weights_are_read(files: list[str], said: str | None, tmp_path: Path) -> None:
    for name in files:
        save_file({"w": torch.ones(2, 2)}, tmp_path / name)
    notes = load_checkpoint(tmp_path).notes
    assert notes == () if said is None else len(notes) == 1
    assert (said or "") in "".join(notes)
    assert load_checkpoint(tmp_path / files[0]).notes == ()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickles_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    state = OrderedDict(w=torch.arange(6.0).reshape(2, 3), half=torch.ones(3).half())
    kept = {"best": np.float64(1.5), "names": {"a", "b"}, "few": frozenset({1}), "raw": b"x" * 300, "text": "y" * 300}
    torch.save({"model": state, "kept": kept, "epoch": 1 << 40}, tmp_path / "a.pt", pickle_protocol=protocol)
    found = dict(load_checkpoint(tmp_path / "a.pt").items())
    assert found["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["half"].tolist() == [1, 1, 1]
