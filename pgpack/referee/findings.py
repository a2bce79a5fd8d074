"""What a rule says about a folder. A rule never raises and never prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from .evidence import Evidence
from .script import Place

Status = Literal["ok", "fail", "warn", "skip"]
SHOWN = 3  # of a list of faults


@dataclass(frozen=True)
class Finding:
    """`fail` refuses the folder, `warn` is for a reviewer to judge, `skip` says what was not measured and why.

    `places`: the files, with lines where there are any, that the finding is about."""

    status: Status
    detail: str
    places: tuple[Place, ...] = ()


ok = partial(Finding, "ok")
fail = partial(Finding, "fail")
warn = partial(Finding, "warn")
skip = partial(Finding, "skip")


@dataclass(frozen=True)
class Rule:
    """One check: its id, the sentence that must hold, where the rule comes from, and the function that judges it."""

    id: str
    sentence: str
    source: str
    judge: Callable[[Evidence], Finding]


def cited(status: Status, intro: str, places: Iterable[Place], outro: str = "") -> Finding:
    """A finding about places: the first few in its sentence, all of them with it."""
    found = tuple(places)
    return Finding(status, f"{intro}{listed(found)}{outro}", found)


def listed(items: Iterable[object], separator: str = "; ") -> str:
    """The first few items, and how many more there are."""
    found = [str(item) for item in items]
    more = f"{separator}and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return separator.join(found[:SHOWN]) + more
