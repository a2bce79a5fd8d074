"""Claims and verdicts: `claims.toml` and `results/measures.json` -> reproduced, not reproduced, confounded.

    [[claim]]
    id = "v-shape"
    text = "The strongest block contributes 3.66 times as much as the weakest"
    source = "#1546, first table"
    theirs = 3.66                          # left out where the source gives no number
    unit = "max / min"
    measure = "baseline.contribution_ratio"
    holds = "above"                        # above, below: of `bound`; near: within `tolerance` of it
    bound = 1.5                            # what must be beaten for the claim to hold at our scale
    control = { measure = "start.contribution_ratio", holds = "above", bound = 1.5, says = "so it is at the start" }
    ours = 2.1                             # these four lines are written by `record`, never by hand
    std = 0.2
    seeds = 3
    verdict = "confounded"

A claim holds when it does on average and on every seed. A claim that holds, and whose control holds as well, is
confounded: the effect is there without its alleged cause. Without `measure` a claim says in `needs` what it takes.
Owns `Claim` and the rule of verdicts; nothing here is a judgement by hand.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgpack.errors import DataError

from .measures import Measured, Measures

REPRODUCED, NOT_REPRODUCED, CONFOUNDED = "reproduced", "not reproduced", "confounded"
UNTESTED = "needs full scale"
WRITTEN = ("ours", "std", "seeds", "verdict")
NEEDED = {"id", "text", "source"}
KNOWN = NEEDED | {"theirs", "unit", "measure", "holds", "bound", "tolerance", "control", "needs", "note", *WRITTEN}


@dataclass(frozen=True)
class Test:
    """When a measured quantity says yes."""

    measure: str
    holds: str
    bound: float
    tolerance: float = 0.0

    def passes(self, measured: Measured) -> bool:
        return all(self._is_met(value) for value in (measured.mean, *measured.values))

    def _is_met(self, value: float) -> bool:
        if self.holds == "near":
            return abs(value - self.bound) <= self.tolerance
        return value > self.bound if self.holds == "above" else value < self.bound


@dataclass(frozen=True)
class Claim:
    """One claim of a source; `entry` is its table in claims.toml."""

    entry: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.entry["id"])

    @property
    def test(self) -> Test | None:
        return _test(self.entry) if "measure" in self.entry else None

    @property
    def control(self) -> Test | None:
        return _test(self.entry["control"]) if "control" in self.entry else None

    def judge(self, measures: Measures) -> dict[str, Any]:
        """The four written fields. Raises: DataError for a measure that does not exist."""
        if self.test is None:
            return {"verdict": UNTESTED}
        measured = measures[self.test.measure]
        if not self.test.passes(measured):
            verdict = NOT_REPRODUCED
        elif self.control is not None and self.control.passes(measures[self.control.measure]):
            verdict = CONFOUNDED
        else:
            verdict = REPRODUCED
        numbers = {"ours": float(f"{measured.mean:.4g}"), "std": float(f"{measured.std:.2g}")}
        return {**numbers, "seeds": len(measured.values), "verdict": verdict}


def _test(entry: dict[str, Any]) -> Test:
    if entry["holds"] not in ("above", "below", "near"):
        raise DataError(f"holds = {entry['holds']!r}; known: above, below, near")
    return Test(entry["measure"], entry["holds"], entry["bound"], entry.get("tolerance", 0.0))


def read_claims(path: Path) -> list[Claim]:
    """Raises: DataError for a claim without id, text and source, with a field that does not exist, or named twice."""
    claims = [Claim(entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["claim"]]
    for claim in claims:
        if unknown := set(claim.entry) - KNOWN:
            raise DataError(f"{path}: {claim.entry.get('id')} has unknown fields {sorted(unknown)}")
        if not set(claim.entry) >= NEEDED or ("measure" in claim.entry) == ("needs" in claim.entry):
            raise DataError(f"{path}: {claim.entry.get('id')} needs id, text, source, and either measure or needs")
    if len({claim.id for claim in claims}) < len(claims):
        raise DataError(f"{path} names a claim twice")
    return claims


def record(path: Path, measures: Measures) -> None:
    """Write what was measured, and the verdict, into every claim; all other lines stay as they are."""
    verdicts = iter([claim.judge(measures) for claim in read_claims(path)])
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not _is_written(line)]
    blocks = "\n".join(lines).split("[[claim]]")
    written = [blocks[0]]
    for block in blocks[1:]:
        body = block.rstrip("\n")
        results = "\n".join(f"{key} = {_toml(value)}" for key, value in next(verdicts).items())
        written.append(f"{body}\n{results}\n\n")
    path.write_text("[[claim]]".join(written).rstrip("\n") + "\n", encoding="utf-8")


def _is_written(line: str) -> bool:
    return re.match(rf"({'|'.join(WRITTEN)}) = ", line) is not None


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
