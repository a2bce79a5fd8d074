"""Rules about the score: measured again, on the bytes of the text, by a model that does not peek."""

from __future__ import annotations

from collections.abc import Callable

from .ahead import takes_from_ahead
from .altered import altered_losses
from .attention import sees_ahead
from .better import better_of_two
from .check_claims import claimed_mode
from .evidence import Evidence
from .findings import Finding, cited, fail, ok, skip, warn
from .hashed import looked_up_by_target
from .mixing import mixes_ahead
from .reach import given_targets, in_order, learned_too_far, rescored
from .scored_text import learned_before_scored, scored_after_learning
from .scoring import Answer, Scores
from .script import Place
from .shares import shares_beyond_one

NO_TEXT = "no model and text were given (--val, --tokenizer, --model)"
AGREES = 5e-4  # bits per byte: bf16 on the target against fp32 here


def loss_measured(evidence: Evidence) -> Finding:
    """The loss of the decoded weights here against the claimed one."""
    scores = evidence.scores
    if scores is None or scores.bpb is None:
        return skip(scores.fault if scores and scores.fault else NO_TEXT)
    said = f"{scores.bpb:.6f} bits per byte ({scores.mode}) on {scores.n_tokens:,} tokens"
    row = evidence.claims.results.get(-1 if scores.seed is None else scores.seed)
    claimed = row.bpb if row is not None else evidence.claims.bpb
    if claimed is None:
        return warn(f"{said}; nothing is claimed")
    difference = scores.bpb - claimed
    if unlike := _unlike(evidence, scores, claimed):
        return warn(f"{said}; the claimed {claimed:g} is not comparable: {unlike}")
    if abs(difference) <= AGREES:
        return ok(f"{said}, claimed {claimed:g}")
    if not scores.whole:
        return warn(f"{said}, claimed {claimed:g}: only a part of the text was measured")
    return fail(f"{said}, claimed {claimed:g}: off by {difference:+.6f}")


def _unlike(evidence: Evidence, scores: Scores, claimed: float) -> str:
    """Why a claimed loss is not of the same text or way to measure, '' when nothing says so."""
    logged = next((log.val_tokens for log in evidence.own_logs if log.val_tokens), None)
    if logged is not None and logged != scores.n_tokens:
        return f"its log names {logged:,} tokens"
    mode = claimed_mode(evidence, claimed)
    return f"it is {mode} in its log" if mode not in ("", scores.mode) else ""


def bytes_recounted(evidence: Evidence) -> Finding:
    scores = evidence.scores
    if scores is None or scores.text_bytes is None or scores.decoded_bytes is None:
        return skip(NO_TEXT)
    if scores.text_bytes != scores.decoded_bytes:
        off = scores.text_bytes / scores.decoded_bytes - 1
        return fail(
            f"the tables count {scores.text_bytes:,} bytes, the decoded text {scores.decoded_bytes:,} ({off:+.2%})"
        )
    return ok(f"{scores.text_bytes:,} bytes by the tables and in the decoded text")


def answered(name: str, otherwise: str = NO_TEXT) -> Callable[[Evidence], Finding]:
    """The rule that the test called `name` was passed; skipped with `otherwise` where it was not run."""

    def judge(evidence: Evidence) -> Finding:
        answer: Answer | None = getattr(evidence.scores, name, None)
        if answer is None:
            return skip(otherwise)
        return ok(answer.detail) if answer.ok else fail(answer.detail)

    return judge


_causal, _normalized = answered("causal"), answered("normalized")
_score_first = answered("score_first", "no test-time training (--scorer FILE.py:score)")


def score_first(evidence: Evidence) -> Finding:
    """By the scorer where one was given, else by the order in which the script learns and scores."""
    answer = _score_first(evidence)
    if answer.status != "skip":
        return answer
    known = in_order(evidence.scripts, evidence.given)
    early = [*learned_before_scored(evidence.scripts, evidence.given, known)]
    early += [
        *learned_too_far(evidence.scripts, evidence.given),
        *rescored(evidence.scripts, evidence.given),
        *scored_after_learning(evidence.scripts, evidence.given),
    ]
    return cited("warn", "it looks as if a text was learned before it was scored: ", early) if early else answer


def causal(evidence: Evidence) -> Finding:
    """By the model where one was given, else by whether attention looks ahead and what targets are compared with."""
    answer = _causal(evidence)
    found: list[Place] = []
    if answer.status == "skip":
        found += [*sees_ahead(evidence.scripts), *takes_from_ahead(evidence.scripts), *mixes_ahead(evidence.scripts)]
        found += given_targets(evidence.scripts, evidence.given)
    return (
        cited("warn", "it looks as if a loss depends on its target or on what follows: ", found) if found else answer
    )


def normalized(evidence: Evidence) -> Finding:
    """By the scorer where one was given, else by whether the script takes the better of two losses, looks a
    target up by its hash or makes a loss less than it is."""
    answer = _normalized(evidence)
    found = [] if answer.status != "skip" else [*better_of_two(evidence.scripts)]
    if answer.status == "skip":
        found += [*looked_up_by_target(evidence.scripts), *altered_losses(evidence.scripts)]
        found += shares_beyond_one(evidence.scripts, evidence.given)
    return cited("warn", "it looks as if losses are of no distribution: ", found) if found else answer


calibration_apart = answered("calibration", "no calibration text was given (--calib)")
documents_apart = answered("documents", "documents are not said to be apart (--documents)")
