"""PRISM's blend of permuted and unpermuted queries and keys is what its gate says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from pgtrain.model.gpt import GPT, build, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.repartition import permutation_tables
from tests.training.weights import random_tensors

PLAIN = GPTConfig(vocab_size=64, num_layers=5, model_dim=32, num_heads=4, num_kv_heads=2, seq_len=16, rope_dims=4,
                  sharing="encoder_decoder", adapters="bounded")  # fmt: skip
PERMUTED = dataclasses.replace(PLAIN, repartition="permute")
STATIC = dataclasses.replace(PLAIN, repartition="static")
GATED = dataclasses.replace(PLAIN, repartition="gate")
IDS = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(0))


def logits(config: GPTConfig, bias: float = 0.0) -> Tensor:
    """Logits of one set of weights under `config`; its gates, if it has any, look at nothing but their bias."""
    state = {name: torch.from_numpy(array) for name, array in random_tensors(PLAIN, 0).items()}
    if config.repartition == "gate":
        for block in range(2):
            state[f"blocks.{block}.attn.perm_gate.weight"] = torch.zeros(1, 32)
            state[f"blocks.{block}.attn.perm_gate.bias"] = torch.full((1,), bias)
    return build(config, state).forward_logits(IDS)


def test_a_share_of_one_is_the_identity_and_of_none_the_permutation() -> None:
    assert torch.equal(logits(dataclasses.replace(STATIC, repartition_static=1.0)), logits(PLAIN))
    assert torch.equal(logits(dataclasses.replace(STATIC, repartition_static=0.0)), logits(PERMUTED))
    assert not torch.allclose(logits(PLAIN), logits(PERMUTED), atol=0.1)


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.5])
def test_a_gate_that_sees_nothing_is_a_static_share(bias: float) -> None:
    share = torch.sigmoid(torch.tensor(bias)).item()
    static = logits(dataclasses.replace(STATIC, repartition_static=share))
    assert torch.allclose(logits(GATED, bias), static, atol=1e-4)


def test_a_gate_starts_at_a_half_and_its_penalty_is_the_squared_distance_of_every_layer() -> None:
    model = initialize_(GPT(GATED), 0).requires_grad_(False)
    for bias, expected in ((0.0, 0.0), (2.0, 5 * (0.880797 - 0.5) ** 2)):
        for block in model.layers:
            assert not block.attn.perm_gate.weight.any()
            block.attn.perm_gate.bias.fill_(bias)
        penalty = float(model.train()(IDS, IDS)) - float(model.eval()(IDS, IDS))
        assert penalty == pytest.approx(expected, abs=1e-5)


def test_a_penalty_of_weight_zero_is_none_and_a_start_is_where_the_gates_begin() -> None:
    config = dataclasses.replace(GATED, repartition_penalty=0.0, repartition_start=0.9)
    model = initialize_(GPT(config), 0).requires_grad_(False)
    for block in model.layers:
        assert torch.sigmoid(block.attn.perm_gate.bias).item() == pytest.approx(0.9)
    assert float(model.train()(IDS, IDS)) == float(model.eval()(IDS, IDS))
    pulled = initialize_(GPT(dataclasses.replace(config, repartition_penalty=2.0)), 0).requires_grad_(False)
    for block in pulled.layers:
        block.attn.perm_gate.bias.zero_()
    assert float(pulled.train()(IDS, IDS)) - float(pulled.eval()(IDS, IDS)) == pytest.approx(10 * 0.4**2, abs=1e-5)


def test_heads_that_move_with_their_values_are_heads_whose_outputs_change_places() -> None:
    """One layer: the same as output columns in another order; with values that stay it is not."""
    one = dataclasses.replace(PLAIN, num_layers=1, sharing="none", adapters="none")
    moving = dataclasses.replace(one, repartition="permute", repartition_channels=False, repartition_seed=5)
    state = {name: torch.from_numpy(array) for name, array in random_tensors(one, 0).items()}
    state["blocks.0.attn.q_gain"] = torch.ones(4)
    consistent = dataclasses.replace(moving, repartition_order="with_values")
    sources = permutation_tables(consistent)[0][0]
    assert not torch.equal(sources, torch.arange(32))
    name = "blocks.0.attn.proj.weight"
    elsewhere = state | {name: torch.empty(32, 32).index_copy_(1, sources, state[name])}
    expected = build(one, elsewhere).forward_logits(IDS)
    assert torch.allclose(build(consistent, state).forward_logits(IDS), expected, atol=1e-5)
    stays = build(dataclasses.replace(moving, repartition_order="matched"), state).forward_logits(IDS)
    assert not torch.allclose(stays, expected, atol=0.01)


def test_anchored_heads_and_decoder_layers_compute_as_if_nothing_were_permuted() -> None:
    assert torch.equal(logits(dataclasses.replace(PERMUTED, anchor_heads=4)), logits(PLAIN))
    encoder = logits(dataclasses.replace(PERMUTED, repartition_encoder_only=True))
    assert not torch.allclose(encoder, logits(PERMUTED), atol=0.05)
    assert not torch.allclose(encoder, logits(PLAIN), atol=0.05)
