"""Drift: stages see what a whole pass sees, targets are the least squares that they claim, and files get better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pgpack.calibration.observe import observe
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import CalibrationError, RecipeError
from pgpack.pack import pack, quantize
from pgpack.recipe.applied import apply
from pgpack.recipe.directives import Drift
from pgpack.recipe.recipe import parse_recipe
from pgpack.refine.compensate import compensate
from pgpack.refine.drift import Drifting, Moments, follow_drift
from pgpack.refine.stages import Stage, Staged

VOCAB, WIDTH, SEQ = 32, 16, 16
RECIPE = parse_recipe("table.*=cast; head.*=cast; *=gptq(bits=2,clip=3)|rans; @drift=layers(share=1,damp=0.03)")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.up, self.down = nn.Linear(WIDTH, 24, bias=False), nn.Linear(24, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = F.layer_norm(x, (WIDTH,))
        mixed = torch.tril(torch.tanh(self.q(seen) @ self.k(seen).mT)) @ seen / WIDTH
        x = x + self.out(mixed)
        return x + self.down(torch.relu(self.up(F.layer_norm(x, (WIDTH,)))))


class Net(nn.Module):
    """Blocks one after another; with `skip` the last one sees what the first gave, too; `loops`: passes of all."""

    def __init__(self, skip: bool = False, loops: int = 1) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.skip, self.loops = skip, loops

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x, first = self.table(ids), None
        for _ in range(self.loops):
            for i, block in enumerate(self.blocks):
                x = block(x + first if self.skip and first is not None and i == 2 else x)
                first = x if first is None else first
        return self.head(x)


def net(**kwargs: object) -> Net:
    torch.manual_seed(0)
    return Net(**kwargs).eval().requires_grad_(False)


def checkpoint_of(model: nn.Module) -> Checkpoint:
    return from_tensors({name: each.numpy() for name, each in model.state_dict().items()})


def build(state, **kwargs):
    model = Net(**kwargs)
    model.load_state_dict(state)
    return model


def draw(seed: int, n: int = 4096) -> np.ndarray:
    """Every token says something of the next."""
    rng = np.random.default_rng(seed)
    tokens = [0]
    for jump in rng.integers(0, 6, n - 1):
        tokens.append((3 * tokens[-1] + int(jump)) % VOCAB)
    return np.array(tokens, np.uint16)


def windows(seed: int, n: int = 256) -> list[torch.Tensor]:
    return list(torch.split(torch.from_numpy(draw(seed, n).astype(np.int64)).view(-1, SEQ), 4))


PARTS = ("q", "k", "out", "up", "down")


@pytest.mark.parametrize("skip", [False, True])
def test_stages_are_those_of_one_input_in_the_order_of_the_model(skip: bool) -> None:
    staged = Staged(net(skip=skip), windows(1))
    found = staged.stages()
    assert [each.parameters for each in found[4:8]] == [
        ("blocks.1.q.weight", "blocks.1.k.weight"), ("blocks.1.out.weight",), ("blocks.1.up.weight",),
        ("blocks.1.down.weight",),
    ]  # fmt: skip
    assert [each.block for each in found] == [0] * 4 + [1] * 4 + [2] * 4
    assert [each.writes for each in found] == [False, True, False, True] * 3
    assert found[-1].before == ("blocks.2.out.weight",)
    assert staged.chained is not skip


@pytest.mark.parametrize("skip", [False, True])
def test_inputs_of_a_stage_are_those_of_a_whole_pass(skip: bool) -> None:
    model, ids = net(skip=skip), windows(2)
    seen: dict[str, list[torch.Tensor]] = {}
    streams: dict[str, list[torch.Tensor]] = {}
    places = [(f"blocks.{i}.{part}.weight", block, part) for i, block in enumerate(model.blocks) for part in PARTS]
    hooks = [
        getattr(block, part).register_forward_pre_hook(lambda _, x, n=name: seen.setdefault(n, []).append(x[0]))
        for name, block, part in places
    ]
    for i, block in enumerate(model.blocks):
        hooks.append(block.register_forward_pre_hook(lambda _, x, i=i: streams.setdefault(f"in{i}", []).append(x[0])))
        hooks.append(block.register_forward_hook(lambda _, x, y, i=i: streams.setdefault(f"out{i}", []).append(y)))
    with torch.no_grad():
        for batch in ids:
            model(batch)
        for hook in hooks:
            hook.remove()
        staged = Staged(model, ids)
        for stage in staged.stages():
            expected = seen[stage.parameters[0]]
            for batch, (z, stream) in enumerate(staged.inputs(stage)):
                assert torch.equal(z, expected[batch].reshape(-1, z.shape[-1]))
                assert (stream is None) is not stage.writes
                part = stage.parameters[0].split(".")[2]
                if part == "out":
                    assert torch.equal(stream, streams[f"in{stage.block}"][batch].reshape(-1, WIDTH))
                if part == "down":
                    left = streams[f"out{stage.block}"][batch].reshape(-1, WIDTH)
                    assert torch.allclose(stream + z @ model.blocks[stage.block].down.weight.T, left, atol=1e-5)


@pytest.mark.parametrize("model", [net(loops=2), nn.Sequential(nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB))])
def test_layers_that_cannot_be_run_one_by_one_have_no_stages(model: nn.Module) -> None:
    assert Staged(model, windows(1)).stages() == []


def moments(x: np.ndarray, z: np.ndarray, w: np.ndarray | None = None) -> Moments:
    return Moments.of(
        [tuple(None if each is None else torch.tensor(each, dtype=torch.float32) for each in (x, z, w))]
    )


def test_the_target_is_the_least_squares_that_it_claims() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((500, 8))
    x, weight = z + z @ rng.standard_normal((8, 8)), rng.standard_normal((5, 8)).astype(np.float32)
    w = z[:, :5] + z[:, 3:]
    both = moments(x, z, w)
    for plan, made, expected in (
        (Drift(1, 0, 1e-9), both, x @ weight.T),
        (Drift(1, 1, 1e-9), both, x @ weight.T + w),
        (Drift(0.5, 0, 1e-9), both, z @ weight.T + 0.5 * (x - z) @ weight.T),
        (Drift(1, 1, 1e-9), moments(x, z), x @ weight.T),
        (Drift(0, 0, 1e-9), both, z @ weight.T),
    ):
        np.testing.assert_allclose(z @ made.target(weight, plan).T, expected, atol=2e-2)
    nothing = moments(np.zeros((4, 8)), np.zeros((4, 8)))
    assert np.array_equal(nothing.target(weight, Drift(1)), weight)


def test_what_is_seen_by_chance_is_not_followed() -> None:
    """Of inputs changed by noise the target stays where it is; all of the least squares would do harm."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((16, 32)).astype(np.float32)
    z = rng.standard_normal((256, 32))
    x = z + 0.3 * rng.standard_normal((256, 32))
    whole = np.linalg.lstsq(z, x @ weight.T, rcond=None)[0].T - weight
    followed = moments(x, z).target(weight, Drift(1, 0, 1e-6)) - weight
    assert np.abs(followed).max() < 0.2 * np.abs(whole).max()
    half = np.linalg.norm(moments(x + 0.3 * z, z).target(weight, Drift(1, 0, 1e-6)) - 1.3 * weight)
    assert half < 0.35 * np.linalg.norm(0.3 * weight)


