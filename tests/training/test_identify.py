"""A state dict without metadata is recognized by its shapes, and by its loss where shapes do not tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pgpack.errors import CheckpointError, DataError
from pgpack.models.probe import Probe
from pgtrain.identify import CLEAR, UNSEEN, candidates, identify, named
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.presets import PRESETS, SYSTEMS


def seen(config: GPTConfig) -> GPTConfig:
    """The config without what only training uses."""
    return replace(config, **{field: getattr(GPTConfig(), field) for field in UNSEEN})


def nearness(truth: GPTConfig):
    """A loss that grows with every field that differs from the truth."""

    def measure(config: GPTConfig) -> float:
        fields = vars(seen(truth)).items()
        return 3.0 + sum(value != getattr(config, name) for name, value in fields if name != "seq_len")

    return measure


@pytest.mark.parametrize("name", PRESETS)
def test_every_system_is_among_the_candidates_of_its_own_tensors(name: str) -> None:
    found = candidates(tensor_shapes(PRESETS[name].model))
    assert any(name in each.names and each.config == seen(PRESETS[name].model) for each in found)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_found_by_its_loss_in_sizes_of_its_own(name: str) -> None:
    twin = PRESETS[f"{name}-tiny"].model
    truth = replace(twin, vocab_size=777, model_dim=2 * twin.model_dim)
    if twin.embed_dim or twin.rope_dims:
        truth = replace(truth, rope_dims=twin.rope_dims and 16)
    truth = replace(truth, embed_dim=twin.embed_dim and twin.embed_dim + 2)
    truth = replace(truth, seq_len=SYSTEMS[name].model.seq_len)
    found = identify(tensor_shapes(truth), nearness(truth))
    assert replace(found.config, seq_len=truth.seq_len) == seen(truth)


def test_what_shapes_hide_is_measured_and_said() -> None:
    truth = replace(PRESETS["baseline-tiny"].model, mlp_activation="relu3", model_dim=80)
    found = identify(tensor_shapes(truth), nearness(truth))
    assert found.config.mlp_activation == "relu3"
    assert "mlp_activation=relu3 lowers it from 4.00 to 3.00" in found.how
    with pytest.raises(DataError, match=r"baseline, recurrence-3x3.*--model NAME"):
        identify(tensor_shapes(truth), None)


def test_what_the_user_says_is_not_changed() -> None:
    truth = replace(PRESETS["baseline-tiny"].model, mlp_activation="relu3", model_dim=80)
    found = identify(tensor_shapes(truth), nearness(truth), {"mlp_activation": "leaky_relu2", "logit_softcap": 15.0})
    assert (found.config.mlp_activation, found.config.logit_softcap) == ("leaky_relu2", 15.0)


def test_without_text_or_a_clear_difference_the_flag_is_named_with_the_reason() -> None:
    shapes = tensor_shapes(PRESETS["prism-wt-tiny"].model)
    for measure in (None, lambda config: 3.0, lambda config: 3.0 + CLEAR / 8 * len(config.repartition)):
        with pytest.raises(DataError, match=r"prism-wo-tiny.*repartition.*--model NAME"):
            identify(shapes, measure)


def test_no_systems_tensors_name_the_way_out() -> None:
    shapes = tensor_shapes(PRESETS["baseline-tiny"].model)
    with pytest.raises(CheckpointError, match=r"--model FILE\.py:build"):
        identify(shapes | {"ve_shared.embed.weight": (10, 4)}, None)
    with pytest.raises(CheckpointError, match="cannot tell the model"):
        identify({"encoder.w": (4, 4)}, None)
    with pytest.raises(CheckpointError):
        identify(shapes | {"tok_emb.weight": (4,)}, None)


def test_a_named_system_takes_the_sizes_of_the_tensors() -> None:
    truth = replace(PRESETS["lanes-tiny"].model, vocab_size=500, model_dim=96)
    assert named("lanes", tensor_shapes(truth), {"rope_dims": 8}) == replace(truth, seq_len=2048)
    assert named("ebls", tensor_shapes(truth)) == PRESETS["ebls"].model


class Forgetful(nn.Module):
    """Predicts the next token well up to a position, and knows nothing later."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits = 3.0 * nn.functional.one_hot((ids + 1) % 7, 7).float()
        return logits * (torch.arange(ids.shape[1]) < self.reach)[:, None]


@pytest.mark.parametrize(("reach", "said"), [(64, ""), (16, "of 16 it loses less"), (8, "of 8 it loses less")])
def test_windows_that_are_longer_than_in_training_are_noticed(reach: int, said: str) -> None:
    probe = Probe(dict, (np.arange(600) % 7).astype(np.uint16))
    hint = probe.shorter_windows(lambda state: Forgetful(reach), 64)
    assert (said in hint) if said else hint == ""
    assert Probe(dict, np.zeros(8, np.uint16)).shorter_windows(lambda state: Forgetful(1), 64) == ""
