"""What calibration sees of transformers' models: every matrix, by the checkpoint's name, with the right moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pgpack.calibration.observe import observe, uncovered
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.refine.divergence import Divergence

from .test_huggingface import found_model
from .tiny_hf import FAMILIES, LENGTH, tokens, write_folder

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself
STATE_SPACE = ("A_log", "conv1d.weight")  # no products x W^T


def opened(folder: Path):
    checkpoint = load_checkpoint(folder)
    state = {name: torch.tensor(array) for name, array in checkpoint.items()}
    return checkpoint, found_model(checkpoint).build(state)


def observed(checkpoint, model):
    ids = tokens(2 * LENGTH).reshape(-1).numpy()
    return observe(model, ids, LENGTH, token_digest="", stored=checkpoint.shapes)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_has_a_hessian(tmp_path: Path, family: str) -> None:
    checkpoint, model = opened(write_folder(tmp_path, family))
    calibration = observed(checkpoint, model)
    missing = uncovered(calibration, checkpoint.stored_shapes)
    assert not [name for name in missing if not family.startswith("mamba") or not name.endswith(STATE_SPACE)]
    assert {name.removesuffix(".lookup") for name in calibration.names} <= checkpoint.shapes.keys()


def inputs_of(model, module) -> torch.Tensor:
    """The rows of the inputs of `module` when the model runs over the text, once."""
    rows: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda m, x: rows.append(x[0].detach().reshape(-1, x[0].shape[-1])))
    with torch.no_grad():
        model(tokens(2 * LENGTH))
    handle.remove()
    return torch.cat(rows)


def gradients_at(module) -> list[torch.Tensor]:
    """The rows of the gradients at the outputs of `module`, from now on: labels are drawn by calibration itself."""
    rows: list[torch.Tensor] = []
    module.register_full_backward_hook(
        lambda m, given, got: rows.append(got[0].detach().reshape(-1, got[0].shape[-1]))
    )
    return rows


@pytest.mark.parametrize(
    ("family", "name", "backward"),
    [
        ("gpt_neox", "gpt_neox.layers.1.attention.query_key_value", False),
        ("phi", "model.layers.1.self_attn.dense", False),
        ("llama", "model.layers.1.mlp.down_proj", False),
        ("gpt2", "transformer.h.1.attn.c_attn", True),  # Conv1D: rows are inputs, so columns of W are outputs
        ("gpt2", "transformer.h.1.mlp.c_proj", True),
    ],
)
def test_moments_are_those_that_hooks_see(tmp_path: Path, family: str, name: str, backward: bool) -> None:
    checkpoint, model = opened(write_folder(tmp_path, family))
    module = model.get_submodule(f"model.{name}")
    rows = gradients_at(module) if backward else [inputs_of(model, module)]
    calibration = observed(checkpoint, model)
    seen = torch.cat(rows)
    weight = f"{name}.weight"
    assert len(calibration.hessian(weight)) == checkpoint.shapes[weight][-1]
    assert np.allclose(calibration.hessian(weight), (seen.T @ seen / len(seen)).numpy(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("family", ["gpt_neox", "llama-tied", "gpt2", "mixtral"])
def test_weights_of_the_checkpoint_take_the_place_of_the_modules(tmp_path: Path, family: str) -> None:
    checkpoint = load_checkpoint(write_folder(tmp_path, family))
    reference = dict(checkpoint.items())
    divergence = Divergence(found_model(checkpoint).build, reference, checkpoint.aliases, "cpu")
    divergence.require(list(checkpoint.shapes))
    ids = tokens(LENGTH)
    same = {name: torch.tensor(array) for name, array in reference.items()}
    assert float(divergence.kl(same, ids)) == pytest.approx(0, abs=1e-6)
    for name in checkpoint.stored_shapes:
        moved = {**same, name: same[name] + 0.5 * torch.randn(same[name].shape, generator=torch.manual_seed(0))}
        assert float(divergence.kl(moved, ids)) > 1e-6 or name.endswith("bias"), name
