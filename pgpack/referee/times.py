"""Spans of time as logs write them: 596012ms, 596.0 s, 9m56s, 9.9 min, 1.5 h, 0:09:56, and `eval_seconds=596`."""

from __future__ import annotations

import re
from collections.abc import Mapping

_AMOUNT = r"(?:\d{1,3}(?:,\d{3}){1,3}|\d{1,9})(?:\.\d{1,6})?"
SPAN = (
    rf"(?:(?P<hh>\d{{1,2}}):(?P<mm>[0-5]\d):(?P<ss>[0-5]\d(?:\.\d{{1,6}})?)|(?P<ms>{_AMOUNT})\s?(?:ms|millisec\w*)|"
    rf"(?:(?P<h>\d{{1,3}})\s?h\w*\s{{0,2}})?(?:(?P<m>\d{{1,5}})\s?m(?:in\w*)?\s{{0,2}})?(?P<s>{_AMOUNT})\s?s(?:ec\w*)?|"
    rf"(?P<min>{_AMOUNT})\s?m(?:in\w*)?|(?P<hours>{_AMOUNT})\s?h(?:ours?|rs?)?)\b"
)
_UNITS = {"ms": 0.001, "min": 60, "h": 3600, "hours": 3600, "m": 60, "s": 1, "hh": 3600, "mm": 60, "ss": 1}
_WHAT = r"(?:legal_)?(?:eval\w*|ttt\w*|test[- ]time training|sliding\w*|scor\w*|inference|validation)"
_KEY = rf"\b(?:{_WHAT}[ _](?:time|wall\w*|duration|took)|elapsed|took|duration|(?:done|finished|completed) in)"
_IS = r"['\"]?\s{0,3}(?:[:=]\s{0,3}|\bof\s)?"
_TOOK = re.compile(rf"{_KEY}{_IS}{SPAN}", re.I)
_BARE = re.compile(
    rf"\b(?:(?:{_WHAT}[ _])?(?:time|elapsed|took|duration|wall\w{{0,6}})|{_WHAT})_(?P<unit>ms|s|secs?|seconds)"
    rf"{_IS}(?P<n>{_AMOUNT})\b",
    re.I,
)
_EVALUATES = re.compile(rf"(?<![a-z]){_WHAT}\b", re.I)
_OTHER = re.compile(
    r"train(?:ing)?[_ ](?:time|took|done)|calibrat|hessian|gptq|\bquanti|warm|compil|\bchunk|\bstep|load", re.I
)


_PART = re.compile(
    r"(?P<what>(?<![a-z])(?:part|phase|stage|shard|segment|split|section|pass|piece)s?)[ _#:.-]{0,2}"
    r"(?P<n>\d{1,4})(?:\s?(?:/|of)\s?(?P<of>\d{1,4}))?|"
    r"(?<![a-z])(?P<word>(?:first|second|third|last) (?:half|third|part|quarter)|scor(?:e|ing)|adapt(?:ing|ation)?|"
    r"learn(?:ing)?|updat(?:e|ing))(?![a-z])", re.I,
)  # fmt: skip
_AT_ONCE = re.compile(r"\b(?:rank|gpu|device|worker|process|node|proc)s?\b", re.I)  # what runs beside each other


COUNTED_ON = 0.75  # of the last one: the first of times since the start is less


def seconds_of(found: re.Match[str]) -> float:
    """Seconds of a match of `SPAN`."""
    return sum(float((found[name] or "0").replace(",", "")) * unit for name, unit in _UNITS.items())


def took(text: str) -> float | None:
    """Seconds that a line says something took, None when it does not say."""
    if (found := _TOOK.search(text)) is not None:
        return seconds_of(found)
    if (found := _BARE.search(text)) is None:
        return None
    return float(found["n"].replace(",", "")) / (1000 if found["unit"].lower() == "ms" else 1)


def evaluation_took(text: str) -> float | None:
    """As `took`, of a line that speaks of an evaluation and of no other part of the run."""
    return took(text) if _EVALUATES.search(text) and not _OTHER.search(text) else None


def part_of(text: str) -> tuple[str, str] | None:
    """(evaluation, which part of it) of a line that gives the time of a part: ('eval part #/3', '1')."""
    found = _PART.search(text)
    if found is None or _AT_ONCE.search(text) or evaluation_took(text) is None:
        return None
    behind = re.split(r"\d", text[found.end() :], maxsplit=1)[0] if found["n"] else ""
    whole = f"{text[: found.start()]}{found['what'] or ''} # {found['of'] or ''}{behind if found['n'] else ''}"
    return re.sub(r"\d+", "#", whole.lower()) + (found["of"] or ""), (found["n"] or found["word"]).lower()


def sum_of_parts(parts: Mapping[str, float], evaluation: str) -> tuple[float, bool]:
    """(seconds of an evaluation, whether its parts are known to be all of them); 0 of times that are counted on."""
    seconds = [*parts.values()]
    counts_on = seconds == sorted(seconds) and seconds[0] < COUNTED_ON * seconds[-1]
    if len(seconds) < 2 or counts_on:
        return 0.0, False
    return sum(seconds), evaluation.endswith(f"{len(seconds)}")
