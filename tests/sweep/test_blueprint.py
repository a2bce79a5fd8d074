"""What other processes are sent of a model folder or of an adapter is all that opening it there needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pgpack.bench.blueprint import Blueprint
from pgpack.bench.options import BenchOptions
from pgpack.cache.options import CacheOptions
from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.files import require_file
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig
from tests.models.tiny_hf import write_folder
from tests.training.weights import random_tensors

pytest.importorskip("transformers")
NAME = "model.layers.0.self_attn.q_proj"


def moved(blueprint: Blueprint, folder: Path) -> Blueprint:
    for name, path in blueprint.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name)
    return blueprint.moved(folder)


@pytest.mark.parametrize("shards", [False, True])
def test_a_folder_and_an_adapter_open_elsewhere_as_they_do_here(tmp_path: Path, shards: bool) -> None:
    base = write_folder(tmp_path / "base", "llama-tied", shards)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    pair = {f"{NAME}.lora_A.weight": torch.ones(2, 32), f"{NAME}.lora_B.weight": torch.ones(32, 2)}
    save_file(
        {f"base_model.model.{name}": tensor for name, tensor in pair.items()}, adapter / "adapter_model.safetensors"
    )
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 2}))
    for number, (path, options) in enumerate([(base, BenchOptions()), (adapter, BenchOptions(base=str(base)))]):
        here = Blueprint((require_file(path),), options, tmp_path, CacheOptions())
        there = moved(here, tmp_path / f"there-{number}")
        assert all(file.is_relative_to(tmp_path / f"there-{number}") for file in there.checkpoints)
        before = open_merged(here.checkpoints[0], here.text.base)
        after = open_merged(there.checkpoints[0], there.text.base)
        assert after.digest == before.digest
        assert dict(after.companions) == dict(before.companions)


def test_a_model_that_was_found_is_not_looked_for_again_elsewhere(
    tmp_path: Path, text_folder: TextFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GPTConfig(
        vocab_size=400, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1, mlp_activation="relu3"
    )
    path = tmp_path / "final_model.pt"
    torch.save({name: torch.from_numpy(array) for name, array in random_tensors(config, 0).items()}, path)
    found = json.dumps({"config": json.loads(config.to_json()), "fields": {}})
    options = BenchOptions(
        val=text_folder.val_glob, calib=text_folder.train_glob, tokenizer=str(text_folder.tokenizer_path)
    )
    monkeypatch.setattr("pgtrain.challenge_models.identify", None)
    here = Blueprint((path,), options, tmp_path, CacheOptions(), (found,))
    for blueprint in (here, moved(here, tmp_path / "there")):
        model = blueprint.bench(0).text.model
        assert (model.config, model.evidence) == (config.to_json(), found)
