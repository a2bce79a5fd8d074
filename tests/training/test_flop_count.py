"""Counted operations are those that torch performs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pgtrain.model.flop_count import flop_per_token, weight_uses
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.presets import SYSTEMS

SMALL = GPTConfig(vocab_size=64, num_layers=4, model_dim=32, num_heads=4, num_kv_heads=2, seq_len=16)
CHANGES: dict[str, dict] = {
    "baseline": {},
    "untied": {"tie_embeddings": False},
    "decoupled": {"embed_dim": 20},
    "residual": {"input_residual_rank": 3, "output_residual_rank": 2},
    "looped": {"num_loops": 2, "loop_start": 1, "loop_end": 2, "lane_start": 3},
    "shared": {"sharing": "encoder_decoder", "adapters": "bounded"},
    "ebls": {"sharing": "consecutive", "shared_blocks": 2, "ebls_rank": 3},
    "bigram": {"bigram_buckets": 50, "bigram_dim": 6},
    "mtp": {"mtp_weight": 0.5},
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_count_is_that_of_every_matrix_product_of_a_training_step(name: str) -> None:
    config = dataclasses.replace(SMALL, **CHANGES[name])
    model = initialize_(GPT(config), 0).train()
    ids = torch.randint(0, 64, (3, 16), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        model(ids, ids).backward()
    products = sum(
        flop for op, flop in counter.get_flop_counts()["Global"].items() if str(op).rpartition(".")[2].endswith("mm")
    )
    expected = 6 * weight_uses(config) * ids.numel()
    if config.mtp_weight:  # the last position has no token after next
        expected -= 6 * 3 * (32 * 32 + 64 * 32)
    assert products == expected


def test_attention_counts_what_a_causal_model_sees() -> None:
    """Per layer 2 products, forward once and backward twice, 2 operations each over half of the square."""
    long, short = flop_per_token(SMALL, 16), flop_per_token(SMALL, 8)
    assert long - short == 4 * 2 * 3 * 2 * 32 * (16 - 8) // 2


def test_sharing_saves_weights_and_no_operations() -> None:
    standard, shared = SYSTEMS["prism-standard"].model, SYSTEMS["prism-naive"].model
    assert flop_per_token(standard) == flop_per_token(shared)
    assert flop_per_token(SYSTEMS["baseline"].model) == 6 * 17_039_360 + 6 * 9 * 512 * 1024
