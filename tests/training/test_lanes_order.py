"""Lanes wherever they start, with any loop, run in the order of the scripts."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgtrain.model.gpt import GPT
from pgtrain.model.model_config import GPTConfig
from tests.training.field.lanes_oracle import oracle_logits
from tests.training.small_models import random_model, tokens

WAYS = {
    "1546": {"lane_scope": "layers"},
    "1546-both": {"lane_scope": "layers", "lane_skip": "both", "lane_split": "no_skip"},
    "1855": {"lane_scope": "decoder", "lane_split": "before_skip"},
}


@st.composite
def lane_models(draw: st.DrawFn) -> tuple[str, GPTConfig]:
    layers = draw(st.integers(2, 6))
    start = draw(st.integers(0, layers - 1))
    way = draw(st.sampled_from([*WAYS]))
    return way, GPTConfig(
        vocab_size=64,
        num_layers=layers,
        model_dim=16,
        num_heads=2,
        num_kv_heads=1,
        seq_len=16,
        skips="gate",
        norm_scale="block",
        num_loops=draw(st.integers(0, 2)),
        loop_start=start,
        loop_end=draw(st.integers(start, layers - 1)),
        lane_start=draw(st.integers(0, layers - 1)),
        **WAYS[way],
    )


@given(lane_models())
@settings(max_examples=40)
def test_lanes_equal_the_scripts_order_wherever_they_start(drawn: tuple[str, GPTConfig]) -> None:
    way, config = drawn
    model = random_model(config, 0).eval()
    with torch.no_grad():
        found = model.forward_logits(tokens())
        expected = oracle_logits(model, tokens(), both_skip=way == "1546-both", decoder_only=way == "1855")
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_lanes_that_keep_going_are_another_model() -> None:
    fields = {"num_layers": 4, "skips": "gate", "num_loops": 1, "loop_start": 1, "loop_end": 2, "lane_start": 2}
    size = {"vocab_size": 64, "model_dim": 16, "num_heads": 2, "num_kv_heads": 1, "seq_len": 16}
    state = random_model(GPTConfig(**size, **fields), 0).state_dict()
    found = []
    for scope in ("rest", "layers", "decoder"):
        model = GPT(GPTConfig(**size, **fields, lane_scope=scope))
        model.load_state_dict(state)
        found.append(model.eval().forward_logits(tokens()).detach())
    scale = found[0].abs().max()
    assert (found[0] - found[1]).abs().max() > 0.02 * scale
    assert (found[1] - found[2]).abs().max() > 0.02 * scale
