"""Test-time training scores first: no loss knows its own token or a later one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pgpack.errors import DataError, RoundTripError
from pgpack.loss.bpb import TextEvaluator
from pgpack.loss.evaluator import Evaluator
from pgpack.text.corpus import read_text_folder
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import build
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.ttt import Learner, TTTEvaluator
from pgtrain.training.ttt_config import TTTConfig
from tests.training.weights import random_tensors

DOCUMENT = 1
SGD = TTTConfig(chunk_tokens=96, epochs=2, lr=0.05, batch_tokens=64)
LORA = dataclasses.replace(TTTConfig.of_kind("lora"), chunk_tokens=16, rank=2, lr=0.05)


@pytest.fixture
def text(tiny: GPTConfig, text_folder: TextFolder):
    tokens = read_text_folder(text_folder, 400)[1][:321].copy()
    tokens[[60, 200]] = DOCUMENT
    tables = SentencePiece.load(text_folder.tokenizer_path).byte_tables

    def make(changed: np.ndarray | None = None, **options) -> TextEvaluator:
        options = {"seq_len": 32, "stride": 8, **options}
        shown = tokens if changed is None else changed
        return TextEvaluator(lambda state: build(tiny, state), tables.counted(shown), tables.vocab_size, **options)

    make.tokens = tokens
    return make


WAYS = [(SGD, {}), (LORA, {}), (LORA, {"document_token": DOCUMENT}), (SGD, {"document_token": DOCUMENT})]


@pytest.mark.parametrize(("config", "way"), WAYS)
def test_a_changed_token_changes_no_earlier_loss(config: TTTConfig, way: dict, tiny: GPTConfig, text) -> None:
    tensors, at = random_tensors(tiny, 0), 230
    before = TTTEvaluator(text(**way), config).token_nats(tensors)
    changed = text.tokens.copy()
    changed[at] = (changed[at] + 7) % 300 + 50
    after = TTTEvaluator(text(changed, **way), config).token_nats(tensors)
    assert np.array_equal(before[: at - 1], after[: at - 1])
    assert before[at - 1] != after[at - 1]


@pytest.mark.parametrize(("config", "way"), WAYS)
def test_no_target_is_trained_on_before_it_is_scored(
    config: TTTConfig, way: dict, tiny: GPTConfig, text, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, list[int]]] = []
    evaluator = TTTEvaluator(text(**way), config)
    step, score, train = Learner.step_, TTTEvaluator._score, TTTEvaluator._train

    def logged_score(self, learner, chunk, nats):
        score(self, learner, chunk, nats)
        events.append(("scored", np.flatnonzero(~np.isnan(nats)).tolist()))

    def logged_train(self, chunk_learner, chunk, nats):
        events.append(("chunk", list(range(chunk.begin, chunk.end))))
        train(self, chunk_learner, chunk, nats)

    def logged_step(self, ids, targets, lr):
        events.append(("trained", targets.flatten().tolist()))
        step(self, ids, targets, lr)

    monkeypatch.setattr(TTTEvaluator, "_score", logged_score)
    monkeypatch.setattr(TTTEvaluator, "_train", logged_train)
    monkeypatch.setattr(Learner, "step_", logged_step)
    nats = evaluator.token_nats(random_tensors(tiny, 0))
    assert np.isfinite(nats).all()
    scored: set[int] = set()
    chunk: list[int] = []
    for kind, values in events:
        if kind == "scored":
            scored = set(values)
        elif kind == "chunk":
            chunk = values
        else:  # what a step sees are targets of this chunk, all scored
            assert set(chunk) <= scored
            assert set(values) <= {int(t) for t in text.tokens[np.array(chunk) + 1]}
    assert sum(kind == "trained" for kind, _ in events) == evaluator.report.steps > 0


def test_training_on_an_unscored_target_is_an_error(tiny: GPTConfig, text) -> None:
    evaluator = TTTEvaluator(text(), SGD)
    learner = Learner(evaluator.text.module(random_tensors(tiny, 0)), 400, SGD)
    chunk = next(evaluator._chunks())
    nats = np.zeros(320, np.float32)
    nats[chunk.end - 1] = np.nan
    with pytest.raises(RoundTripError, match="before they are scored"):
        evaluator._train(learner, chunk, nats)


def test_without_learning_the_loss_is_that_of_the_fixed_model(tiny: GPTConfig, text) -> None:
    tensors = random_tensors(tiny, 0)
    for way in ({}, {"document_token": DOCUMENT}):
        fixed = text(**way)
        expected = fixed.token_nats(fixed.module(tensors))
        for config in (SGD, LORA):
            still = TTTEvaluator(fixed, dataclasses.replace(config, lr=0.0))
            assert still.token_nats(tensors) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("config", [SGD, LORA])
def test_learning_lowers_the_loss_and_leaves_the_tensors_alone(config: TTTConfig, tiny: GPTConfig, text) -> None:
    tensors = random_tensors(tiny, 0)
    kept = {name: array.copy() for name, array in tensors.items()}
    fixed = text().evaluate(tensors)
    evaluator: Evaluator = TTTEvaluator(text(), config)
    learned = evaluator.evaluate(tensors)
    assert learned.nats < fixed.nats - 0.05
    assert (learned.n_tokens, learned.n_text_bytes, learned.kl) == (fixed.n_tokens, fixed.n_text_bytes, None)
    assert all(np.array_equal(kept[name], tensors[name]) for name in kept)
    assert len({evaluator.digest, text().digest, TTTEvaluator(text(), dataclasses.replace(config, lr=1)).digest}) == 3


@pytest.mark.parametrize("config", [SGD, LORA])
def test_frozen_blocks_do_not_move_matrices_included(config: TTTConfig, tiny: GPTConfig, text) -> None:
    tensors = random_tensors(tiny, 0)
    fixed = text()
    learner = Learner(fixed.module(tensors), 400, dataclasses.replace(config, freeze_blocks=2))
    batch = next(fixed.batches())
    for _ in range(3):
        learner.step_(batch.ids, batch.targets, 0.05)
    seen = {name: parameter.numpy() for name, parameter in learner.module.named_parameters()}
    seen |= {name: tensor.detach().numpy() for name, tensor in learner.weights().items()}
    moved = {name for name, array in seen.items() if not np.array_equal(array, tensors[name])}
    assert not any(name.startswith(("blocks.0.", "blocks.1.")) for name in moved)
    assert {"blocks.2.attn.c_q.weight", "blocks.2.mlp.proj.weight"} <= moved
    frozen = sum(array.size for name, array in tensors.items() if name.startswith(("blocks.0.", "blocks.1.")))
    assert learner.frozen_values == frozen > 2000
    if config.kind == "sgd":
        assert learner.trained_values == sum(array.size for array in tensors.values()) - frozen
    with pytest.raises(DataError, match="block 3 cannot be frozen"):
        Learner(fixed.module(tensors), 400, dataclasses.replace(config, freeze_blocks=4))


def test_freezing_scalars_alone_leaves_the_matrices_of_the_blocks_free(tiny: GPTConfig, text) -> None:
    """What #1546 ran as its freeze of two blocks: all of their tensors that are no matrices."""
    tensors = random_tensors(tiny, 0)
    config = dataclasses.replace(SGD, freeze_blocks=2, frozen_part="scalars")
    learner = Learner(text().module(tensors), 400, config)
    first = [array for name, array in tensors.items() if name.startswith(("blocks.0.", "blocks.1."))]
    small = [tensors[f"blocks.0.{name}"] for name in ("attn_scale", "mlp_scale", "resid_mix", "attn.q_gain")]
    assert learner.frozen_values == 2 * sum(array.size for array in small) < sum(array.size for array in first) / 10
    with pytest.raises(DataError, match="all, scalars"):
        TTTConfig(frozen_part="banks")


