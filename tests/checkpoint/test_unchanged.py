"""A file that changes while it is read stops the run; nothing is made of two versions, and nothing wrong is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint
from pgpack.checkpoint.files import weight_files
from pgpack.errors import InputChanged
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.text.data import read_tokens, write_shards
from pgpack.text.source import open_source, split
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


def write_gguf(path: Path, held: Tensors) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "none")
    for name, array in held.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


WRITERS = {"safetensors": write_safetensors, "torch": write_torch, "index": write_index, "gguf": write_gguf}


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


@pytest.mark.parametrize("write", [write_safetensors, write_torch, write_gguf])
def test_a_file_that_is_cut_between_the_check_and_the_reading_is_an_error_and_no_bus_error(
    write: Callable[[Path, Tensors], None], tmp_path: Path
) -> None:
    """In a process of its own, which a mapped page that is gone would end."""
    path = tmp_path / "m.bin"
    write(path, {"a.weight": np.ones((1 << 10, 1 << 10), np.float32)})
    code = f"""
import os
from pathlib import Path
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint
from pgpack.checkpoint.files import weight_files
from pgpack.errors import InputChanged
from pgpack.files import Unchanged
checkpoint = load_checkpoint({str(path)!r})
check, calls = Unchanged.check, []
def cutting(self, *only):
    check(self, *only)
    if not calls:
        os.truncate({str(path)!r}, 8192)
    calls.append(1)
Unchanged.check = cutting
try:
    checkpoint.tensor("a.weight")
except InputChanged:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_another_part_of_a_gguf_in_parts_is_seen(tmp_path: Path) -> None:
    paths = [tmp_path / f"m-0000{part}-of-00002.gguf" for part in (1, 2)]
    for path in paths:
        path.write_bytes(b"GGUF")
    assert weight_files(paths[0]) == weight_files(paths[1]) == paths


def test_what_is_packed_has_the_digest_that_the_cache_knows_it_by(tmp_path: Path) -> None:
    cache = open_cache(CacheOptions(folder=tmp_path / "cache"))
    checkpoint = from_tensors(tensors(0))
    _ = checkpoint.tensor_digests  # of an earlier reading
    object.__setattr__(checkpoint, "load", tensors(1).__getitem__)
    with pytest.raises(InputChanged, match=r"a\.weight .* reads differently"):
        pack(checkpoint, RECIPE, cache=cache)
    assert pack(from_tensors(tensors(0)), RECIPE, cache=cache).data == pack(from_tensors(tensors(0)), RECIPE).data


def write_plain(path: Path, texts: list[str]) -> None:
    path.write_text("\n\0\n".join(texts))


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def write_parquet(path: Path, texts: list[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=10)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    ("name", "write"), [("t.txt", write_plain), ("t.jsonl", write_jsonl), ("t.parquet", write_parquet)]
)
def test_a_text_that_changes_stops_the_run_on_either_side_of_the_split(
    name: str, write: Callable[[Path, list[str]], None], change: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    path, other = tmp_path / name, tmp_path / f"other-{name}"
    write(path, [f"document {n} " + "words " * 4000 for n in range(60)])
    write(other, [f"another {n} " + "words " * 4000 for n in range(60)])
    sides = split(open_source([str(path)]))
    parts = sides.val()
    next(parts)
    change(path, other)
    for side in (parts, sides.val(), sides.calib()):
        with pytest.raises(InputChanged, match=r"was replaced, changed or cut .* run the same command again"):
            list(side)


def test_shards_of_two_versions_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (write_shards(np.arange(9, dtype=np.uint16), tmp_path, name)[0] for name in ("a", "b"))
    (other,) = write_shards(np.arange(9, 18, dtype=np.uint16), tmp_path, "c")
    fromfile = np.fromfile

    def replacing(*args: Any, **kwargs: Any) -> Any:
        if other.exists():
            os.replace(other, second)
        return fromfile(*args, **kwargs)

    monkeypatch.setattr(np, "fromfile", replacing)
    with pytest.raises(InputChanged, match="b_000000"):
        read_tokens([first, second])


def test_a_companion_is_read_once(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", tensors(0))
    (tmp_path / "config.json").write_text('{"a": 1}')
    checkpoint = load_checkpoint(tmp_path)
    before = checkpoint.companions["config.json"]
    (tmp_path / "config.json").write_text('{"a": 2}')
    assert checkpoint.companions["config.json"] == before
