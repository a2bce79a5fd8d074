"""Shrinkage of EBLS: what gamma hears, what the penalty is, and what branches add to their module."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.shrinkage import branches_seen, output_shares
from tests.training.small_models import config_of, logits_with, random_model, tokens


def test_ebls_starts_as_plain_sharing() -> None:
    config = config_of("ebls")
    plain = dataclasses.replace(config, ebls_rank=0)
    weights = initialize_(GPT(plain), 1)
    for block in weights.blocks:
        torch.nn.init.normal_(block.attn.proj.weight, std=0.2)
        torch.nn.init.normal_(block.mlp.proj.weight, std=0.2)
    renamed = {k.replace("blocks.", "shared_blocks.", 1): v for k, v in weights.state_dict().items()}
    assert torch.equal(logits_with(renamed, config), weights.eval().forward_logits(tokens()))


def test_gamma_hears_only_its_penalty_while_b_is_zero() -> None:
    def gradient(**changes: float) -> Tensor:
        model = initialize_(GPT(config_of("ebls", **changes)), 0)
        for block in model.layers:
            torch.nn.init.normal_(block.attn.proj.weight, std=0.2)
        model(tokens(), tokens(1)).backward()
        logits = model.layers[0].attn_shrinkage_logits
        return logits.grad if logits.grad is not None else torch.zeros_like(logits)

    gamma = 1 / (1 + math.exp(2.0))
    assert torch.allclose(gradient(), torch.full((2,), 0.01 * gamma * (1 - gamma)), rtol=1e-4)
    assert not gradient(ebls_penalty=0.0).any()
    assert gradient(ebls_penalty=0.0, ebls_b_std=0.1).all()


def test_the_penalty_is_lambda_times_the_sum_of_all_gammas() -> None:
    model = random_model(config_of("ebls", ebls_penalty=0.5))
    names = [k for k in model.state_dict() if "shrinkage" in k]
    total = sum(float(torch.sigmoid(model.state_dict()[k]).sum()) for k in names)
    extra = float(model(tokens(), tokens(1)).detach()) - float(model.eval()(tokens(), tokens(1)).detach())
    assert extra == pytest.approx(0.5 * total, rel=1e-4)
    assert len(names) == 4


def test_shares_of_the_output_are_those_of_the_branch_and_watching_changes_nothing() -> None:
    model = random_model(config_of("ebls")).requires_grad_(False)
    ids = torch.randint(0, model.config.vocab_size, (2, 8))
    block, seen = model.layers[1], {}
    before = model.forward_logits(ids)

    def see(place: tuple[int, str, int], out: torch.Tensor, added: torch.Tensor) -> None:
        seen[place] = float(added.double().norm() / out.double().norm())

    with branches_seen(model, see):
        assert torch.equal(model.forward_logits(ids), before)
    assert "_deviate" not in vars(block)
    assert output_shares(model, [ids]) == pytest.approx(seen)
    with torch.no_grad():
        block.mlp_lora_B[1] *= 2.0  # the last run of a module: nothing after it sees the change
        assert output_shares(model, [ids])[1, "mlp", 1] == pytest.approx(2 * seen[1, "mlp", 1], rel=1e-4)
    assert not any(output_shares(initialize_(GPT(config_of("ebls")), 0), [ids]).values())
