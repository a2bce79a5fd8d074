"""A file that changes while it is read stops the run; nothing is made of two versions, and nothing wrong is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pgpack.cache.opening import open_cache
from pgpack.cache.options import CacheOptions
from pgpack.calibration.calibration import load_calibration
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import InputChanged
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.text.data import read_tokens, write_shards
from pgpack.unpack import unpack

RECIPE = parse_recipe("*=rtn(bits=8)|rans")
Tensors = Mapping[str, np.ndarray[Any, Any]]


def tensors(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {f"{name}.weight": rng.standard_normal((96, 64)).astype(np.float32) for name in "abc"}


def write_safetensors(path: Path, held: Tensors) -> None:
    save_file(dict(held), path)


def write_torch(path: Path, held: Tensors) -> None:
    torch.save({name: torch.tensor(array) for name, array in held.items()}, path)


def write_old_torch(path: Path, held: Tensors) -> None:
    state = {name: torch.tensor(array) for name, array in held.items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def write_index(path: Path, held: Tensors) -> None:
    """Two shards beside an index; the second is what is replaced."""
    first = path.with_name("one.safetensors")
    names = list(held)
    write_safetensors(first, {names[0]: held[names[0]]})
    write_safetensors(path, {name: held[name] for name in names[1:]})
    shard = {name: first.name if name == names[0] else path.name for name in names}
    path.with_name("x.index.json").write_text(json.dumps({"weight_map": shard}))


WRITERS = {"safetensors": write_safetensors, "torch": write_torch, "index": write_index}


def opened(path: Path) -> Path:
    index = path.with_name("x.index.json")
    return index if index.exists() else path


def replaced(path: Path, other: Path) -> None:
    os.replace(other, path)


def cut(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def written_over(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())
    os.utime(path, (1, 1))


def removed(path: Path, other: Path) -> None:
    path.unlink()


CHANGES: dict[str, Callable[[Path, Path], None]] = {
    "replaced": replaced,
    "cut": cut,
    "written over": written_over,
    "removed": removed,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_checkpoint_that_changes_is_refused_at_the_next_tensor(
    write: Callable[[Path, Tensors], None], change: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    path, other = tmp_path / "m.bin", tmp_path / "other" / "m.bin"
    other.parent.mkdir()
    write(path, tensors(0))
    write(other, tensors(1))
    checkpoint = load_checkpoint(opened(path))
    assert np.array_equal(checkpoint.tensor("b.weight"), tensors(0)["b.weight"])
    change(path, other)
    for name in ("b.weight", "c.weight"):
        with pytest.raises(InputChanged, match=r"m\.bin was replaced, changed or cut .* run the same command again"):
            checkpoint.tensor(name)


def test_contents_that_differ_behind_the_same_size_and_time_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, tensors(0))
    checkpoint = load_checkpoint(path)
    checkpoint.tensor("a.weight")
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(-96 * 64 * 12 + 5, os.SEEK_END)
        file.write(b"\x77")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(InputChanged, match="reads differently"):
        checkpoint.tensor("a.weight")


def test_what_old_torch_files_hold_is_in_memory_and_another_file_still_stops_the_run(tmp_path: Path) -> None:
    path, other = tmp_path / "m.pt", tmp_path / "n.pt"
    write_old_torch(path, tensors(0))
    write_old_torch(other, tensors(1))
    checkpoint = load_checkpoint(path)
    os.replace(other, path)
    with pytest.raises(InputChanged):
        checkpoint.tensor("a.weight")


@pytest.mark.parametrize("moment", range(10))
def test_a_pack_whose_input_is_replaced_leaves_no_wrong_weights_in_the_cache(moment: int, tmp_path: Path) -> None:
    path, other, original = tmp_path / "m.safetensors", tmp_path / "n.safetensors", tmp_path / "o.safetensors"
    write_safetensors(path, tensors(0))
    write_safetensors(other, tensors(1))
    shutil.copyfile(path, original)
    cache = open_cache(CacheOptions(folder=tmp_path / "cache"))
    checkpoint = load_checkpoint(path)
    load, count = checkpoint.load, 0

    def counting(name: str) -> Any:
        nonlocal count
        count += 1
        if count == moment:
            os.replace(other, path)
        return load(name)

    object.__setattr__(checkpoint, "load", counting)
    try:
        data = pack(checkpoint, RECIPE, cache=cache).data
    except InputChanged:
        data = pack(load_checkpoint(original), RECIPE, cache=cache).data
    assert data == pack(load_checkpoint(original), RECIPE).data
    for name, array in unpack(data).tensors().items():
        assert np.abs(array - tensors(0)[name]).max() < 0.05


def test_a_calibration_that_changes_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    for file, scale in ((path, 1), (other, 2)):
        save_file({"a.weight.hessian": scale * np.eye(8, dtype=np.float32)}, file)
    calibration = load_calibration(path)
    digest = calibration.tensor_digest("a.weight")
    os.replace(other, path)
    with pytest.raises(InputChanged):
        calibration.hessian("a.weight")
    assert load_calibration(path).tensor_digest("a.weight") != digest


def test_a_shard_that_is_cut_behind_its_header_is_no_shorter_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_shards(np.arange(100, dtype=np.uint16), tmp_path, "t")
    fromfile = np.fromfile

    def cutting(*args: Any, **kwargs: Any) -> Any:
        os.truncate(path, 1100)
        return fromfile(*args, **kwargs)

    monkeypatch.setattr(np, "fromfile", cutting)
    with pytest.raises(InputChanged, match="was cut"):
        read_tokens([path])
