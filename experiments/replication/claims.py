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

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgpack.errors import DataError

from .results import Measures

REPRODUCED, NOT_REPRODUCED, CONFOUNDED = "reproduced", "not reproduced", "confounded"
UNTESTED = "needs full scale"
WRITTEN = ("ours", "std", "seeds", "verdict")
WRITTEN_LINE = re.compile(rf"({'|'.join(WRITTEN)}) = ")
NEEDED = {"id", "text", "source"}
KNOWN = NEEDED | {"theirs", "unit", "measure", "holds", "bound", "tolerance", "control", "needs", "note", *WRITTEN}


@dataclass(frozen=True)
class Claim:
    """One claim of a source; `entry` is its table in claims.toml."""

    entry: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.entry["id"])

    def judge(self, measures: Measures) -> dict[str, Any]:
        """The four written fields. Raises: DataError for a measure that does not exist."""
        if "measure" not in self.entry:
            return {"verdict": UNTESTED}
        if not _passes(self.entry, measures):
            verdict = NOT_REPRODUCED
        elif "control" in self.entry and _passes(self.entry["control"], measures):
            verdict = CONFOUNDED
        else:
            verdict = REPRODUCED
        measured = measures[self.entry["measure"]]
        numbers = {"ours": float(f"{measured.mean:.4g}"), "std": float(f"{measured.std:.2g}")}
        return {**numbers, "seeds": len(measured.values), "verdict": verdict}


def _passes(rule: Mapping[str, Any], measures: Measures) -> bool:
    """Whether the measure of a claim or control is where `rule` wants it, on average and on every seed."""
    measured, bound, tolerance = measures[rule["measure"]], rule["bound"], rule.get("tolerance", 0.0)
    tests: dict[str, Callable[[float], bool]] = {
        "above": lambda value: value > bound,
        "below": lambda value: value < bound,
        "near": lambda value: abs(value - bound) <= tolerance,
    }
    if rule["holds"] not in tests:
        raise DataError(f"holds = {rule['holds']!r}; known: {', '.join(tests)}")
    return all(map(tests[rule["holds"]], (measured.mean, *measured.values)))


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
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not WRITTEN_LINE.match(line)]
    blocks = "\n".join(lines).split("[[claim]]")
    written = [blocks[0]]
    for block in blocks[1:]:
        body = block.rstrip("\n")
        results = "\n".join(f"{key} = {json.dumps(value)}" for key, value in next(verdicts).items())
        written.append(f"{body}\n{results}\n\n")
    path.write_text("[[claim]]".join(written).rstrip("\n") + "\n", encoding="utf-8")
