"""Loops, sharing and skips as a list of steps; permutations that positions survive."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.errors import DataError
from pgtrain.model.blocks import rotary_tables, rotate
from pgtrain.model.layer_plan import layer_plan, uses_of
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.repartition import channel_permutation, permutation_tables

LOOPED = GPTConfig(num_layers=11, num_loops=2, loop_start=3, loop_end=5)
PRISM = GPTConfig(
    num_layers=11, model_dim=512, sharing="encoder_decoder", rope_dims=16, adapters="bounded", repartition="permute"
)


def blocks(config: GPTConfig, loops: int | None = None) -> list[int]:
    return [step.block for step in layer_plan(config, loops)]


@st.composite
def configs(draw: st.DrawFn) -> GPTConfig:
    """Any combination of depth, loop and sharing."""
    layers = draw(st.integers(1, 9))
    start = draw(st.integers(0, layers - 1))
    sharing = draw(st.sampled_from(["none", "single", "consecutive", *(["encoder_decoder"] if layers > 1 else [])]))
    divisors = [n for n in range(1, layers + 1) if layers % n == 0]
    return GPTConfig(
        num_layers=layers,
        num_loops=draw(st.integers(0, 3)),
        loop_start=start,
        loop_end=draw(st.integers(start, layers - 1)),
        sharing=sharing,
        shared_blocks=draw(st.sampled_from(divisors)),
        skips=draw(st.sampled_from(["add", "gate", "none"])),
    )


def test_the_published_orders() -> None:
    """#1546: 17 virtual layers, 8 of them save; #2090: one block encodes, one decodes; #433: 000111222."""
    assert blocks(LOOPED) == [0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9, 10]
    assert blocks(LOOPED, loops=0) == list(range(11))
    assert [step.saves for step in layer_plan(LOOPED)] == [True] * 8 + [False] * 9
    assert [step.skip for step in layer_plan(LOOPED)] == [-1] * 8 + [*range(8), -1]
    assert blocks(PRISM) == [0] * 5 + [1] * 6
    assert blocks(GPTConfig(num_layers=9, sharing="consecutive", shared_blocks=3)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert blocks(GPTConfig(num_layers=3, num_loops=2, loop_end=2)) == [0, 1, 2] * 3


@given(configs(), st.integers(0, 6))
def test_every_saved_output_is_taken_once_by_rows_that_exist(config: GPTConfig, loops: int) -> None:
    if config.num_loops == 0:
        loops = 0
    stack, taken = [], []
    for step in layer_plan(config, loops):
        assert not (step.saves and step.skip >= 0)
        if step.skip >= 0:
            stack.pop()
            taken.append(step.skip)
        if step.saves:
            stack.append(step)
    assert not stack
    assert taken == list(range(len(taken)))
    assert len(taken) <= config.num_skips


@given(configs())
def test_the_plan_has_the_published_length_and_counts_uses(config: GPTConfig) -> None:
    plan = layer_plan(config)
    assert len(plan) == config.virtual_layers
    assert [step.row for step in plan] == list(range(len(plan)))
    assert uses_of(config) == [Counter(step.block for step in plan)[i] for i in range(config.num_blocks)]
    for block in range(config.num_blocks):
        assert [step.use for step in plan if step.block == block] == list(range(uses_of(config)[block]))


def test_loops_beyond_the_trained_ones_only_repeat_the_last() -> None:
    trained, more = layer_plan(LOOPED), layer_plan(LOOPED, loops=4)
    extra = more[12:18]
    assert more[:12] + more[18:] == trained
    assert [step.block for step in extra] == [3, 4, 5] * 2
    assert [step.row for step in extra] == [9, 10, 11] * 2
    assert not any(step.saves or step.skip >= 0 for step in extra)


@given(configs(), st.integers(0, 8), st.integers(0, 6))
def test_lanes_start_at_their_layer_and_never_merge(config: GPTConfig, start: int, loops: int) -> None:
    config = dataclasses.replace(config, lane_start=min(start, config.num_layers - 1))
    plan = layer_plan(config, loops if config.num_loops else 0)
    first = next(i for i, step in enumerate(plan) if step.layer >= config.lane_start)
    assert [step.in_lanes for step in plan] == [i >= first for i in range(len(plan))]


@pytest.mark.parametrize(("config", "loops"), [(GPTConfig(), 1), (LOOPED, -1)])
def test_loops_that_a_model_cannot_run_are_refused(config: GPTConfig, loops: int) -> None:
    with pytest.raises(DataError, match="only a looped model can"):
        layer_plan(config, loops)


def test_norm_scales_follow_the_block_or_the_depth() -> None:
    by_block = layer_plan(dataclasses.replace(LOOPED, norm_scale="block"))
    assert by_block[6].norm_scale == by_block[3].norm_scale == 0.5
    by_depth = layer_plan(dataclasses.replace(LOOPED, norm_scale="virtual"))
    assert by_depth[3].norm_scale == 0.5
    assert by_depth[8].norm_scale == 1 / 3
    assert {step.norm_scale for step in layer_plan(LOOPED)} == {1.0}


@settings(max_examples=30)
@given(st.integers(1, 16), st.integers(0, 16), st.integers(0, 2**20))
def test_a_channel_permutation_moves_rotating_pairs_as_pairs(pairs: int, rest: int, seed: int) -> None:
    channels = channel_permutation(2 * pairs + rest, 2 * pairs, torch.Generator().manual_seed(seed))
    assert sorted(channels.tolist()) == list(range(2 * pairs + rest))
    assert torch.equal(channels[pairs : 2 * pairs], channels[:pairs] + pairs)
    assert int(channels[:pairs].max()) < pairs
    assert rest == 0 or int(channels[2 * pairs :].min()) >= 2 * pairs


def test_permuting_before_rotation_is_rotating_by_permuted_frequencies() -> None:
    config = GPTConfig(model_dim=64, num_heads=2, num_kv_heads=2, rope_dims=16)
    channels = channel_permutation(32, 16, torch.Generator().manual_seed(3))
    cos, sin = rotary_tables(config, 9, torch.device("cpu"))
    inverse = torch.empty(8, dtype=torch.long).scatter_(0, channels[:8], torch.arange(8))
    x = torch.randn(1, 2, 9, 32)
    moved = rotate(x[..., channels], cos, sin)
    assert torch.allclose(moved, rotate(x, cos[:, inverse], sin[:, inverse])[..., channels], atol=1e-6)


def test_heads_move_whole_and_queries_and_keys_independently() -> None:
    q, k, v = permutation_tables(PRISM)
    assert torch.equal(v, torch.arange(256).expand(11, -1))
    assert q.shape == (11, 512)
    assert k.shape == (11, 256)
    for table, heads in ((q, 8), (k, 4)):
        by_head = table.view(11, heads, 64)
        assert torch.equal(by_head // 64, (by_head // 64)[..., :1].expand_as(by_head))
        assert all(sorted(row.tolist()) == list(range(64 * heads)) for row in table)
    assert torch.equal(q[0, :64] % 64, k[0, :64] % 64)  # one channel permutation for q and k of a depth
    assert len({tuple(row.tolist()) for row in q}) == 11


def test_matched_heads_meet_the_key_of_their_group_and_with_values_its_value() -> None:
    apart = [table.view(11, -1, 64)[..., 0] // 64 for table in permutation_tables(PRISM)]
    assert not torch.equal(apart[0] // 2, apart[1].repeat_interleave(2, dim=1))
    for order in ("matched", "with_values"):
        config = dataclasses.replace(PRISM, repartition_order=order)
        q, k, v = (table.view(11, -1, 64)[..., 0] // 64 for table in permutation_tables(config))
        assert torch.equal(q // 2, k.repeat_interleave(2, dim=1))
        assert len({tuple(row.tolist()) for row in k}) > 5
        assert torch.equal(v, k if order == "with_values" else torch.arange(4).expand(11, -1))
        channels = permutation_tables(config)[2].view(11, 4, 64) % 64
        assert torch.equal(channels, torch.arange(64).expand(11, 4, 64))


def test_anchors_and_decoders_stay_where_they_are() -> None:
    anchored, kv, _ = permutation_tables(dataclasses.replace(PRISM, anchor_heads=4))
    assert torch.equal(anchored[:, : 4 * 64], torch.arange(256).expand(11, -1))
    assert torch.equal(kv[:, : 2 * 64], torch.arange(128).expand(11, -1))
    assert (anchored[:, 256:] != torch.arange(256, 512)).any(1).all()
    encoder, _, _ = permutation_tables(dataclasses.replace(PRISM, repartition_encoder_only=True))
    assert torch.equal(encoder[5:], torch.arange(512).expand(6, -1))
    assert torch.equal(encoder[:5], permutation_tables(PRISM)[0][:5])
    everything, _, _ = permutation_tables(dataclasses.replace(PRISM, anchor_heads=8))
    assert torch.equal(everything, torch.arange(512).expand(11, -1))
