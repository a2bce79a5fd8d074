"""Mixtures of experts: transformers puts the experts of a file together; each is calibrated and packed as its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import pgpack
from pgpack.calibration.coverage import covered
from pgpack.calibration.observe import uncovered
from pgpack.recipe.recipe import parse_recipe

from .test_huggingface_calibration import observed, opened
from .tiny_hf import LENGTH, reference_logits, tokens, write_folder, write_tokenizer

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself
LAYER = "model.layers.0.block_sparse_moe"
DEAD = 4


def moe(model: torch.nn.Module, layer: int) -> torch.nn.Module:
    found: torch.nn.Module = model.get_submodule(f"model.model.layers.{layer}.mlp")
    return found


def given(model: torch.nn.Module, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that the router of layer 0 gives an expert, and its inner values. Shape: (n, in), (n, inner)."""
    rows: list[torch.Tensor] = []
    block = moe(model, 0)
    handle = block.register_forward_pre_hook(lambda m, x: rows.append(x[0].detach().flatten(0, 1)))
    with torch.no_grad():
        model(tokens(2 * LENGTH))
        handle.remove()
        x = torch.cat(rows)
        chosen = block.gate(x)[2]
        x = x[(chosen == expert).any(-1)]
        gate, up = (x @ block.experts.gate_up_proj[expert].T).chunk(2, -1)
    return x, torch.nn.functional.silu(gate) * up


def test_the_moments_of_an_expert_are_those_of_the_tokens_that_it_is_given(tmp_path: Path) -> None:
    checkpoint, model = opened(write_folder(tmp_path, "mixtral"))
    calibration = observed(checkpoint, model)
    for expert in range(3):
        x, inner = given(model, expert)
        assert 0 < len(x) < 2 * LENGTH
        for name, rows in (("w1", x), ("w3", x), ("w2", inner)):
            weight = f"{LAYER}.experts.{expert}.{name}.weight"
            moment = (rows.T @ rows / (2 * LENGTH)).numpy()
            assert np.allclose(calibration.hessian(weight), moment, rtol=1e-4, atol=1e-7), weight
            assert calibration.fisher(weight).shape == checkpoint.shapes[weight][:1]


def with_a_dead_expert(folder: Path) -> Path:
    """A Mixtral of five experts whose router never chooses the last one: of r, -r, 2 r, -2 r and 0 the two largest
    are never 0."""
    write_folder(folder, "mixtral", num_local_experts=DEAD + 1)
    stored = load_file(folder / "model.safetensors")
    for layer in range(2):
        gate = f"model.layers.{layer}.block_sparse_moe.gate.weight"
        stored[gate] = torch.tensor([1.0, -1.0, 2.0, -2.0, 0.0])[:, None] * stored[gate][:1]
    save_file(stored, folder / "model.safetensors")
    return write_tokenizer(folder)


def test_a_dead_expert_is_packed_without_a_hessian_and_named_and_the_model_comes_back(tmp_path: Path) -> None:
    folder = with_a_dead_expert(tmp_path / "model")
    checkpoint, model = opened(folder)
    calibration = observed(checkpoint, model)
    missing = uncovered(calibration, checkpoint.stored_shapes)
    assert len(missing) == 2 * 3
    assert all(f".experts.{DEAD}." in name for name in missing)
    bench = pgpack.open_bench(folder, text="builtin", max_tokens=256, cache=False)
    recipe = "role:control=cast; *=tcq(step=0.01)|rans_scaled; @calib=tokens(count=512)"
    told = covered(checkpoint, parse_recipe(recipe), calibration).note
    artifact = bench.pack(recipe, to=tmp_path / "moe.pgpack")
    assert f"{LAYER}.experts.{DEAD}.w1.weight" in told
    assert told.startswith("6 tensors are packed without a Hessian")
    artifact.unpack(tmp_path / "back")
    with torch.no_grad():
        expected = artifact.model()(tokens()).logits
    assert torch.allclose(reference_logits(tmp_path / "back", tokens()), expected, atol=1e-4)


def test_experts_that_a_file_holds_together_are_one_stack(tmp_path: Path) -> None:
    """What `save_pretrained` writes of a model whose experts it does not take apart."""
    folder = write_folder(tmp_path, "mixtral")
    _, model = opened(folder)
    fused = {name.removeprefix("model."): tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(fused, folder / "model.safetensors")
    again, same = opened(folder)
    assert again.shapes["model.layers.0.mlp.experts.gate_up_proj"] == (3, 96, 32)
    with torch.no_grad():
        assert torch.allclose(same(tokens()), model(tokens()), atol=1e-5)
    assert uncovered(observed(again, same), again.stored_shapes) == []
