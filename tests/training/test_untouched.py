"""Values that training never touched: they refute what would have read them, and only they do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pgpack.errors import DataError
from pgpack.models.probe import Probe
from pgtrain.challenge_models import builder
from pgtrain.identification.reader import Reader
from pgtrain.identification.untouched import against
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from tests.training.test_identify import found, seen

LANES = GPTConfig(
    vocab_size=64, num_layers=4, model_dim=16, num_heads=2, num_kv_heads=1, seq_len=16, skips="gate", num_loops=1,
    loop_start=1, loop_end=2, lane_start=3, lane_scope="layers", lane_final="mlp",
)  # fmt: skip


def trained(config: GPTConfig, decay: float = 0.0) -> Reader:
    """A checkpoint after three steps of Adam on noise."""
    model = initialize_(GPT(config), 0).train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=decay)
    tokens = np.random.default_rng(0).integers(0, 64, 2049).astype(np.uint16)
    ids = torch.from_numpy(tokens[:129].astype(np.int64))
    for _ in range(3):
        model(ids[:-1].view(8, 16), ids[1:].view(8, 16)).backward()
        optimizer.step()
        optimizer.zero_grad()
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    return Reader(Probe(lambda: state, tokens), builder)


OTHERS: tuple[dict[str, Any], ...] = (
    {"lane_final": "attn"},
    {"skips": "none"},
    {"lane_final": "mean"},
    {"lane_start": 2},
    {"lane_split": "before_skip", "lane_skip": "both", "lane_residuals": "both"},
)


@pytest.mark.parametrize(
    ("other", "decay"), [*((each, 0.0) for each in OTHERS), *((each, 0.1) for each in OTHERS[:2])]
)
def test_one_value_refutes_a_guess(other: dict[str, Any], decay: float) -> None:
    """Read and untouched, or unread and moved; decay moves what nothing reads too, all of it alike."""
    reader = trained(LANES, decay)
    assert reader.against(LANES, 16) == 0
    assert reader.against(replace(LANES, **other), 16) > 0


@pytest.mark.parametrize("final", ["mean", "mlp", "attn"])
def test_what_is_merged_is_told_by_the_lane_that_was_never_read(final: str) -> None:
    truth = replace(LANES, lane_final=final)
    reader = trained(truth)
    speak = {each: reader.against(replace(truth, lane_final=each), 16) for each in ("mean", "mlp", "attn")}
    assert [each for each, count in speak.items() if not count] == [final]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_values_of_half_precision_say_nothing(half: torch.dtype) -> None:
    """A gain that training moved by little is where it started once it is rounded."""
    moved = torch.tensor([1.0001, 0.93, 1.07]).to(half).float().numpy()
    assert against({"skip_weights": moved}, {"skip_weights": np.ones(3, bool)}) == 0
    exact = np.array([1.0, 0.9312345, 1.0698765], np.float32)
    assert against({"skip_weights": exact}, {"skip_weights": np.ones(3, bool)}) == 1


def test_a_model_without_tables_has_nothing_to_say() -> None:
    plain = GPTConfig(
        vocab_size=64, num_layers=3, model_dim=16, num_heads=2, num_kv_heads=1, seq_len=16, skips="none"
    )
    assert trained(plain).against(plain, 16) == 0


def test_what_loses_alike_is_told_by_values() -> None:
    """Lanes that are merged otherwise lose the same on any text."""
    rough: dict[str, Any] = {"rough": ("lane_final",), "n_tokens": 65_536}
    with pytest.raises(DataError, match=r"--set lane_final=VALUE"):
        found(LANES, **rough)
    assert found(LANES, **rough, refuted=("lane_final",)) == seen(LANES)
