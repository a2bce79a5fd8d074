"""What a training log says: losses with the way they were measured, bytes, times. Read as text, line by line.

Knows the lines that the public scripts write; a line that it does not know says nothing.
Source of the line formats: openai/parameter-golf train_gpt.py and the logs of its record folders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .folder import seed_of

TRAINING, BEFORE, AFTER = "training", "before quantization", "after quantization"
PLAIN, SLIDING, TTT = "plain", "sliding", "test-time training"
_LOSS = re.compile(
    r"^(?:\d+\s+)?(?P<label>.{0,120}?)\s*(?:sliding )?val_loss[:=]\s*(?P<loss>\d+\.\d+)\s+"
    r"(?:sliding )?val_bpb[:=]\s*(?P<bpb>\d+\.\d+)(?P<rest>.{0,200})"
)
_MODEL = re.compile(r"Serialized model (?P<label>\S+?):\s*(?P<n>\d+) bytes")
_TOTAL = re.compile(r"Total submission(?: size)?(?: (?P<label>\S+?))?:\s*(?P<n>\d+) bytes")
_CODE = re.compile(r"Code size(?P<label>[^:]{0,40}):\s*(?P<n>\d+) bytes")
_STOP = re.compile(r"train_time:\s*(?P<ms>\d+)ms")
_HESSIANS = re.compile(r"ollected (?:\d+ )?[Hh]essians?[^\n]{0,40}? in (?P<s>\d+(?:\.\d+)?)\s?s")
_EVAL = re.compile(r"total_eval_time:\s*(?P<s>\d+(?:\.\d+)?)\s?s")
_TOKENS = re.compile(r"(?:val_tokens:?|val_loader:.{0,200}tokens:)\s*(?P<n>\d{4,12})")
_CALIBRATION = re.compile(r"calibrat\w*|hessians?", re.I)
_EVALUATED = re.compile(r"fineweb_val|val_tokens|val_data|validation (?:text|tokens|data|set|shard)", re.I)
_DENIED = re.compile(r"\b(?:no|not|never|without)\b", re.I)
_SEED = re.compile(r"^[\d.\s]*seed\s*[:=]\s*(?P<n>\d{1,9})\b")
LINE = 400  # characters of a line that are looked at


@dataclass(frozen=True)
class Figure:
    """One measured loss. `stage` and `mode` as the constants above; `digits` of the printed bpb."""

    label: str
    stage: str
    mode: str
    loss: float
    bpb: float
    digits: int


@dataclass(frozen=True)
class Log:
    """One log. Units: bytes, seconds; None where it does not say. `codec`: label of the packed model's line."""

    name: str
    seed: int | None
    figures: tuple[Figure, ...] = ()
    model_bytes: int | None = None
    code_bytes: int | None = None
    total_bytes: int | None = None
    codec: str = ""
    train_s: float | None = None
    hessian_s: float | None = None
    eval_s: float | None = None
    val_tokens: int | None = None
    calibrated_on_evaluated: str = ""

    def at(self, stage: str) -> tuple[Figure, ...]:
        return tuple(figure for figure in self.figures if figure.stage == stage)

    @property
    def final(self) -> Figure | None:
        """The last figure that was measured on packed weights: what a script reports as its result."""
        return next(iter(reversed(self.at(AFTER))), None)


def read_log(name: str, text: str) -> Log:
    """The log in `text`."""
    lines = [line[:LINE] for line in text.splitlines()]
    confessions = (s for s in lines if _CALIBRATION.search(s) and _EVALUATED.search(s) and not _DENIED.search(s))
    trained = _last(_STOP, lines)
    return Log(
        name,
        seed_of(name) if seed_of(name) is not None else _whole(_last(_SEED, lines)),
        tuple(figure for line in lines if (figure := _figure(line))),
        _whole(_last(_MODEL, lines)),
        _code(lines),
        _whole(_last(_TOTAL, lines)),
        found["label"] if (found := _last(_MODEL, lines)) else "",
        None if trained is None else int(trained["ms"]) / 1000,
        _seconds(_last(_HESSIANS, lines)),
        _seconds(_last(_EVAL, lines)),
        _whole(_last(_TOKENS, lines)),
        next(confessions, "").strip(),
    )


def _figure(line: str) -> Figure | None:
    found = _LOSS.match(line)
    if not found:
        return None
    label, rest = found["label"].strip(), found["rest"]
    digits = len(found["bpb"].partition(".")[2])
    return Figure(label, stage_of(label), mode_of(label, rest), float(found["loss"]), float(found["bpb"]), digits)


def stage_of(label: str) -> str:
    """When a figure was measured, from the words before it."""
    words = label.lower()
    if not words or re.match(r"(step:?\s*)?\d+/\d+", words):
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


def _code(lines: list[str]) -> int | None:
    """The code bytes that the script counted: the compressed ones where it prints both."""
    found = [matched for line in lines if (matched := _CODE.search(line))]
    compressed = [matched for matched in found if re.search(r"(?<!un)compressed", matched["label"])]
    kept = compressed or found
    return _whole(kept[-1]) if kept else None


def _last(pattern: re.Pattern[str], lines: list[str]) -> re.Match[str] | None:
    return next((found for line in reversed(lines) if (found := pattern.search(line))), None)


def _whole(found: re.Match[str] | None) -> int | None:
    return None if found is None else int(found["n"])


def _seconds(found: re.Match[str] | None) -> float | None:
    return None if found is None else float(found["s"])
