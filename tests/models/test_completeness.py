"""Weights that lack what their config.json asks for are packed with a sentence that says so; no others are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pgpack.bench.options import BenchOptions
from pgpack.bench.packing import pack_recipe
from pgpack.bench.workpiece import Workpiece
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.checkpoint.folders import config_of
from pgpack.checkpoint.regular import looks_whole
from pgpack.errors import CheckpointError
from pgpack.models.completeness import lacking
from pgpack.models.huggingface import build_transformers
from pgpack.recipe.recipe import parse_recipe
from tests.commands.workshop import pgpack, succeed

from .tiny_hf import FAMILIES, VOCABULARY, write_folder

SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {  # of other tasks: (class, config, fields)
    "classes": ("LlamaForSequenceClassification", "LlamaConfig", SMALL),
    "no head": ("LlamaModel", "LlamaConfig", SMALL),
    "masked": ("BertForMaskedLM", "BertConfig", SMALL),
    "encoder": ("BertModel", "BertConfig", SMALL),
    "encoder-decoder": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 8},
    ),
    "pictures": ("ViTForImageClassification", "ViTConfig", SMALL | {"image_size": 32, "patch_size": 8}),
}


def said_of(folder: Path) -> str:
    checkpoint = load_checkpoint(folder)
    return lacking(checkpoint.companions, checkpoint.shapes)


def without(folder: Path, part: str) -> Path:
    """The folder with its single file rewritten without the tensors that have `part` in their names."""
    file = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if part not in name}
    assert len(kept) < len(load_file(file))
    save_file(kept, file, {"format": "pt"})
    return folder


def changed(folder: Path, **fields: Any) -> Path:
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | fields))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_folder_lacks_nothing(tmp_path: Path, family: str) -> None:
    assert said_of(write_folder(tmp_path, family)) == ""


@pytest.mark.parametrize("task", OTHERS)
def test_models_of_other_tasks_are_whole_by_their_own_class(tmp_path: Path, task: str) -> None:
    import transformers

    maker, config, fields = OTHERS[task]
    getattr(transformers, maker)(getattr(transformers, config)(**fields)).save_pretrained(tmp_path)
    assert said_of(tmp_path) == ""
    first = next(iter(load_file(tmp_path / "model.safetensors")))
    assert f"{maker} of config.json needs {first}" in said_of(without(tmp_path, first))


AMISS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a norm": (lambda folder: without(folder, "model.norm"), "needs model.norm.weight, which the checkpoint lacks"),
    "a head": (lambda folder: without(folder, "lm_head"), "needs lm_head.weight, which"),
    "a layer": (
        lambda folder: without(folder, "layers.1."),
        "needs model.layers.1.input_layernorm.weight and 8 more",
    ),
    "more layers": (lambda folder: changed(folder, num_hidden_layers=3), "needs model.layers.2.input_layernorm.wei"),
    "other shapes": (lambda folder: changed(folder, intermediate_size=64), "down_proj.weight and 5 more has shape"),
}


@pytest.mark.parametrize("what", AMISS)
def test_what_an_evaluation_refuses_is_said_when_it_is_packed(tmp_path: Path, what: str) -> None:
    change, sentence = AMISS[what]
    folder = change(write_folder(tmp_path / "model"))
    checkpoint = load_checkpoint(folder)
    tensors = {name: torch.tensor(array) for name, array in checkpoint.items()}
    with pytest.raises(CheckpointError) as refused:
        build_transformers(checkpoint.companions["config.json"], tensors)
    assert sentence in str(refused.value)
    notes: list[str] = []
    bench = Workpiece(folder, checkpoint, BenchOptions(), notes.append)
    for _ in range(2):
        packed = pack_recipe(bench, parse_recipe("*=cast(dtype=fp16)|raw"), evaluate=False)
    assert set(packed.artifact.report.tensors) == set(checkpoint.stored_shapes)
    assert [note for note in notes if str(refused.value) in note] == [
        f"{refused.value}; it is packed as it is, and no model can be made of it as it stands"
    ]


@pytest.mark.parametrize("fields", [{"model_type": "nonsense"}, {"auto_map": {"AutoModel": "code.Model"}}])
def test_where_nobody_can_tell_nothing_is_said(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert said_of(changed(without(write_folder(tmp_path), "model.norm"), **fields)) == ""


def test_a_config_of_a_giant_is_called_one_at_once(tmp_path: Path) -> None:
    assert "num_hidden_layers = 1,000,000,000" in said_of(changed(write_folder(tmp_path), num_hidden_layers=10**9))


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "qwen2", "gpt_neox", "phi", "gemma", "mixtral"])
def test_a_whole_folder_looks_whole_by_its_names_alone(tmp_path: Path, family: str) -> None:
    checkpoint = load_checkpoint(write_folder(tmp_path, family))
    assert looks_whole(checkpoint.shapes, config_of(checkpoint.companions))


@pytest.mark.parametrize("kind", AMISS)
@pytest.mark.parametrize("verb", ["inspect", "plan"])
def test_what_lacks_is_said_where_weights_are_shown(tmp_path: Path, kind: str, verb: str) -> None:
    change, said = AMISS[kind]
    folder = change(write_folder(tmp_path, "llama"))
    recipe = ("--recipe", "*=cast|raw") if verb == "plan" else ()
    done = succeed(pgpack(verb, folder, *recipe))
    shown = " ".join((done.out + done.err).split())
    assert said in shown
    assert "no model can be made of it as it stands" in shown
