"""Losses in lines of logs: the lines of the public scripts, and whatever puts `bpb` beside a number.

    final_int8_zlib_roundtrip val_loss:2.0601 val_bpb:1.2244      final val_bpb=1.0812, val_nats=2.7892
    {"val_bpb": 1.0812, "val_loss": 2.79}                         bits per byte: 1.0812

Owns when and how a figure was measured, by the words before it; of a line that is JSON, by all its words. A line
that counts steps is of training, unless it says that it is final or of packed weights; `UNCLEAR` where it only says
that it is an evaluation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .times import evaluation_took, took

TRAINING, BEFORE, AFTER = "training", "before quantization", "after quantization"
UNCLEAR = "at a step, maybe before quantization"
PLAIN, SLIDING, TTT = "plain", "sliding", "test-time training"
_LOSS = re.compile(
    r"^(?:\d+\s+)?(?P<label>.{0,120}?)\s*(?:sliding )?val_loss[:=]\s*(?P<loss>\d+\.\d+)\s+"
    r"(?:sliding )?val_bpb[:=]\s*(?P<bpb>\d+\.\d+)(?P<rest>.{0,200})"
)
_BETWEEN = r"['\"*`|]{0,3}\s{0,3}(?:[:=|]\s{0,3}|\bis\b\s|of\s)?['\"*`|]{0,3}\s{0,3}"
_BPB = re.compile(
    rf"(?P<key>[\w/.\-]{{0,60}}bpb\w{{0,12}}|\bbits[ _/-]per[ _-]byte\w{{0,4}})"
    rf"{_BETWEEN}(?P<bpb>\d\.\d{{2,12}})(?!\.?\d)",
    re.I,
)
_NATS = re.compile(
    rf"(?P<key>[\w/.\-]{{0,60}}(?:val|eval|test)\w{{0,20}}(?:loss|nats|nll|ce)\w{{0,12}}|"
    rf"\bnats[ _]per[ _]token\b|\bval[ _]loss\b)"
    rf"{_BETWEEN}(?P<loss>\d{{1,2}}\.\d{{2,12}})(?!\.?\d)", re.I,
)  # fmt: skip
_NOTHING = re.compile(r"bpb['\"]?\s{0,3}[:=]\s{0,3}['\"]?[-+]?(?:nan|inf)", re.I)
_NO_RESULT = re.compile(
    r"delta|diff|gap|gain|improve|target|sota|baseline|prev|best|std|goal|record|threshold|penalty|min_|max_", re.I
)
_OF_ANOTHER = re.compile(r"target|\bsota\b|baseline|\bprev|\bgoal\b|\brecord\b|threshold")
_OTHERS = ("target", "sota", "baseline", "prev", "goal", "record", "threshold")  # one of which it finds
_COUNTS_STEPS = re.compile(r"\b(?:step|iter\w*|epoch)\W{0,3}\d|\d+/\d+")
_PACKED = re.compile(r"final|quanti[sz]|int\d|roundtrip|export|packed|compress|submission|artifact|result")


@dataclass(frozen=True)
class Figure:
    """One measured loss. `stage` and `mode` as the constants above; `digits` and `loss_digits` as they are printed;
    `loss` 0 where only bits per byte are printed; `eval_s`: seconds that the line says it took."""

    label: str
    stage: str
    mode: str
    loss: float
    bpb: float
    digits: int
    line: int = 0
    loss_digits: int = 0
    eval_s: float | None = None


def figures(text: str, line: int) -> Iterator[Figure]:
    """The losses that a line prints."""
    found = _LOSS.match(text) if "val_loss" in text else None
    if found:
        label, rest = found["label"].strip(), found["rest"]
        yield Figure(
            label, stage_of(label), mode_of(label, rest), float(found["loss"]), float(found["bpb"]),
            _digits(found["bpb"]), line, _digits(found["loss"]), _took_after(text, rest),
        )  # fmt: skip
        return
    if "bpb" not in text.lower() and "per" not in text:
        return
    nats = _NATS.search(text)
    for found in _BPB.finditer(text):
        before = text[: found.start()] if nats is None else text[: min(found.start(), nats.start())]
        label = f"{before.strip()[-80:]} {found['key']}".strip()
        if _NO_RESULT.search(label):
            continue
        label = re.sub(r"\b(?:val_)?bpb$", "", label).strip(" :|-[]{}'\"") or "bpb"
        words = label if (said := _said(text)) is None else f"{said} {label}"
        loss, digits = (float(nats["loss"]), _digits(nats["loss"])) if nats else (0.0, 0)
        bpb, stage = found["bpb"], _stage_of_step(words.lower())
        seconds = _took_after(text, text[found.end() :])
        yield Figure(label, stage, mode_of(label, text), loss, float(bpb), _digits(bpb), line, digits, seconds)
        nats = None


def _took_after(text: str, rest: str) -> float | None:
    """Seconds of an evaluation, named behind its loss or else before it."""
    return seconds if (seconds := took(rest)) is not None else evaluation_took(text)


def is_nothing(text: str) -> bool:
    """Whether a line prints a loss that is no number."""
    return bool(_NOTHING.search(text))


def is_of_another(text: str) -> bool:
    """Whether a line speaks of another run's number, or of one that is wished for."""
    words = text.lower()
    return any(word in words for word in _OTHERS) and bool(_OF_ANOTHER.search(words))


def _digits(number: str) -> int:
    return len(number.partition(".")[2])


def _said(text: str) -> str | None:
    """The words of a line that is a JSON object, `step 100` among them, in any order; None of another line."""
    try:
        values = json.loads(text[text.index("{") :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    steps = [f"{key} {value:g}" for key, value in values.items() if isinstance(value, (int, float)) and value]
    return " ".join([*(value for value in values.values() if isinstance(value, str)), *steps])


def _stage_of_step(words: str) -> str:
    """As `stage_of`, of words among which a step may be counted anywhere."""
    if not _COUNTS_STEPS.search(words):
        return stage_of(words)
    if _PACKED.search(words):
        return stage_of(_COUNTS_STEPS.sub(" ", words).strip() or "final")
    return UNCLEAR if re.search(r"\b(?:eval\w*|test|validat\w*)\b", words) else TRAINING


def stage_of(label: str) -> str:
    """When a figure was measured, from the words before it."""
    words = label.lower()
    if not words or re.match(r"\W*(step:?\s*)?\d+/\d+|\W*(?:step|iter\w*|epoch)\b\W{0,3}\d", words):
        return TRAINING
    if re.search(r"pre[-_ ]?quant|post[-_ ]?ema|pre[-_ ]?export|raw|unquantized|fp32|bf16", words):
        return BEFORE
    return AFTER


def mode_of(label: str, rest: str = "") -> str:
    """How a figure was measured, from the words before it and after it."""
    words = f"{label} {rest}".lower()
    if "ttt" in words:
        return TTT
    return SLIDING if "sliding" in words or "stride" in words else PLAIN
