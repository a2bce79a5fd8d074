"""A state dict without metadata is recognized by its tensors, and by its loss where tensors do not tell."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pgpack.errors import CheckpointError, DataError
from pgpack.models.evidence import evidence_lines, read_evidence
from pgpack.models.probe import Probe
from pgtrain.identification.contest import Judge
from pgtrain.identification.hidden_fields import GROUPS, structures
from pgtrain.identification.trace import read_trace
from pgtrain.identification.yardstick import bigram_nats
from pgtrain.identify import UNSEEN, identify, named
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.presets import PRESETS, SYSTEMS

RESCALED = ("rope_scaling", "rope_max_len", "rope_train_len")  # nothing of it acts within the windows of training
SEARCHED = {field for group in GROUPS for field in group.fields}


def seen(config: GPTConfig) -> GPTConfig:
    """The config without what only training uses."""
    return replace(config, **{field: getattr(GPTConfig(), field) for field in (*UNSEEN, *RESCALED)})


@dataclass
class Oracle:
    """Reads text without a model: a loss that grows with every searched field that differs from the truth.

    `steep`: fields whose difference shows in the gradient; `rises`: nats of a field's difference, 0.5 for most;
    `rough`: fields whose difference makes some tokens dearer and others cheaper; `refuted`: fields whose difference
    values tell that training never touched.
    """

    truth: GPTConfig
    base: float = 3.0
    bigram: float = 4.0
    n_tokens: int = 4096
    steep: tuple[str, ...] = ()
    rises: dict[str, float] = field(default_factory=dict)
    rough: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()
    best_window: int = 256

    def nats(self, config: GPTConfig, window: int, first: int, last: int) -> np.ndarray:
        wrong = self._wrong(config)
        noise = self._noise(0)[first:last]
        for name in set(wrong) & set(self.rough):
            noise = noise + self._noise(1)[first:last]
            wrong.remove(name)
        return self.base + noise + sum(self.rises.get(name, 0.5 if name in SEARCHED else 0.0) for name in wrong)

    def nats_through(self, config: GPTConfig, window: int, n_tokens: int) -> np.ndarray:
        away = abs(np.log2(window / self.best_window))
        return self.base + 0.1 * away + np.random.default_rng(0).normal(0, 0.5, n_tokens // window * window)

    def nats_further(self, config: GPTConfig, first: int, last: int, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        draw, spread = np.random.default_rng(0), 0.1 if first < self.best_window else 0.5
        return draw.normal(0, spread, 4096), np.zeros(4096)

    def gradients(self, config: GPTConfig, window: int, first: int, last: int) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(0)
        rows = draw.normal(0, 1, (16, 200))
        for name in self._wrong(config):
            if name in self.steep:
                rows = rows + np.random.default_rng(len(name)).normal(0, 1, 200)
        return {"weight": rows[first:last].astype(np.float32)}

    def against(self, config: GPTConfig, window: int) -> int:
        return int(bool(set(self._wrong(config)) & set(self.refuted)))

    def enough(self, config: GPTConfig, window: int) -> int:
        return self.n_tokens // window * window

    def _noise(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(0, 0.5, self.n_tokens)

    def _wrong(self, config: GPTConfig) -> list[str]:
        unseen = (*UNSEEN, *RESCALED)
        return [
            name for name, value in vars(self.truth).items() if value != getattr(config, name) and name not in unseen
        ]


def found(truth: GPTConfig, said: dict[str, Any] | None = None, **oracle: Any) -> GPTConfig:
    shapes = tensor_shapes(truth)
    return seen(identify(shapes, Oracle(truth, **oracle), said, truth.seq_len).config)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_lies_among_what_is_searched(name: str) -> None:
    truth = PRESETS[name].model
    trace = read_trace(tensor_shapes(truth))
    for group in GROUPS:
        choices = group.choices(truth, trace)
        own = [choice for choice in choices if all(getattr(truth, one) == value for one, value in choice.items())]
        assert own or not choices or truth.rope_scaling == "ntk", group.name


def test_attention_within_documents_is_searched_in_every_model() -> None:
    """A published setting that the search begins at may have it, and no gate says so."""
    group = next(group for group in GROUPS if "within_documents" in group.fields)
    choices = group.choices(BASE, read_trace(tensor_shapes(BASE)))
    assert {choice["within_documents"] for choice in choices} == {False, True}
    assert group.usual(BASE)
    assert not group.usual(replace(BASE, within_documents=True, boundary_token=1))


@pytest.mark.parametrize("name", PRESETS)
def test_no_field_that_tensors_show_is_searched(name: str) -> None:
    truth = PRESETS[name].model
    fields = read_trace(tensor_shapes(truth)).fields
    assert {name: getattr(truth, name) for name in fields} == fields
    hidden = {"skips", "num_layers", "num_loops", "loop_start", "loop_end", "sharing", "adapters", "bigram_hash"}
    assert not set(fields) & SEARCHED - hidden - {"repartition"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_found_by_its_loss_in_sizes_of_its_own(name: str) -> None:
    twin = PRESETS[f"{name}-tiny"].model
    truth = replace(twin, vocab_size=777, model_dim=2 * twin.model_dim)
    if twin.rope_dims:
        truth = replace(truth, rope_dims=16)
    truth = replace(truth, embed_dim=twin.embed_dim and twin.embed_dim + 2)
    assert found(truth) == seen(truth)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_loops": 2, "loop_start": 1, "loop_end": 1, "skips": "gate"},
        {"num_loops": 1, "loop_start": 2, "loop_end": 3, "skips": "gate", "norm_scale": "virtual"},
        {"num_loops": 2, "loop_start": 0, "loop_end": 3, "skips": "none"},
        {
            "num_loops": 1,
            "loop_start": 1,
            "loop_end": 2,
            "lane_start": 2,
            "lane_scope": "layers",
            "lane_final": "mlp",
        },
        {"lane_start": 1, "lane_scope": "layers", "lane_skip": "both", "lane_split": "no_skip", "skips": "gate"},
        {"sharing": "single", "num_layers": 7, "skips": "none"},
        {"sharing": "encoder_decoder", "num_layers": 9, "skips": "none", "xsa_last_n": 9},
        {"attn_gate": "window", "attn_gate_scale": 2.0, "smear": "window", "boundary_token": 1},
        {"rope_base": 50_000.0, "rope_dims": 8, "mlp_activation": "relu3", "logit_softcap": 15.0},
        {"skips": "none", "num_loops": 1, "loop_start": 0, "loop_end": 3, "loop_lora_rank": 2},
        {"bigram_buckets": 64, "bigram_dim": 4, "bigram_hash": "mul104729", "smear": "window_bias"},
    ],
)
def test_every_hidden_setting_is_found(fields: dict[str, Any]) -> None:
    truth = replace(GPTConfig(num_layers=4, model_dim=32, num_heads=2, num_kv_heads=1, seq_len=64), **fields)
    assert found(truth) == seen(truth)


BASE = GPTConfig(vocab_size=500, num_layers=3, model_dim=32, num_heads=2, num_kv_heads=1, seq_len=64)


def test_what_tensors_hide_is_measured_and_said_with_its_evidence() -> None:
    truth = replace(BASE, mlp_activation="relu3")
    identified = identify(tensor_shapes(truth), Oracle(truth), None, 64)
    by = {each.field: each for each in identified.evidence}
    assert (by["model_dim"].by, by["tie_embeddings"].by, by["mlp_activation"].by) == ("shapes", "names", "loss")
    assert by["seq_len"].by == "user"
    assert by["mlp_activation"].behind == pytest.approx(("relu2", 0.5)) or by["mlp_activation"].behind[1] > 0.4
    assert "mlp_activation=relu3" in identified.how
    document = read_evidence(identified.to_json())
    assert document is not None
    assert json.loads(truth.to_json())["mlp_activation"] == document["config"]["mlp_activation"]
    lines = "\n".join(evidence_lines(document))
    assert "by the loss: " in lines
    assert "mlp_activation=relu3 (" in lines


def test_what_the_user_says_is_not_changed() -> None:
    truth = replace(BASE, mlp_activation="relu3")
    said = {"mlp_activation": "leaky_relu2", "logit_softcap": 12.5}
    config = found(truth, said)
    assert (config.mlp_activation, config.logit_softcap) == ("leaky_relu2", 12.5)
    with pytest.raises(DataError, match="the tensors say model_dim=32"):
        found(truth, {"model_dim": 64})


def test_without_text_the_flag_is_named() -> None:
    with pytest.raises(DataError, match=r"--model NAME"):
        identify(tensor_shapes(BASE), None)


def test_several_answers_within_noise_are_a_question_with_the_losses() -> None:
    truth = replace(BASE, norm_scale="block")
    losses = r"norm_scale=\w+ \d\.\d{4}, norm_scale=\w+ \d\.\d{4}"
    with pytest.raises(DataError, match=losses + ".*--set norm_scale=VALUE"):
        found(truth, rough=("norm_scale",))


@pytest.mark.parametrize(("base", "bigram", "reads"), [(6.3, 6.5, False), (5.5, 5.0, False), (5.3, 5.0, True)])
def test_the_best_of_bad_guesses_is_no_identification(base: float, bigram: float, reads: bool) -> None:
    """At chance, ln 500 = 6.2, or far above a bigram."""
    if reads:
        assert found(BASE, base=base, bigram=bigram) == seen(BASE)
        return
    with pytest.raises(DataError, match=r"no model with these tensors reads this text.*bigram.*chance 6\.215"):
        found(BASE, base=base, bigram=bigram)


def test_an_unusual_value_needs_both_witnesses() -> None:
    """The loss alone likes arithmetic that a model never had: a little less than under its own."""
    for nats in (0.005, 0.04):
        lower = {"rope_base": -nats}
        with pytest.raises(DataError, match=r"--set rope_base=VALUE"):
            found(BASE, n_tokens=65_536, rises=lower, steep=())
        assert found(BASE, n_tokens=65_536, rises=lower, steep=("rope_base",)) == seen(BASE)


def test_a_usual_value_stands_before_an_unusual_one_that_loses_hardly_less() -> None:
    assert found(BASE, n_tokens=65_536, rises={"rope_base": -0.001}) == seen(BASE)


class Stretching(Oracle):
    """In windows twice as long as its own it loses less with a larger rotary base."""

    def nats(self, config: GPTConfig, window: int, first: int, last: int) -> np.ndarray:
        wrong = config.rope_base != (1e4 if window <= self.best_window else 5e4)
        truth = replace(config, rope_base=self.truth.rope_base)
        return super().nats(truth, window, first, last) + 0.5 * wrong

    def nats_further(self, config: GPTConfig, first: int, last: int, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        return super(Stretching, self._fooled(config)).nats_further(config, first, last, n_tokens)

    def _fooled(self, config: GPTConfig) -> Stretching:
        return replace(self, best_window=64) if config.rope_base == 5e4 else self

    def nats_through(self, config: GPTConfig, window: int, n_tokens: int) -> np.ndarray:
        own = super(Stretching, self._fooled(config)).nats_through(config, window, n_tokens)
        return own + 0.05 * (config.rope_base != self.truth.rope_base)


def test_a_larger_base_that_only_reads_longer_windows_better_is_not_taken() -> None:
    truth = replace(BASE, rope_base=1e4, seq_len=32)
    config = identify(tensor_shapes(truth), Stretching(truth, best_window=32)).config
    assert (config.rope_base, config.seq_len) == (1e4, 32)


def test_no_systems_tensors_name_the_way_out() -> None:
    shapes = tensor_shapes(PRESETS["baseline-tiny"].model)
    with pytest.raises(CheckpointError, match=r"--model FILE\.py:build"):
        identify(shapes | {"ve_shared.embed.weight": (10, 4)}, None)
    with pytest.raises(CheckpointError, match=r"--model FILE\.py:build"):
        identify(shapes | {"pos_emb.weight": (128, 32)}, None)  # learned positions, which no system has
    with pytest.raises(CheckpointError, match="cannot tell the model"):
        identify({"encoder.w": (4, 4)}, None)
    with pytest.raises(CheckpointError):
        identify(shapes | {"tok_emb.weight": (4,)}, None)


def test_loops_need_tables_that_allow_them() -> None:
    """What swallowed models of other shapes: skips of 7 layers are no loop of 3."""
    shapes = tensor_shapes(replace(BASE, num_layers=7))
    orders = structures(read_trace(shapes))
    assert {(each["num_layers"], each["num_loops"]) for each in orders} == {(7, 0)}
    shapes["skip_weights"] = (4, 32)  # of 8 or 9 layers
    orders = structures(read_trace(shapes))
    lengths = {each["num_loops"] * (each["loop_end"] - each["loop_start"] + 1) for each in orders}
    assert lengths == {1, 2}


def test_a_named_system_takes_the_sizes_of_the_tensors() -> None:
    truth = replace(PRESETS["lanes-tiny"].model, vocab_size=500, model_dim=96)
    assert named("lanes", tensor_shapes(truth), {"rope_dims": 8}) == replace(truth, seq_len=2048)
    shared = replace(PRESETS["prism-albert"].model, vocab_size=500, model_dim=96, num_kv_heads=2, rope_dims=8)
    assert named("prism-albert", tensor_shapes(shared), {"rope_dims": 8}).num_layers == 11
    wo = replace(PRESETS["prism-wo"].model, num_layers=7)
    assert named("prism-wo", tensor_shapes(wo)) == replace(wo, xsa_last_n=7)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ebls", "not those of ebls in any size.*unknown blocks"),
        ("prism-wo", "not those of prism-wo in any size.*unknown blocks"),
        ("loop45", "not those of loop45 in any size.*unknown parallel_post_lambdas, parallel_resid_lambdas"),
        ("baseline", "not those of baseline in any size.*skip_gates"),
    ],
)
def test_a_wrong_name_is_answered_by_the_tensors_that_differ(name: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        named(name, tensor_shapes(PRESETS["lanes-tiny"].model), {"rope_dims": 8})


def test_guesses_that_are_one_function_are_no_question_and_no_choice() -> None:
    """On all tokens alike: whichever is taken, the bits are the same."""
    truth = replace(BASE, norm_scale="block")
    assert found(truth, rises={"norm_scale": 0.0}).norm_scale in ("none", "block", "virtual")


def test_guesses_that_differ_only_late_in_the_text_are_told_apart() -> None:
    """Where documents begin may lie thousands of tokens in: alike on the first is not alike."""
    one, other = BASE, replace(BASE, within_documents=True, boundary_token=1)

    def measure(config: GPTConfig, first: int, last: int) -> np.ndarray:
        return np.full(last - first, 3.0) + 0.1 * ((np.arange(first, last) > 9000) & (config == other))

    ranked = Judge(measure, lambda config, first, last: {}, 32_768).contest([one, other])
    assert [each.same for each in ranked] == [True, False]
    assert ranked[0].config == one


class Late(Oracle):
    """Under another activation than its own it loses less on the first tokens, and more on all that follow."""

    def nats(self, config: GPTConfig, window: int, first: int, last: int) -> np.ndarray:
        own = super().nats(replace(config, mlp_activation=self.truth.mlp_activation), window, first, last)
        if config.mlp_activation == self.truth.mlp_activation:
            return own
        noise = np.random.default_rng(1).normal(0, 0.08, self.n_tokens)[first:last]
        return own + noise + np.where(np.arange(first, last) < 256, -0.018, 0.04)


def test_what_falls_behind_early_and_not_far_is_read_to_the_end() -> None:
    truth = replace(BASE, mlp_activation="relu3")
    reader = Late(truth, n_tokens=32_768, bigram=4.0)
    assert identify(tensor_shapes(truth), reader, None, 64).config.mlp_activation == "relu3"


def test_a_bigram_reads_what_pairs_tell_and_no_more() -> None:
    draw = np.random.default_rng(0)
    chain = (np.cumsum(draw.integers(0, 2, 20_000)) % 64).astype(np.uint16)  # the next is one of two
    assert bigram_nats(chain, 64) == pytest.approx(np.log(2), abs=0.02)
    noise = draw.integers(0, 64, 20_000).astype(np.uint16)
    assert bigram_nats(noise, 64) == pytest.approx(np.log(64), abs=0.25)
    assert bigram_nats(noise[:2], 64) == np.log(64)


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
