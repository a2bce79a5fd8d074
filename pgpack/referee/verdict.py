"""The verdict over a folder, as a value, as a checklist to paste into a review, and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .collecting import collect
from .evidence import Evidence, Options
from .findings import Finding, Rule, fail
from .scoring import Scores
from .table import all_rules, rule_of

BOXES = {"ok": "[x]", "fail": "[ ]", "warn": "[ ]", "skip": "[ ]"}  # a tick is for what was seen to hold
SCHEMA = 1  # of the document; a key that changes its meaning raises it
WORDS = {"ok": "", "fail": "**FAIL** ", "warn": "*warning* ", "skip": "*not measured* "}


@dataclass(frozen=True)
class Verdict:
    """The finding of every rule in the order of the table, and the evidence that it rests on."""

    findings: tuple[tuple[Rule, Finding], ...]
    evidence: Evidence
    strict: bool = False

    @property
    def ok(self) -> bool:
        """No rule failed; under `strict` no warning either."""
        return not self.of("fail") and not (self.strict and self.of("warn"))

    def of(self, status: str) -> tuple[tuple[Rule, Finding], ...]:
        return tuple((rule, found) for rule, found in self.findings if found.status == status)

    def __getitem__(self, rule_id: str) -> Finding:
        return next(found for rule, found in self.findings if rule.id == rule_id)


def judge(
    path: Path, options: Options | None = None, scores: Scores | None = None, *, strict: bool = False
) -> Verdict:
    """The verdict over the folder at `path`. Raises DataError when it is no folder."""
    return judged(collect(path, options or Options(), scores), strict=strict)


def judged(evidence: Evidence, *, strict: bool = False, only: Collection[str] = ()) -> Verdict:
    """Every rule, those of other packages included, or `only` those of these ids, applied to the evidence.

    Raises SettingError for an id that no rule has.
    """
    rules = [rule_of(name) for name in only] or all_rules()
    return Verdict(tuple((rule, _judge(rule, evidence)) for rule in rules), evidence, strict)


def _judge(rule: Rule, evidence: Evidence) -> Finding:
    """A rule over evidence that a hostile folder shaped; what no rule foresaw refuses the folder (a bug of ours)."""
    try:
        return rule.judge(evidence)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
        return fail(f"the rule could not be judged ({type(error).__name__}: {error}); report this folder")


def checklist(verdict: Verdict) -> str:
    """Markdown: one box per rule, failures in bold, and the sum of it."""
    lines = [f"### pgpack verify: {'accepted' if verdict.ok else 'REFUSED'}", ""]
    for rule, found in verdict.findings:
        box = BOXES[found.status]
        lines.append(f"- {box} {WORDS[found.status]}{rule.sentence} ({rule.source}): {_plain(found.detail)}")
    return "\n".join([*lines, "", summary(verdict)])


def summary(verdict: Verdict) -> str:
    """How many rules hold, fail, warn and were not measured."""
    counts = {status: len(verdict.of(status)) for status in ("ok", "fail", "warn", "skip")}
    return (
        f"{counts['ok']} hold, {counts['fail']} fail, {counts['warn']} warn, {counts['skip']} not measured: "
        f"{verdict.evidence.folder.path.absolute().name}"
    )


def _plain(text: str) -> str:
    """A detail on one line, without characters that end a list item or start markup of their own."""
    return " ".join(text.replace("`", "'").replace("<", "&lt;").split())


def as_document(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON values."""
    evidence = verdict.evidence
    return {
        "schema": SCHEMA,
        "folder": str(evidence.folder.path),
        "ok": verdict.ok,
        "counts": {status: len(verdict.of(status)) for status in WORDS},
        "checklist": checklist(verdict),
        "cap": evidence.options.cap,
        "counted_files": dict(evidence.counted),
        "bytes_code": evidence.code_conventions,
        "artifacts": [_artifact_row(evidence, index) for index in range(len(evidence.decoded))],
        "checks": [
            {
                "id": rule.id,
                "status": found.status,
                "sentence": rule.sentence,
                "source": rule.source,
                "detail": found.detail,
                "places": [
                    {"file": place.file, "line": place.line, "layer": place.layer, "what": place.what}
                    for place in found.places
                ],
            }
            for rule, found in verdict.findings
        ],
    }


def _artifact_row(evidence: Evidence, index: int) -> Mapping[str, Any]:
    decoded = evidence.decoded[index]
    n = decoded.entry.n_bytes
    answer = decoded.first.value if isinstance(decoded.first.value, dict) else {}
    return {
        "file": decoded.entry.name,
        "kind": answer.get("kind"),
        "weights_digest": answer.get("digest"),
        "bytes_model": n,
        "bytes_total": {name: n + code for name, code in evidence.code_conventions.items()},
        "margin": evidence.options.cap - n - evidence.code_bytes,
        "decode_s": decoded.first.seconds,
        "peak_bytes": decoded.first.peak_bytes,
        "network": decoded.first.network,
    }
