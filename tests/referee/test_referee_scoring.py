"""The tests for peeking accept what predicts and refuse what looks: on scorers small enough to be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgpack.referee.claims import byte_counts, decimals, read_claims, states
from pgpack.referee.evidence import Decoded, Evidence, Options, TensorFacts
from pgpack.referee.folder import Entry, Folder
from pgpack.referee.logs import AFTER, BEFORE, PLAIN, SLIDING, TRAINING, TTT, mode_of, read_log, stage_of
from pgpack.referee.runs import Run
from pgpack.referee.scored_text import calibrations_on_evaluated
from pgpack.referee.scoring import (
    Answer,
    Scores,
    candidate_test,
    document_test,
    flip_test,
    log_softmax,
    normalization_test,
)
from pgpack.referee.script import Script
from pgpack.referee.source import opened_names, outside_programs, wrapped_size
from pgpack.referee.verdict import Verdict, judged

V, BOS = 12, 1
IDS = np.random.default_rng(0).integers(2, V, 60)
TABLE = np.random.default_rng(1).standard_normal((V, V))
MIX = np.random.default_rng(2).standard_normal((V, V))
Scorer = Callable[[NDArray[Any]], NDArray[Any]]


def logits(ids: NDArray[Any]) -> NDArray[Any]:
    """Depends on the token and the one before it."""
    before = np.concatenate([ids[:1], ids[:-1]])
    return TABLE[ids] + 0.3 * MIX[before]


def fixed(ids: NDArray[Any]) -> NDArray[Any]:
    return -log_softmax(logits(ids[:-1]))[np.arange(len(ids) - 1), ids[1:]]


def looks_ahead(ids: NDArray[Any]) -> NDArray[Any]:
    """Bidirectional: the token after next shines through."""
    after = np.concatenate([ids[2:], ids[:1]])
    return -log_softmax(logits(ids[:-1]) + 0.1 * MIX[after])[np.arange(len(ids) - 1), ids[1:]]


def learner(chunk: int, *, before: bool) -> Scorer:
    """Counts that are learned chunk by chunk, after the chunk is scored or before."""

    def score(ids: NDArray[Any]) -> NDArray[Any]:
        counts, nats = np.ones((V, V)), []
        for start in range(0, len(ids) - 1, chunk):
            pairs = [*zip(ids[start : start + chunk], ids[start + 1 : start + chunk + 1], strict=False)]
            for learning in (before, False, not before):
                if learning:
                    for context, target in pairs:
                        counts[context, target] += 1
                elif len(nats) == start:
                    nats += [-np.log(counts[context, target] / counts[context].sum()) for context, target in pairs]
        return np.array(nats)

    return score


def smeared(ids: NDArray[Any], *, across: bool) -> NDArray[Any]:
    """The token before mixes in; at the start of a document only when `across`."""
    given = ids[:-1]
    before = np.concatenate([given[:1], given[:-1]])
    gate = np.where((given == BOS) & (not across), 0.0, 0.3)[:, None]
    return -log_softmax(TABLE[given] + gate * MIX[before])[np.arange(len(given)), ids[1:]]


def test_a_fixed_causal_model_passes_every_test() -> None:
    assert flip_test(fixed, IDS, V).ok
    assert normalization_test(logits, fixed, IDS).ok
    found = candidate_test(fixed, IDS, V)
    assert found.ok
    assert "sum to 1.000000" in found.detail
    assert candidate_test(fixed, IDS, V, candidates=5).ok


def test_a_model_that_looks_ahead_fails_the_flip_test() -> None:
    found = flip_test(looks_ahead, IDS, V)
    assert not found.ok
    assert "changes the loss of the earlier token" in found.detail


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_losses_that_are_no_distribution_fail(factor: float) -> None:
    wrong = lambda ids: factor * fixed(ids)  # noqa: E731
    assert not normalization_test(logits, wrong, IDS).ok
    assert not candidate_test(wrong, IDS, V).ok


@pytest.mark.parametrize("losses", [np.zeros(3), np.full(len(IDS) - 1, np.nan)])
def test_losses_that_are_none_fail(losses: NDArray[Any]) -> None:
    assert not flip_test(lambda _: losses, IDS, V).ok


@pytest.mark.parametrize("chunk", [4, 16])
def test_learning_after_scoring_passes_and_before_it_fails(chunk: int) -> None:
    honest, dishonest = learner(chunk, before=False), learner(chunk, before=True)
    assert flip_test(honest, IDS, V).ok
    assert candidate_test(honest, IDS, V).ok
    assert not flip_test(dishonest, IDS, V).ok
    assert not candidate_test(dishonest, IDS, V).ok


def test_learning_each_token_just_before_it_is_scored_fails_by_its_sum_alone() -> None:
    peeking = learner(1, before=True)
    assert flip_test(peeking, IDS, V).ok
    found = candidate_test(peeking, IDS, V)
    assert not found.ok
    assert "a score that is fixed before its token is used sums to 1" in found.detail


def test_a_smear_across_documents_leaks_and_one_that_stops_there_does_not() -> None:
    ids = np.concatenate([[BOS], IDS[:20], [BOS], IDS[20:40]])
    found = document_test(lambda ids: smeared(ids, across=True), ids, 21, V)
    assert not found.ok
    assert "leaks across the boundary" in found.detail
    assert document_test(lambda ids: smeared(ids, across=False), ids, 21, V).ok


def evidence(**more: Any) -> Evidence:
    return Evidence(Folder(Path("submission"), (), ()), Options(), **more)


def of_tensor(**facts: Any) -> Verdict:
    """The verdict over an artifact that holds one matrix with these facts."""
    plain = {"shape": [256, 512], "dtype": "float32", "sha256": "0" * 64, **facts}
    run = Run(value={"kind": "pgpack", "recorded_digest": "", "libraries": [], "tensors": {"blocks.0.w": plain}})
    return judged(evidence(decoded=(Decoded(Entry("m.pgpack", 1000, "pgpack"), run, run),)))


@pytest.mark.parametrize(
    ("rule", "facts", "status", "words"),
    [
        ("finite", {"not_finite": 3}, "fail", "blocks.0.w has 3"),
        ("fp16", {"fp16_overflow": 2}, "fail", "where fp16 ends: blocks.0.w has 2"),
        ("scale-floor", {"floor_rows": 9}, "warn", "too coarse for them: blocks.0.w 9"),
        ("unquantized", {"unquantized": True}, "warn", r"blocks.0.w (256, 512)"),
        ("unquantized", {"unquantized": True, "shape": [256, 256]}, "ok", ""),
        ("trained", {"constant": True, "value": 1.0}, "warn", "blocks.0.w is 1 throughout"),
    ],
)
def test_numbers_that_a_reviewer_would_ask_about_are_named(
    rule: str, facts: dict[str, Any], status: str, words: str
) -> None:
    found = of_tensor(**facts)[rule]
    assert found.status == status
    assert words in found.detail


def test_warnings_refuse_only_when_strict() -> None:
    warned = of_tensor(floor_rows=9)
    assert warned.of("warn")
    clean = dataclasses.replace(warned, findings=warned.of("warn"))
    assert clean.ok
    assert not dataclasses.replace(clean, strict=True).ok


def test_a_loss_measured_another_way_is_not_compared() -> None:
    log = read_log("train.log", "quantized_ttt_phased val_loss:2.0 val_bpb:1.06000000\n")
    claims = read_claims('{"val_bpb": 1.06}')
    found = judged(evidence(claims=claims, logs=(log,), scores=Scores(bpb=1.09, n_tokens=10)))["loss"]
    assert found.status == "warn"
    assert "is test-time training in its log" in found.detail


@pytest.mark.parametrize(
    ("scores", "rule", "status"),
    [
        (Scores(bpb=1.06, n_tokens=10), "loss", "ok"),
        (Scores(bpb=1.07, n_tokens=10), "loss", "fail"),
        (Scores(bpb=1.07, n_tokens=10, whole=False), "loss", "warn"),
        (Scores(fault="no model"), "loss", "skip"),
        (Scores(text_bytes=104, decoded_bytes=100), "text-bytes", "fail"),
        (Scores(text_bytes=100, decoded_bytes=100), "text-bytes", "ok"),
        (Scores(causal=Answer(False, "x")), "causal", "fail"),
        (Scores(score_first=Answer(False, "x")), "score-first", "fail"),
        (Scores(documents=Answer(False, "x")), "documents", "fail"),
        (Scores(calibration=Answer(False, "x")), "calibration-text", "fail"),
        (Scores(normalized=Answer(True, "x")), "normalized", "ok"),
        (None, "causal", "skip"),
    ],
)
def test_scores_decide_their_rules(scores: Scores | None, rule: str, status: str) -> None:
    claims = read_claims('{"val_bpb": 1.06}')
    assert judged(evidence(claims=claims, scores=scores))[rule].status == status


@pytest.mark.parametrize(
    ("label", "rest", "stage", "mode"),
    [
        ("step:13780/20000", "train_time:600038ms", TRAINING, PLAIN),
        ("4945/20000", "", TRAINING, PLAIN),
        ("diagnostic pre-quantization post-ema", "", BEFORE, PLAIN),
        ("DIAGNOSTIC post_ema", "", BEFORE, PLAIN),
        ("final_int8_zlib_roundtrip_exact", "", AFTER, PLAIN),
        ("quantized_sliding_window", "eval_time:83540ms", AFTER, SLIDING),
        ("final_int6_roundtrip", "stride:64", AFTER, SLIDING),
        ("quantized_ttt_phased", "", AFTER, TTT),
        ("legal_ttt_exact", "", AFTER, TTT),
        ("ttt_sliding:done", "", AFTER, TTT),
    ],
)
def test_figures_of_the_fields_logs_are_told_apart(label: str, rest: str, stage: str, mode: str) -> None:
    assert (stage_of(label), mode_of(label, rest)) == (stage, mode)
    figure = read_log("train.log", f"{label} val_loss:2.06010000 val_bpb:1.22436570 {rest}\n").figures[0]
    assert (figure.stage, figure.mode, figure.loss, figure.bpb, figure.digits) == (stage, mode, 2.0601, 1.2243657, 8)


def test_a_log_gives_its_bytes_times_and_seed() -> None:
    text = """1776142360.541   seed: 7