def test_adapters_start_anew_at_every_document(tiny: GPTConfig, text) -> None:
    tensors = random_tensors(tiny, 0)
    way = {"document_token": DOCUMENT}
    placed = TTTEvaluator(text(**way), LORA).token_nats(tensors)
    alone = TTTEvaluator(text(text.tokens[60:201], **way), LORA).token_nats(tensors)  # cut to 128 of 140 targets
    still = TTTEvaluator(text(**way), dataclasses.replace(LORA, lr=0.0)).token_nats(tensors)
    assert alone[:32] == pytest.approx(placed[60:92], rel=1e-3)  # equal but for the cosine over 8 instead of 9 chunks
    assert placed[60:76] == pytest.approx(still[60:76], rel=1e-5)
    assert np.abs(placed[76:200] - still[76:200]).max() > 1e-2


def test_one_step_of_sgd_equals_torchs_on_the_module_itself(tiny: GPTConfig, text) -> None:
    tensors = random_tensors(tiny, 0)
    fixed = text()
    config = dataclasses.replace(SGD, grad_clip=0.0)
    learner = Learner(fixed.module(tensors), 400, config)
    batch = next(fixed.batches())
    copies = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    model = build(tiny, copies).requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=config.momentum)
    for _ in range(2):
        learner.step_(batch.ids, batch.targets, 0.05)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.forward_logits(batch.ids).view(-1, 400), batch.targets.flatten()).backward()
        optimizer.step()
    learned = learner.weights()
    assert all(torch.allclose(learned[name], p, rtol=1e-5, atol=1e-6) for name, p in model.named_parameters())


@pytest.mark.parametrize("wrong", [{"kind": "adam"}, {"chunk_tokens": 0}, {"lr": -1.0}, {"rank": 0}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(DataError):
        TTTConfig(**wrong)
