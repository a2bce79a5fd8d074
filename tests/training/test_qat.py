"""What QAT trains on is what the packer stores, from the step it is switched on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint
from pgpack.errors import DataError
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.text.text_folder import TextFolder
from pgpack.unpack import unpack
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.loss_function import LossFunction
from pgtrain.training.qat import FakeQuantizer, on_grid, row_steps, soft_slope
from pgtrain.training.run_log import log_path
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig
from tests.training.weights import random_tensors

FAST = TrainConfig(steps=10, batch_tokens=128, warmup_steps=2, warmdown_steps=4, ema_decay=0.8)
QAT = dataclasses.replace(FAST, qat_bits=5, qat_embed_bits=8, qat_from=0.5)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in log_path(out).read_text().splitlines()]


def train(config: TrainConfig, tiny: GPTConfig, folder: TextFolder, out: Path) -> list[float]:
    Trainer(tiny, config, folder, out).train(lambda row: None)
    return losses(out)


def packed_and_unpacked(tensors: dict[str, np.ndarray], recipe: str) -> dict[str, np.ndarray]:
    return unpack(pack(from_tensors(tensors), parse_recipe(recipe)).data).tensors()


@pytest.mark.parametrize("bits", [2, 5, 6, 8])
@pytest.mark.parametrize("clip", [0.0, 3.0, 12.85])
def test_packing_with_the_matching_recipe_gives_the_weights_of_the_forward_pass(
    bits: int, clip: float, tiny: GPTConfig
) -> None:
    config = dataclasses.replace(tiny, embed_dim=12, input_residual_rank=4)
    tensors = random_tensors(config, 0)
    tensors["blocks.0.mlp.fc.weight"][3] = 0.0  # a row without spread
    tensors["blocks.1.mlp.fc.weight"][1] = 1e-9  # a step below fp16
    quantizer = FakeQuantizer(TrainConfig(qat_bits=bits, qat_clip=clip, qat_embed_bits=8, qat_embed_clip=20.0))
    held = {name: torch.from_numpy(array) for name, array in tensors.items()}
    recipe = quantizer.recipe(held)
    unpacked = packed_and_unpacked(tensors, recipe)
    seen = quantizer.weights(held)
    assert {"tok_emb.weight", "blocks.2.attn.proj.weight", "embed_proj.weight", "input_residual.A.weight"} <= set(
        seen
    )
    for name, tensor in (held | seen).items():
        assert np.array_equal(unpacked[name], tensor.detach().numpy()), name


def test_a_trained_checkpoint_names_its_recipe(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    train(QAT, tiny, text_folder, out)
    checkpoint = load_checkpoint(out)
    tensors, metadata = dict(checkpoint.items()), checkpoint.metadata
    recipe = json.loads(metadata["training"])["qat_recipe"]
    assert "*.mlp.fc.weight=sdclip(bits=5,clip=12.85)|rans" in recipe
    unpacked = packed_and_unpacked(tensors, recipe)
    held = {name: torch.from_numpy(array) for name, array in tensors.items()}
    packed = held | FakeQuantizer.of(QAT).weights(held)
    assert all(np.array_equal(unpacked[name], packed[name].detach().numpy()) for name in tensors)


def test_late_qat_changes_nothing_before_it_starts_and_the_loss_from_then_on(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    plain = train(FAST, tiny, text_folder, tmp_path / "plain.safetensors")
    late = train(QAT, tiny, text_folder, tmp_path / "late.safetensors")
    assert late[:5] == plain[:5]
    assert all(a != b for a, b in zip(late[5:], plain[5:], strict=True))


def test_a_late_switch_is_not_folded_away_by_the_compiler(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    """Traced by torch.compile, where #212 lost it; the eager backend runs what was traced."""
    eager = train(QAT, tiny, text_folder, tmp_path / "eager.safetensors")
    compiled = dataclasses.replace(QAT, compile_backend="eager")
    assert train(compiled, tiny, text_folder, tmp_path / "compiled.safetensors") == pytest.approx(eager, rel=1e-5)
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler uses torch's deprecated parts
def test_inductor_computes_the_same_losses(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    eager = train(QAT, tiny, text_folder, tmp_path / "eager.safetensors")
    compiled = dataclasses.replace(QAT, compile_backend="inductor")
    assert train(compiled, tiny, text_folder, tmp_path / "compiled.safetensors") == pytest.approx(eager, rel=1e-3)
    torch.compiler.reset()


def test_straight_through_gives_the_gradient_at_the_grid_weights(tiny: GPTConfig) -> None:
    ids = torch.randint(0, 400, (2, 32), generator=torch.Generator().manual_seed(0))
    model = initialize_(GPT(tiny), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    quantizer = FakeQuantizer(TrainConfig(qat_bits=4, qat_clip=3.0, qat_embed_bits=6, qat_embed_clip=0.0))
    named = dict(model.named_parameters())
    weights = quantizer.weights(named)
    LossFunction(model)(ids, ids, weights).backward()
    quantizer.hand_back_(named, weights, 0.5)
    through = {name: parameter.grad.clone() for name, parameter in named.items()}
    model.zero_grad()
    with torch.no_grad():
        for name, grid in quantizer.weights(named).items():
            named[name].copy_(grid)
    LossFunction(model)(ids, ids).backward()
    assert all(torch.allclose(through[name], p.grad, rtol=1e-4, atol=1e-7) for name, p in named.items())


def test_soft_rounding_has_the_slope_of_its_definition_and_mean_one() -> None:
    x = torch.linspace(-1.999, 1.999, 4001, dtype=torch.float64)
    for sharpness in (1.0, 4.0, 16.0):
        a = torch.tensor(sharpness, dtype=torch.float64)

        def soft(t: torch.Tensor, a: torch.Tensor = a) -> torch.Tensor:
            r = t - t.floor() - 0.5
            return t.floor() + 0.5 + torch.tanh(a * r) / (2 * torch.tanh(a / 2))

        numeric = (soft(x + 1e-6) - soft(x - 1e-6)) / 2e-6
        assert torch.allclose(soft_slope(x, a), numeric, rtol=1e-4, atol=1e-6)
        assert float(soft_slope((torch.arange(1000) + 0.5) / 1000, a).mean()) == pytest.approx(1.0, abs=1e-3)


def test_soft_rounding_has_grid_weights_forward_and_its_slope_backward() -> None:
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    quantizer = FakeQuantizer(TrainConfig(qat_bits=4, qat_clip=3.0, qat_rounding="soft"))
    named = {"blocks.0.mlp.fc.weight": weight}
    seen = quantizer.weights(named)
    assert torch.equal(seen["blocks.0.mlp.fc.weight"], on_grid(weight.detach(), 4, 3.0))
    (3 * seen["blocks.0.mlp.fc.weight"]).sum().backward()
    quantizer.hand_back_(named, seen, 0.25)
    slope = soft_slope(weight.detach() / row_steps(weight.detach(), 4, 3.0), torch.tensor(1.0 + 0.25 * 15.0))
    assert torch.allclose(weight.grad, 3 * slope)
    assert float(slope.std()) > 0.5


def test_quantizing_nothing_has_no_recipe() -> None:
    assert FakeQuantizer.of(FAST) is None
    with pytest.raises(DataError, match="no tensor was quantized"):
        FakeQuantizer(TrainConfig(qat_embed_bits=8)).recipe({"skip_weights": torch.zeros(2)})
