"""The GPT computes what its definitions say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pgpack.errors import CheckpointError, DataError
from pgtrain.identification.trace import read_trace
from pgtrain.model.gpt import GPT, build, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import check_shapes, count_parameters, tensor_shapes


def random_state(config: GPTConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights with nothing left at zero or one, so that every term of the arithmetic is seen."""
    rng = np.random.default_rng(seed)
    return {name: (0.3 * rng.standard_normal(s)).astype(np.float32) for name, s in tensor_shapes(config).items()}


def rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x) + np.finfo(np.float32).eps)


def rotate(x: np.ndarray, position: int, base: float) -> np.ndarray:
    """Each channel i < half and its partner i + half are turned by position * base^(-2i/head_dim)."""
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = position * base ** (-2 * i / len(x))
        out[i] = x[i] * np.cos(angle) + x[i + half] * np.sin(angle)
        out[i + half] = x[i + half] * np.cos(angle) - x[i] * np.sin(angle)
    return out


def attend(config: GPTConfig, w: dict[str, np.ndarray], i: int, xs: list[np.ndarray]) -> list[np.ndarray]:
    """Grouped-query attention, one position and one head at a time."""
    d, group = config.head_dim, config.num_heads // config.num_kv_heads
    q, k, v = ([w[f"blocks.{i}.attn.{c}.weight"] @ x for x in xs] for c in ("c_q", "c_k", "c_v"))
    out = []
    for t in range(len(xs)):
        heads = []
        for h in range(config.num_heads):
            kv = slice((h // group) * d, (h // group + 1) * d)
            query = rotate(rms(q[t][h * d : (h + 1) * d]), t, config.rope_base)
            query = query * w[f"blocks.{i}.attn.q_gain"][h]
            keys = [rotate(rms(k[s][kv]), s, config.rope_base) for s in range(t + 1)]
            scores = np.exp([query @ key / np.sqrt(d) for key in keys])
            heads.append(sum(p * v[s][kv] for s, p in enumerate(scores / scores.sum())))
        out.append(w[f"blocks.{i}.attn.proj.weight"] @ np.concatenate(heads))
    return out


def activate(config: GPTConfig, h: np.ndarray) -> np.ndarray:
    if config.mlp_activation == "leaky_relu2":
        return np.where(h > 0, h, 0.5 * h) ** 2
    return np.maximum(h, 0) ** (2 if config.mlp_activation == "relu2" else 3)


def block(
    config: GPTConfig, w: dict[str, np.ndarray], i: int, xs: list[np.ndarray], x0: list[np.ndarray]
) -> list[np.ndarray]:
    mix = w[f"blocks.{i}.resid_mix"]
    xs = [mix[0] * x + mix[1] * start for x, start in zip(xs, x0, strict=True)]
    mixed = attend(config, w, i, [rms(x) for x in xs])
    xs = [x + w[f"blocks.{i}.attn_scale"] * a for x, a in zip(xs, mixed, strict=True)]
    fc, proj = w[f"blocks.{i}.mlp.fc.weight"], w[f"blocks.{i}.mlp.proj.weight"]
    return [x + w[f"blocks.{i}.mlp_scale"] * (proj @ activate(config, fc @ rms(x))) for x in xs]


def oracle_logits(config: GPTConfig, state: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """The model in float64, position by position, from the definitions."""
    w = {name: array.astype(np.float64) for name, array in state.items()}
    x0 = [rms(w["tok_emb.weight"][token]) for token in ids]
    xs, saved, half = list(x0), [], config.num_layers // 2
    for i in range(half):
        xs = block(config, w, i, xs, x0)
        saved.append(xs)
    for j in range(config.num_layers - half):
        if saved:
            skip = saved.pop()
            xs = [x + w["skip_weights"][j] * s for x, s in zip(xs, skip, strict=True)]
        xs = block(config, w, half + j, xs, x0)
    head = w["tok_emb.weight"] if config.tie_embeddings else w["lm_head.weight"]
    cap = config.logit_softcap
    return np.array([cap * np.tanh(head @ rms(x) / cap) for x in xs])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_layers": 1},
        {"num_layers": 4, "num_kv_heads": 4},
        {"tie_embeddings": False, "mlp_activation": "relu3", "logit_softcap": 5.0},
        {"mlp_activation": "leaky_relu2", "num_kv_heads": 1, "rope_base": 100.0},
    ],
)
def test_logits_equal_the_definitions_in_float64(tiny: GPTConfig, changes: dict) -> None:
    config = dataclasses.replace(tiny, vocab_size=50, **changes)
    state = random_state(config)
    ids = np.random.default_rng(1).integers(0, 50, size=9)
    model = build(config, {name: torch.from_numpy(array) for name, array in state.items()})
    logits = model.forward_logits(torch.from_numpy(ids)[None])[0].numpy()
    np.testing.assert_allclose(logits, oracle_logits(config, state, ids.tolist()), rtol=2e-4, atol=2e-4)


def test_a_token_never_changes_an_earlier_logit(tiny: GPTConfig) -> None:
    model = build(tiny, {name: torch.from_numpy(a) for name, a in random_state(tiny).items()})
    ids = torch.randint(0, 400, (1, 16), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[0, 10] = (other[0, 10] + 1) % 400
    before, after = model.forward_logits(ids), model.forward_logits(other)
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.equal(before[:, 10:], after[:, 10:])


def test_loss_is_the_mean_negative_log_probability_of_the_targets(tiny: GPTConfig) -> None:
    model = build(tiny, {name: torch.from_numpy(a) for name, a in random_state(tiny).items()})
    ids, targets = torch.randint(0, 400, (2, 2, 7), generator=torch.Generator().manual_seed(0))
    logprobs = model.forward_logits(ids).double().log_softmax(-1)
    expected = -np.mean([float(logprobs[b, t, targets[b, t]]) for b in range(2) for t in range(7)])
    assert float(model(ids, targets)) == pytest.approx(expected, rel=1e-5)


def test_the_baseline_has_its_published_parameter_count() -> None:
    assert count_parameters(GPTConfig()) == 17_059_912


def test_state_dict_names_are_the_table_of_shapes(tiny: GPTConfig) -> None:
    for config in (tiny, dataclasses.replace(tiny, tie_embeddings=False), dataclasses.replace(tiny, num_layers=1)):
        state = GPT(config).state_dict()
        assert {name: tuple(t.shape) for name, t in state.items()} == tensor_shapes(config)
        assert sum(t.numel() for t in state.values()) == count_parameters(config)


def test_a_new_model_predicts_uniformly_and_only_its_seed_decides(tiny: GPTConfig) -> None:
    config = dataclasses.replace(tiny, tied_embed_init_std=1e-6)
    model = initialize_(GPT(config), seed=3)
    ids = torch.arange(8)[None]
    assert float(model(ids, ids).detach()) == pytest.approx(np.log(400), abs=0.05)
    again, other = initialize_(GPT(config), seed=3), initialize_(GPT(config), seed=4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(model.blocks[0].mlp.fc.weight, other.blocks[0].mlp.fc.weight)


def test_shapes_tell_every_field_that_they_show(tiny: GPTConfig) -> None:
    config = dataclasses.replace(tiny, tie_embeddings=False, seq_len=1024)
    trace = read_trace(tensor_shapes(config))
    assert {"vocab_size", "model_dim", "num_heads", "num_kv_heads", "mlp_mult", "tie_embeddings"} <= set(trace.fields)
    assert dataclasses.replace(config, num_layers=trace.blocks, skips=trace.skips, **trace.fields) == config


def test_foreign_tensors_are_refused_by_name(tiny: GPTConfig) -> None:
    shapes = tensor_shapes(tiny)
    with pytest.raises(CheckpointError, match=r"smear_gate\.weight"):
        check_shapes(tiny, shapes | {"smear_gate.weight": (1, 12)})
    with pytest.raises(CheckpointError, match=r"--model FILE\.py:build"):
        read_trace({"bank": (3, 3)})
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(CheckpointError, match="skip_weights has shape"):
        build(tiny, state | {"skip_weights": torch.zeros(2, 16)})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_heads": 3}, "even whole number"),
        ({"num_kv_heads": 3}, "cannot share"),
        ({"mlp_activation": "x"}, "known"),
    ],
)
def test_impossible_shapes_are_refused(tiny: GPTConfig, changes: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        dataclasses.replace(tiny, **changes)


def test_config_survives_json_and_unknown_keys_are_refused(tiny: GPTConfig) -> None:
    import json

    values = json.loads(tiny.to_json())
    assert GPTConfig.from_mapping(values) == tiny
    with pytest.raises(CheckpointError, match="xsa"):
        GPTConfig.from_mapping(values | {"xsa": True})
