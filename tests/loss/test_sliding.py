"""Every target is scored once, with the context that its window says, and never with its own future."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.errors import DataError
from pgpack.loss.bpb import TextEvaluator
from pgpack.loss.sliding import batches, cut_windows, document_starts
from pgpack.text.corpus import read_text_folder
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.text_folder import TextFolder
from pgpack.text.tokenizer import ByteTables
from pgtrain.challenge_models import with_loops
from pgtrain.model.gpt import build
from pgtrain.model.model_config import GPTConfig
from tests.training.weights import random_tensors

HOUSE = settings.get_profile("house")
DOCUMENT = 1


def one_byte_each(vocab_size: int) -> ByteTables:
    nothing = np.zeros(vocab_size, dtype=bool)
    return ByteTables(np.ones(vocab_size, dtype=np.int64), nothing, nothing)


def evaluator(config: GPTConfig, tokens: np.ndarray, **options) -> TextEvaluator:
    options = {"seq_len": config.seq_len, **options}
    text, vocab_size = one_byte_each(config.vocab_size).counted(tokens), config.vocab_size
    return TextEvaluator(lambda state: build(config, state), text, vocab_size, **options)


@st.composite
def texts(draw: st.DrawFn) -> tuple[np.ndarray, int, int, int]:
    """(tokens with a few document starts, window, stride, targets of a first window)."""
    n = draw(st.integers(2, 90))
    tokens = np.array(draw(st.lists(st.integers(1, 6), min_size=n, max_size=n)), dtype=np.uint16)
    seq_len = draw(st.integers(1, 20))
    return tokens, seq_len, draw(st.integers(1, seq_len)), draw(st.integers(1, seq_len))


@given(texts(), st.booleans())
@settings(HOUSE)
def test_every_target_is_scored_once_and_in_order(text: tuple[np.ndarray, int, int, int], documents: bool) -> None:
    tokens, seq_len, stride, first = text
    windows = cut_windows(tokens, seq_len, stride, DOCUMENT if documents else None, first)
    scored = np.concatenate([np.arange(t, t + n) for t, n in zip(windows.first_targets, windows.scored, strict=True)])
    assert np.array_equal(scored, np.arange(len(tokens) - 1))
    assert windows.lengths.max() <= seq_len
    assert (windows.scored >= 1).all()
    starts = document_starts(tokens, DOCUMENT if documents else None)
    for start, length in zip(windows.starts, windows.lengths, strict=True):  # no window reads over a document's start
        assert not ((starts > start) & (starts < start + length)).any()


@given(texts(), st.integers(1, 60))
@settings(HOUSE)
def test_batches_hold_each_chosen_target_with_its_token(
    text: tuple[np.ndarray, int, int, int], batch_tokens: int
) -> None:
    tokens, seq_len, stride, _ = text
    windows = cut_windows(tokens, seq_len, stride, DOCUMENT)
    seen = []
    for batch in batches(tokens, windows, None, batch_tokens, torch.device("cpu")):
        targets = batch.targets[:, batch.offset :][batch.scored].numpy()
        inputs = batch.ids[:, batch.offset :][batch.scored].numpy()
        assert np.array_equal(targets, tokens[batch.positions + 1])
        assert np.array_equal(inputs, tokens[batch.positions])
        assert batch.ids.numel() <= max(batch_tokens, seq_len)
        seen.append(batch.positions)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(len(tokens) - 1))


def test_windows_of_stride_64_are_those_of_the_challenge() -> None:
    tokens = np.zeros(1000 + 1, dtype=np.uint16)
    windows = cut_windows(tokens, 256, 64)
    starts = [start for start in range(0, 1000, 64) if start + 256 - 64 < 1000]  # PR #1394, eval_val_sliding
    assert windows.starts.tolist() == starts
    assert (windows.starts + windows.lengths).tolist() == [min(start + 256, 1000) for start in starts]
    assert windows.scored.tolist() == [256] + [64] * (len(starts) - 2) + [1000 - (256 + 64 * (len(starts) - 2))]


def test_a_stride_of_the_window_is_full_evaluation_to_the_bit(tiny: GPTConfig, val_tokens: np.ndarray) -> None:
    tensors = random_tensors(tiny, 0)
    full = evaluator(tiny, val_tokens)
    sliding = evaluator(tiny, val_tokens, stride=tiny.seq_len)
    assert dataclasses.replace(full.evaluate(tensors), eval_s=0.0) == dataclasses.replace(
        sliding.evaluate(tensors), eval_s=0.0
    )
    assert full.digest == sliding.digest


def test_sliding_loss_is_that_of_each_token_with_the_longest_context_its_window_has(
    tiny: GPTConfig, val_tokens: np.ndarray
) -> None:
    tensors = random_tensors(tiny, 1)
    measured = evaluator(tiny, val_tokens[:150], stride=8)
    model = measured.module(tensors)
    expected = np.empty(measured.n_tokens)
    for target in range(measured.n_tokens):
        start = 0 if target < 32 else (target - 32) // 8 * 8 + 8
        ids = torch.from_numpy(measured.tokens[start : target + 1].astype(np.int64))[None]
        logprobs = model.forward_logits(ids)[0, -1].log_softmax(-1)
        expected[target] = -logprobs[int(measured.tokens[target + 1])]
    assert measured.token_nats(model) == pytest.approx(expected, rel=2e-5)
    assert measured.evaluate(tensors).nats == pytest.approx(expected.mean(), rel=1e-5)


def test_isolated_documents_cost_the_same_whatever_stands_before_them(
    tiny: GPTConfig, val_tokens: np.ndarray
) -> None:
    model = evaluator(tiny, val_tokens).module(random_tensors(tiny, 2))
    starts = document_starts(val_tokens, DOCUMENT)
    begin = int(starts[2])  # the third document, alone and in its place
    alone = evaluator(tiny, val_tokens[begin : begin + 65], stride=16, document_token=DOCUMENT).token_nats(model)
    placed = evaluator(tiny, val_tokens, stride=16, document_token=DOCUMENT).token_nats(model)[begin : begin + 64]
    assert alone == pytest.approx(placed, rel=1e-5)
    joined = evaluator(tiny, val_tokens, stride=16).token_nats(model)[begin : begin + 64]
    assert np.abs(joined - placed).max() > 1e-3


@pytest.mark.parametrize("way", [{}, {"stride": 8}, {"stride": 5, "document_token": DOCUMENT}])
def test_a_changed_token_changes_no_earlier_loss(tiny: GPTConfig, val_tokens: np.ndarray, way: dict) -> None:
    at = 70
    tokens = val_tokens[:161].copy()
    model = evaluator(tiny, tokens).module(random_tensors(tiny, 3))
    before = evaluator(tiny, tokens, **way).token_nats(model)
    tokens[at] = (tokens[at] + 7) % 300 + 50
    after = evaluator(tiny, tokens, **way).token_nats(model)
    assert np.array_equal(before[: at - 1], after[: at - 1])  # target t is token t + 1
    assert before[at - 1] != after[at - 1]


def test_the_digest_names_the_windows(tiny: GPTConfig, val_tokens: np.ndarray) -> None:
    ways = [{}, {"stride": 8}, {"stride": 16}, {"document_token": DOCUMENT}, {"variant": "loops 3"}]
    assert len({evaluator(tiny, val_tokens, **way).digest for way in ways}) == len(ways)


def test_kl_is_measured_on_the_same_targets(tiny: GPTConfig, val_tokens: np.ndarray) -> None:
    reference, other = random_tensors(tiny, 0), random_tensors(tiny, 1)
    way = {"stride": 8, "document_token": DOCUMENT}
    measured = evaluator(tiny, val_tokens[:321], reference=reference, **way)
    assert measured.evaluate(reference).kl == 0.0
    p_model, q_model = measured.module(reference), measured.module(other)
    total = 0.0
    for batch in measured.batches():
        p, q = (m.forward_logits(batch.ids)[:, batch.offset :].double().softmax(-1) for m in (p_model, q_model))
        total += float((p * (p / q).log()).sum(-1)[batch.scored].sum())
    assert measured.evaluate(other).kl == pytest.approx(total / measured.n_tokens, rel=1e-5)


def test_more_loops_than_trained_are_other_arithmetic_and_a_model_without_loops_refuses(
    tiny: GPTConfig, val_tokens: np.ndarray
) -> None:
    looped = dataclasses.replace(tiny, num_loops=1, loop_start=1, loop_end=1)
    tensors = random_tensors(looped, 0)
    tokens = val_tokens[:97]

    def nats(config: GPTConfig, loops: int | None) -> float:
        def builder(state):
            return build(config, state)

        chosen = builder if loops is None else with_loops(builder, loops)
        return TextEvaluator(chosen, one_byte_each(400).counted(tokens), 400, 32).evaluate(tensors).nats

    assert nats(looped, None) == nats(looped, 1)
    assert len({nats(looped, loops) for loops in (0, 1, 2, 3)}) == 4
    with pytest.raises(DataError, match="no loop to repeat 2 times"):
        with_loops(lambda state: build(tiny, state), 2)(
            {name: torch.from_numpy(array) for name, array in random_tensors(tiny, 0).items()}
        )


def test_impossible_strides_are_refused(tiny: GPTConfig, val_tokens: np.ndarray) -> None:
    for stride in (-1, 33):
        with pytest.raises(DataError, match="between 1 and the window, 32"):
            evaluator(tiny, val_tokens, stride=stride)


@pytest.fixture(scope="module")
def val_tokens(text_folder: TextFolder) -> np.ndarray:
    tokens = read_text_folder(text_folder, 400)[1][:1500]
    assert SentencePiece.load(text_folder.tokenizer_path).bos_id == DOCUMENT
    return tokens