def kl(model: nn.Module, tensors: dict[str, np.ndarray]) -> float:
    ids = torch.cat(windows(9, 4096))
    with torch.no_grad():
        p = F.log_softmax(model(ids), -1)
        q = F.log_softmax(build({name: torch.tensor(each) for name, each in tensors.items()})(ids), -1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_what_follows_the_drift_is_nearer_to_the_model_on_other_text() -> None:
    model = net()
    checkpoint, tokens = checkpoint_of(model), draw(3)
    calibration = observe(model, tokens, SEQ, token_digest="t")
    found = {}
    for text in (
        str(RECIPE).partition("; @drift")[0],
        str(RECIPE),
        str(RECIPE).replace("share=1", "share=1,residual=1"),
    ):
        recipe = parse_recipe(text)
        if recipe.drift.follows:
            records = follow_drift(checkpoint, recipe, calibration, build, tokens, SEQ).records
        else:
            records = quantize(checkpoint, apply(recipe, checkpoint.stored_shapes), calibration).records
        assert [each.name for each in records] == list(checkpoint.shapes)
        found[text] = kl(model, {each.name: each.dequantize() for each in records})
    plain, followed, with_stream = found.values()
    assert followed < 0.97 * plain
    assert with_stream < 0.97 * plain


def test_without_stages_it_changes_nothing() -> None:
    model = net(loops=2)
    checkpoint, tokens = checkpoint_of(model), draw(3)
    calibration = observe(model, tokens, SEQ, token_digest="t")
    plain = quantize(checkpoint, apply(RECIPE, checkpoint.stored_shapes), calibration).records
    looped = follow_drift(checkpoint, RECIPE, calibration, lambda state: build(state, loops=2), tokens, SEQ).records
    for before, after in zip(plain, looped, strict=True):
        assert np.array_equal(before.dequantize(), after.dequantize())


def test_too_little_text_and_no_model_are_refused() -> None:
    model = net()
    checkpoint = checkpoint_of(model)
    calibration = observe(model, draw(3, 64), SEQ, token_digest="t")
    with pytest.raises(CalibrationError, match="fewer than one window"):
        follow_drift(checkpoint, RECIPE, calibration, build, draw(3, 8), SEQ)
    with pytest.raises(CalibrationError, match="@drift needs the model"):
        pack(checkpoint, RECIPE, calibration)


def test_compensation_is_nearer_where_its_groups_follow_the_drift() -> None:
    model = net()
    checkpoint, tokens = checkpoint_of(model), draw(3)
    calibration = observe(model, tokens, SEQ, token_digest="t")
    told: list[int] = []
    drifting = Drifting.over(tokens, SEQ, build, progress=told.append)
    fresh, few = draw(4), 128  # tokens of a step
    quantizer = "table.*=cast; head.*=cast; *=gptq(bits=2,clip=3)|rans; @compensate=weights(count=60,lr=0.005)"
    recipe = parse_recipe(f"{quantizer}; @drift=layers(share=1,damp=0.03)")
    found = {}
    for name, records in (
        (
            "compensation",
            compensate(checkpoint, parse_recipe(quantizer), calibration, build, fresh, SEQ, batch_tokens=few).records,
        ),
        (
            "both",
            compensate(
                checkpoint, recipe, calibration, build, fresh, SEQ, batch_tokens=few, drifting=drifting
            ).records,
        ),
    ):
        assert [each.name for each in records] == list(checkpoint.shapes)
        found[name] = kl(model, {each.name: each.dequantize() for each in records})
    assert sum(told) == len(checkpoint.shapes)  # each tensor once
    assert found["both"] < 0.8 * found["compensation"]


def test_what_is_not_asked_for_stays_as_it_is() -> None:
    model = net()
    checkpoint, tokens = checkpoint_of(model), draw(3)
    calibration = observe(model, tokens, SEQ, token_digest="t")
    names = [name for name in checkpoint.shapes if name.startswith("blocks.1.")]
    applied = apply(RECIPE, checkpoint.stored_shapes)
    found = Drifting.over(tokens, SEQ, build).quantize(checkpoint, applied, calibration, names)
    assert found.keys() == set(names)
    first = found["blocks.1.q.weight"]  # nothing before it is quantized, so that there is no drift yet
    plain = {each.name: each for each in quantize(checkpoint, applied, calibration, names=names).records}
    assert np.allclose(first.dequantize(), plain[first.name].dequantize(), atol=1e-6)
    assert not np.allclose(found["blocks.1.down.weight"].dequantize(), plain["blocks.1.down.weight"].dequantize())


@pytest.mark.parametrize("other", ["@order=mlp(by=norm)"])
def test_what_sees_all_weights_at_once_is_refused(other: str) -> None:
    checkpoint = checkpoint_of(net())
    calibration = observe(net(), draw(3, 64), SEQ, token_digest="t")
    with pytest.raises(RecipeError, match="@drift"):
        follow_drift(checkpoint, parse_recipe(f"{RECIPE}; {other}"), calibration, build, draw(3, 64), SEQ)


def test_a_recipe_says_it_and_older_digests_stay() -> None:
    assert "@drift=layers(share=1,damp=0.03)" in str(RECIPE)
    assert parse_recipe(str(RECIPE)) == RECIPE
    assert "drift" not in parse_recipe("*=cast").canonical()
    assert Stage(("a",), 0).before == ()
