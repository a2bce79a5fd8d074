"""Optimizers, schedule and averaging."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from pgpack.errors import DataError
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.averaging import WeightAverage
from pgtrain.training.optim import Muon, make_optimizers, orthogonalize, set_rates_
from pgtrain.training.schedule import lr_scale, muon_momentum
from pgtrain.training.train_config import TrainConfig


@pytest.mark.parametrize("shape", [(24, 24), (40, 16), (16, 40)])
def test_orthogonalize_puts_singular_values_in_a_band(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix, 5))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


@pytest.mark.parametrize("shape", [(24, 24), (40, 16), (16, 40)])
def test_muon_on_cpu_equals_torchs_muon_up_to_bfloat16(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 0.1, "weight_decay": 0.2, "momentum": 0.9}
    steppers = [Muon([ours], **options), torch.optim.Muon([theirs], **options)]
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        for parameter, optimizer in zip((ours, theirs), steppers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    ours, theirs = ours.detach(), theirs.detach()
    moved = (theirs - start).norm()
    assert float((ours - theirs).norm() / moved) < 0.02  # three steps of bfloat16 rounding
    assert float((ours - start).norm() / moved) == pytest.approx(1.0, abs=0.02)


def test_every_parameter_is_in_one_group_with_its_rate(tiny: GPTConfig) -> None:
    model = GPT(dataclasses.replace(tiny, tie_embeddings=False))
    config = TrainConfig(matrix_lr=1, embed_lr=2, head_lr=3, scalar_lr=4)
    optimizers = make_optimizers(model, config)
    rates = {id(p): g["base_lr"] for o in optimizers.values() for g in o.param_groups for p in g["params"]}
    assert sum(len(g["params"]) for o in optimizers.values() for g in o.param_groups) == len(rates)
    expected = {"tok_emb.weight": 2, "lm_head.weight": 3, "skip_weights": 4, "blocks.0.resid_mix": 4,
                "blocks.1.attn.q_gain": 4, "blocks.2.mlp.fc.weight": 1, "blocks.0.attn.c_v.weight": 1}  # fmt: skip
    named = dict(model.named_parameters())
    assert set(rates) == {id(p) for p in named.values()}
    assert {name: rates[id(named[name])] for name in expected} == expected
    set_rates_(optimizers, 0.5, 0.7)
    assert [g["lr"] for g in optimizers["adamw"].param_groups] == [1.0, 1.5, 2.0]
    assert optimizers["muon"].param_groups[0]["momentum"] == 0.7


def test_schedule_rises_stays_and_falls_to_zero() -> None:
    config = TrainConfig(steps=100, warmup_steps=4, warmdown_steps=10)
    scales = [lr_scale(config, step) for step in range(100)]
    assert scales[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert set(scales[4:91]) == {1.0}
    assert scales[-3:] == pytest.approx([0.3, 0.2, 0.1])
    flat = TrainConfig(steps=100, warmup_steps=0, warmdown_steps=0)
    assert {lr_scale(flat, step) for step in range(100)} == {1.0}


def test_a_wall_clock_cap_brings_the_warmdown_forward() -> None:
    config = TrainConfig(steps=1000, warmup_steps=0, warmdown_steps=20, max_seconds=10.0)
    assert lr_scale(config, 50, elapsed_s=5.0) == 1.0  # 50 more steps fit
    assert lr_scale(config, 90, elapsed_s=9.0) == pytest.approx(0.5)  # 10 of 20 warmdown steps are left
    assert lr_scale(config, 100, elapsed_s=11.0) == 0.0


def test_momentum_warms_up_linearly() -> None:
    config = TrainConfig(muon_momentum_start=0.8, muon_momentum=0.9, muon_momentum_steps=10)
    assert [muon_momentum(config, s) for s in (0, 5, 10, 99)] == pytest.approx([0.8, 0.85, 0.9, 0.9])


def test_average_equals_the_hand_computation() -> None:
    layer = nn.Linear(1, 1, bias=False)
    values = [1.0, 5.0, -2.0, 7.0]
    with torch.no_grad():
        layer.weight.fill_(values[0])
    average = WeightAverage(layer, 0.15)
    expected = values[0]
    for step, value in enumerate(values[1:]):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update_(layer, step)
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average.tensors["weight"]) == pytest.approx(expected)
    assert average.tensors["weight"].dtype == torch.float32


def test_average_with_decay_zero_is_the_last_weights(tiny: GPTConfig) -> None:
    model = initialize_(GPT(tiny), 0)
    average = WeightAverage(model, 0.0)
    initialize_(model, 1)
    average.update_(model, 0)
    assert all(torch.equal(average.tensors[n], p) for n, p in model.named_parameters())


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"ema_decay": 1.0}, {"matrix_lr": -0.1}, {"max_seconds": -1.0}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(DataError):
        TrainConfig(**wrong)
