"""Roles that the modules of a model tell, where the names of its tensors do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_tensors
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import parse_recipe
from pgpack.tensors.roles import role_of, roles_of

pytest.importorskip("transformers")

SIZES = {"vocab_size": 96, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
BERT = {"model_type": "bert", "is_decoder": True, "intermediate_size": 32, "max_position_embeddings": 32, **SIZES}
CTRL = {"model_type": "ctrl", "vocab_size": 96, "n_embd": 16, "dff": 32, "n_head": 2, "n_layer": 1, "n_positions": 32}
XLNET = {"model_type": "xlnet", "vocab_size": 96, "d_model": 16, "n_head": 2, "d_inner": 32, "n_layer": 1}
T5 = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 96, "d_model": 16, "d_kv": 8,
    "d_ff": 32, "num_layers": 1, "num_heads": 2,
}  # fmt: skip


def folder(path: Path, config: dict[str, object], *names: str) -> Checkpoint:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    save_tensors(path / "model.safetensors", {name: np.ones((4, 4), np.float32) for name in names}, {})
    return load_checkpoint(path)


CASES = [
    (BERT, "cls.predictions.decoder.weight", "head"),
    (BERT, "bert.encoder.layer.0.intermediate.dense.weight", "mlp"),
    (BERT, "bert.encoder.layer.0.output.dense.weight", "mlp"),
    (CTRL, "transformer.w.weight", "embedding"),
    (CTRL, "w.weight", "embedding"),  # saved without its head
    (XLNET, "lm_loss.weight", "head"),
    (XLNET, "transformer.layer.0.ff.layer_1.weight", "mlp"),
    (T5, "encoder.block.0.layer.0.SelfAttention.q.weight", "attention"),
    (T5, "shared.weight", "embedding"),
]


@pytest.mark.parametrize(("config", "name", "role"), CASES, ids=[name for _, name, _ in CASES])
def test_a_matrix_of_an_unknown_name_has_the_role_of_its_module(
    config: dict[str, object], name: str, role: str, tmp_path: Path
) -> None:
    checkpoint = folder(tmp_path / "m", config, name)
    assert role_of(name, (4, 4)) == "matrix"
    assert roles_of(checkpoint.stored_shapes) == {name: role}
    applied = apply(
        parse_recipe(f"role:{role}=cast(dtype=fp16)|raw; *=cast|raw").without_idle_rules(checkpoint.stored_shapes),
        checkpoint.stored_shapes,
    )
    assert [tensor.role for tensor in applied.tensors.values()] == [role]
    assert len(applied.recipe.rules) == 1


@pytest.mark.parametrize(
    "config",
    [{}, {"model_type": "never-heard-of"}, BERT | {"auto_map": {"AutoModel": "x.Y"}}, BERT | {"hidden_size": "x"}],
)
def test_without_a_model_the_names_are_all_there_is(config: dict[str, object], tmp_path: Path) -> None:
    checkpoint = folder(tmp_path / "m", config, "cls.predictions.decoder.weight")
    assert roles_of(checkpoint.stored_shapes) == {"cls.predictions.decoder.weight": "matrix"}


def test_a_name_that_is_known_keeps_its_role(tmp_path: Path) -> None:
    checkpoint = folder(tmp_path / "m", BERT, "lm_head.weight", "cls.predictions.decoder.weight")
    assert roles_of(checkpoint.shapes) == {"lm_head.weight": "head", "cls.predictions.decoder.weight": "head"}
