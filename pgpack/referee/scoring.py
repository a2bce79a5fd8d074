"""Does a model predict, or does it peek? Black-box tests of a scorer on short texts, with floats compared as floats.

    logits(ids (T,)) -> (T, V)          what a fixed model predicts after each token
    score(ids (n,)) -> nats (n - 1,)    the loss of every target as an evaluation reports it, with its learning

Changing token t may change what is predicted after it, never the loss of an earlier target (C1); probabilities of all
continuations sum to 1 (C2); under `score` that sum stays 1 when each candidate is really put in place of the target,
which fails for a scorer that learns from a target before it scores it (C3). Source: rules C1 to C4 of issue #1017 of
openai/parameter-golf; the document test is the audit of SmearGate in PR #1797.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = Callable[[NDArray[np.int64]], NDArray[np.floating]]
Score = Callable[[NDArray[np.int64]], NDArray[np.floating]]
UNMOVED = 1e-5  # nats; the same computation on the same shapes, one token apart
SAME = 1e-3  # nats; the same model by other kernels and batch shapes
SUM = 1e-3  # of probabilities in float32


@dataclass(frozen=True)
class Answer:
    """What a test found: whether the law held, and the worst case in words."""

    ok: bool
    detail: str


@dataclass(frozen=True)
class Scores:
    """What was measured with model and text; None for what was not. Units: `bpb` bits per byte, `nats` per token.

    `text_bytes` by the tables that an evaluation divides by, `decoded_bytes` by decoding the same tokens; `mode`: how
    the loss was measured, in the words of `logs`; `seed`: that of the model; `whole`:
    no limit on tokens was set; `fault`: why nothing was measured.
    """

    bpb: float | None = None
    nats: float | None = None
    mode: str = "plain"
    n_tokens: int = 0
    text_bytes: int | None = None
    decoded_bytes: int | None = None
    causal: Answer | None = None
    normalized: Answer | None = None
    score_first: Answer | None = None
    documents: Answer | None = None
    calibration: Answer | None = None
    seed: int | None = None
    whole: bool = True
    fault: str = ""


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Shape: (..., V) -> (..., V)."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def softmax_losses(logits: Logits, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """The losses of a model that does not learn. Shape: (n - 1,)."""
    found: NDArray[np.float64] = -log_softmax(np.asarray(logits(ids[:-1])))[np.arange(len(ids) - 1), ids[1:]]
    return found


def flip_test(score: Score, ids: NDArray[np.int64], vocab_size: int, seed: int = 0, flips: int = 8) -> Answer:
    """Tokens changed one at a time: every earlier loss must stay as it was."""
    rng = np.random.default_rng(seed)
    before = np.asarray(score(ids), dtype=np.float64)
    if before.shape != (len(ids) - 1,) or not np.isfinite(before).all():
        return Answer(False, f"the scorer gave {before.shape} losses for {len(ids) - 1} targets, or not finite ones")
    positions = np.unique(np.append(rng.integers(2, len(ids), flips - 1), len(ids) - 1))
    for t in positions:
        changed = ids.copy()
        changed[t] = (ids[t] + 1 + rng.integers(0, vocab_size - 1)) % vocab_size
        after = np.asarray(score(changed), dtype=np.float64)
        difference = np.abs(after[: t - 1] - before[: t - 1])
        if difference.size and not difference.max() <= UNMOVED:
            p = int(difference.argmax()) + 1
            return Answer(
                False, f"changing token {t} changes the loss of the earlier token {p} by {difference.max():.3g} nats"
            )
    return Answer(
        True, f"{len(positions)} tokens changed one at a time; no earlier loss moved by more than {UNMOVED:g} nats"
    )


def normalization_test(logits: Logits, score: Score, ids: NDArray[np.int64]) -> Answer:
    """The scorer's losses are those of a softmax over the whole vocabulary."""
    expected = softmax_losses(logits, ids)
    found = np.asarray(score(ids), dtype=np.float64)
    worst = float(np.abs(found - expected).max())
    if not worst <= SAME:
        return Answer(False, f"a reported loss differs by {worst:.3g} nats from the softmax over the vocabulary")
    return Answer(True, f"{len(expected)} losses are those of a full softmax, off by at most {worst:.1e} nats")


def candidate_test(score: Score, ids: NDArray[np.int64], vocab_size: int, candidates: int = 4096) -> Answer:
    """exp(-loss) of one target, summed over everything that it could be: 1 for a predictor, more for a peeker.

    The target lies in the first third, so that a scorer that learns has text left to learn from. With more than
    `candidates` tokens a part of them is tried; their sum may not pass 1 either way. A scorer that trains on the
    target before it scores it makes every candidate likely, so the sum grows beyond 1.
    """
    tried = np.arange(vocab_size) if vocab_size <= candidates else _spread(vocab_size, candidates)
    target, total = len(ids) // 3, 0.0
    changed = ids.copy()
    for token in tried:
        changed[target] = token
        total += float(np.exp(-np.float64(np.asarray(score(changed))[target - 1])))
    whole = len(tried) == vocab_size
    said = f"the probabilities of {len(tried):,} candidates for one target sum to {total:.6f}"
    if total > 1 + SUM or (whole and total < 1 - SUM):
        return Answer(False, f"{said}; a score that is fixed before its token is used sums to 1")
    return Answer(True, said)


def _spread(vocab_size: int, candidates: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, vocab_size - 1, candidates).astype(np.int64))


def document_test(score: Score, ids: NDArray[np.int64], boundary: int, vocab_size: int, seed: int = 0) -> Answer:
    """A token of one document changed: no loss of the next document (from `boundary` + 1 on) may move.

    `boundary`: position of the token that opens the second document; the loss of that token itself may move.
    """
    rng = np.random.default_rng(seed)
    before = np.asarray(score(ids), dtype=np.float64)
    for t in (boundary - 1, boundary // 2):
        changed = ids.copy()
        changed[t] = (ids[t] + 1 + rng.integers(0, vocab_size - 1)) % vocab_size
        difference = np.abs(np.asarray(score(changed), dtype=np.float64) - before)[boundary:]
        if difference.size and not difference.max() <= UNMOVED:
            p = boundary + int(difference.argmax()) + 1
            return Answer(
                False,
                f"changing token {t} of one document changes the loss of token {p} of the next by "
                f"{difference.max():.3g} nats: something leaks across the boundary",
            )
    return Answer(True, "changing a document changes no loss of the next one")