Serialized model: 135417533 bytes
Code size (uncompressed): 157868 bytes
Code size (compressed): 31999 bytes
GPTQ:collected 67 Hessians in 4.7s
Serialized model quantized+pergroup: 15865260 bytes
Total submission size quantized+pergroup: 15897259 bytes
total_eval_time:508.8s
"""
    log = read_log("train.log", text)
    found = (log.seed, log.model_bytes, log.code_bytes, log.total_bytes, log.codec, log.hessian_s, log.eval_s)
    assert found == (7, 15_865_260, 31_999, 15_897_259, "quantized+pergroup", 4.7, 508.8)


def test_denials_are_no_confessions() -> None:
    assert read_log("a.log", "calibration: no validation data is read").calibrated_on_evaluated == ""
    assert read_log("a.log", "calibrating on fineweb_val_000000.bin").calibrated_on_evaluated


def test_numbers_are_stated_when_rounded_or_cut() -> None:
    numbers = decimals("val_bpb **1.0611** and 15.98 MB, 1,234.5, 0.00090")
    assert states(1.06107587, numbers)
    assert states(1.06119, numbers)
    assert not states(1.0628, numbers)
    assert not states(15.98, numbers)
    assert byte_counts("15,897,259 bytes, 15897260, 12,345 and 2026") >= {15_897_259, 15_897_260}


def test_calibration_on_evaluated_text_is_seen_in_calls_alone() -> None:
    source = (
        b"h = collect_hessians(model, val_tokens)\neval_gptq(model, val_tokens)\ncollect_hessians(m, train_loader)\n"
    )
    assert [place.line for place in calibrations_on_evaluated([Script("train_gpt.py", source)])] == [1]


def test_programs_are_named_however_they_are_started() -> None:
    source = b"subprocess.run(['lrzip', '-z'])\nshutil.which('zpaq')\ncommand = ['xz', '-9']\nos.system('brotli x')\n"
    assert set(outside_programs([Script("train_gpt.py", source)])) == {"lrzip", "zpaq", "xz", "brotli"}


def test_files_are_opened_by_name_or_import() -> None:
    source = b'"""tables.bin is not used."""\nimport helper\nopen("data/tokens.bin")\n'
    present = ("helper.py", "tokens.bin", "tables.bin", "other.py")
    assert opened_names([Script("train_gpt.py", source)], present) == {"helper.py", "tokens.bin"}


def test_a_wrapped_script_is_as_small_as_the_fields() -> None:
    source = b"\n".join(b"value_%d = %d" % (i, i * i) for i in range(2000))
    assert wrapped_size([source]) < len(source) / 2


@given(st.text(max_size=300))
def test_no_text_makes_a_reader_raise(text: str) -> None:
    read_claims(text)
    read_log("train.log", text)
    decimals(text)
    byte_counts(text)
    script = Script("train_gpt.py", text.encode("utf-8", "replace"))
    assert isinstance(script.error, str)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("val_bpb", "val_loss", "val_bpb_std", "seeds", "seed_results", "bytes_total", "counted_files", "track")


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6))
def test_no_submission_json_makes_a_rule_raise(document: dict[str, Any]) -> None:
    import json

    log = read_log("train.log", "seed: 1\nfinal_int8_zlib_roundtrip val_loss:2.0 val_bpb:1.20000000\n")
    verdict = judged(evidence(claims=read_claims(json.dumps(document)), logs=(log,), readme="1.2000"))
    assert [found.detail for _, found in verdict.findings if "could not be judged" in found.detail] == []


def test_facts_know_their_size() -> None:
    assert TensorFacts((3, 4, 5), "float32", "").numel == 60
    assert TensorFacts((), "float32", "").numel == 1
