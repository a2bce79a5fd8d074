"""Checkpoints of several files: by an index, by their names, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError
from tests.checkpoint.test_checkpoint_files import assert_holds, state


def sharded(folder: Path, kind: str) -> dict[str, torch.Tensor]:
    tensors = {name: tensor.clone().contiguous() for name, tensor in state().items()}
    names = list(tensors)
    files = {f"model-0000{i}-of-00002.{kind}": names[i::2] for i in range(2)}
    for file, members in files.items():
        part = {name: tensors[name] for name in members}
        save_file(part, folder / file) if kind == "safetensors" else torch.save(part, folder / file)
    weight_map = {name: file for name in names for file, members in files.items() if name in members}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"model.{kind}.index.json").write_text(json.dumps(index))
    return tensors


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_one_checkpoint_by_index_or_folder(tmp_path: Path, kind: str) -> None:
    tensors = sharded(tmp_path, kind)
    assert_holds(load_checkpoint(tmp_path / f"model.{kind}.index.json"), tensors)
    assert_holds(load_checkpoint(tmp_path), tensors)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weight_map": {"a": "../outside.safetensors"}}, "in the folder of the index or below"),
        ({"weight_map": {"a": "/etc/passwd"}}, "in the folder of the index or below"),
        ({"weight_map": {"a": ".."}}, "in the folder of the index or below"),
        ({"weight_map": {"a": "absent.safetensors"}}, "is not there"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "is not there"),
        ({"weight_map": {"a": "model-00000-of-00002.safetensors"}}, "a is not in its shard"),
        ({"weight_map": {"a": "notes.txt"}}, "no safetensors or torch file"),
        ({"weight_map": {}}, "holds no tensors"),
        ({"weight_map": ["a"]}, "no 'weight_map'"),
        ({}, "no 'weight_map'"),
    ],
)
def test_an_index_cannot_lead_elsewhere(tmp_path: Path, change, sentence: str) -> None:
    sharded(tmp_path, "safetensors")
    (tmp_path / "notes.txt").write_text("nothing")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps(change))
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(index)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_below_the_index_are_read(tmp_path: Path, kind: str) -> None:
    tensors = sharded(tmp_path, kind)
    below = tmp_path / "parts" / "of it"
    below.mkdir(parents=True)
    index = tmp_path / f"model.{kind}.index.json"
    told = json.loads(index.read_text())
    for number, file in enumerate(sorted(set(told["weight_map"].values()))):
        place = f"parts/of it/{file}" if number else f"./{file}"
        (tmp_path / file).rename(tmp_path / place)
        told["weight_map"] = {name: place if at == file else at for name, at in told["weight_map"].items()}
    index.write_text(json.dumps(told))
    assert_holds(load_checkpoint(tmp_path), tensors)
    (below / f"model-00002-of-00002.{kind}").write_bytes(b"another")
    with pytest.raises(CheckpointError, match=rf"stale: it does not name parts/of it/model-00002-of-00002.{kind}"):
        load_checkpoint(tmp_path)


def test_a_linked_folder_leads_no_index_out_and_a_linked_shard_is_read(tmp_path: Path) -> None:
    folder, cache = tmp_path / "model", tmp_path / "blobs"
    folder.mkdir()
    tensors = sharded(folder, "safetensors")
    cache.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):  # as downloads are kept
        path.rename(cache / str(number))
        path.symlink_to(cache / str(number))
    assert_holds(load_checkpoint(folder), tensors)
    save_file(tensors, tmp_path / "blobs" / "all.safetensors")
    (folder / "linked").symlink_to(cache)
    index = folder / "other.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "linked/all.safetensors")}))
    with pytest.raises(CheckpointError, match="in the folder of the index or below"):
        load_checkpoint(index)


def test_a_stale_index_is_refused_with_the_names_that_it_drops(tmp_path: Path) -> None:
    sharded(tmp_path, "safetensors")
    index = tmp_path / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    for name in ("half", "mask"):
        del told["weight_map"][name]
    index.write_text(json.dumps(told))
    with pytest.raises(
        CheckpointError, match=r"is stale: its shards also hold (half, mask|mask, half), which it does"
    ):
        load_checkpoint(tmp_path)


def test_a_shard_that_a_stale_index_does_not_name_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path, "safetensors")
    second = "model-00001-of-00002.safetensors"
    index = tmp_path / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"] = {name: file for name, file in told["weight_map"].items() if file != second}
    index.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=f"is stale: it does not name {second} beside it"):
        load_checkpoint(tmp_path)


def in_two(folder: Path, first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], of: int = 2) -> Path:
    files = {f"model-00001-of-{of:05}.safetensors": first, f"model-00002-of-{of:05}.safetensors": second}
    for file, tensors in files.items():
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / file)
    told = {name: file for file, tensors in files.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": told}))
    return folder


def test_a_tensor_in_two_shards_is_refused_where_they_differ(tmp_path: Path) -> None:
    w = torch.arange(16.0).view(4, 4)
    in_two(tmp_path, {"a": w, "b": w}, {"b": w + 1, "c": w})
    with pytest.raises(CheckpointError, match=r"-00002-of-00002.safetensors and .* both hold b, and not the same"):
        load_checkpoint(tmp_path)
    in_two(tmp_path, {"a": w, "b": w}, {"b": w, "c": w})
    assert np.array_equal(load_checkpoint(tmp_path).tensor("b"), w.numpy())


def test_parts_that_an_index_does_not_name_are_said(tmp_path: Path) -> None:
    w = torch.ones(4, 4)
    notes = load_checkpoint(in_two(tmp_path, {"a": w}, {"b": 2 * w}, of=3)).notes
    assert any("names 2 of 3 parts that its shards are of" in note for note in notes)
    (tmp_path / "whole").mkdir()
    assert load_checkpoint(in_two(tmp_path / "whole", {"a": w}, {"b": 2 * w})).notes == ()


def test_one_part_of_several_without_an_index_is_no_model(tmp_path: Path) -> None:
    save_file({"a": torch.ones(4, 4)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="is one part of 2, and neither the others nor their index are there"):
        load_checkpoint(tmp_path)
    assert set(load_checkpoint(tmp_path / "model-00001-of-00002.safetensors").shapes) == {"a"}
    (tmp_path / "model-00001-of-00002.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    assert set(load_checkpoint(tmp_path).shapes) == {"a"}


def test_an_empty_shard_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00001.safetensors").touch()
    index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"its shard model-00001-of-00001\.safetensors is empty; fetch it again"
    ):
        load_checkpoint(tmp_path)
