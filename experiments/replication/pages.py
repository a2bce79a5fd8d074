"""Generated parts of the README files: everything between `<!-- name: begin -->` and `<!-- name: end -->`.

Owns the verdict table of a study, the summary table of all studies, and how a block is replaced. Tests compare the
blocks with what the results say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pgpack.errors import DataError

from .claims import UNTESTED, Claim, read_claims

EXPERIMENTS = Path(__file__).resolve().parents[1]
ROOT = EXPERIMENTS.parent
STUDIES = ("tied_embedding", "prism", "negative_findings", "ebls", "rate_distortion")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> str:
    """A table; columns whose letter in `right` is r are aligned right."""
    rule = ["---:" if index < len(right) and right[index] == "r" else "---" for index in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def block(path: Path, name: str) -> str:
    """What stands between the markers. Raises: DataError when the file has no such markers."""
    return _around(path, name)[1]


def fill(path: Path, name: str, content: str) -> None:
    """Replace what stands between the markers."""
    before, _, after = _around(path, name)
    path.write_text(before + content + after, encoding="utf-8")


def _around(path: Path, name: str) -> tuple[str, str, str]:
    """(all up to the block, the block, all from its end on)."""
    begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    inside, closed, after = rest.partition(end)
    if not found or not closed:  # also when no line stands between them
        raise DataError(
            f"{path} has no block {name}; add '{begin.strip()}' and '{end.strip()}' on lines of their own, "
            "an empty one between them"
        )
    return before + begin, inside, end + after


def verdict_table(claims: Iterable[Claim]) -> str:
    """The README table of a study."""
    header = ("claim", "source", "theirs", "ours", "holds if", "verdict")
    return markdown_table(header, (_row(claim) for claim in claims), "llrrll")


def summary_table() -> str:
    """The table of experiments/README.md: all studies that have results."""
    header = ("study", "claim", "theirs", "ours", "verdict", "command")
    rows = []
    for study in STUDIES:
        path = EXPERIMENTS / study / "claims.toml"
        for claim in read_claims(path) if path.is_file() else ():
            text, _, theirs, ours, _, verdict = _row(claim)
            command = claim.entry.get("needs", f"`make reproduce-{study.replace('_', '-')}`")
            rows.append((f"[{study}]({study}/README.md)", text, theirs, ours, verdict.partition(":")[0], command))
    return markdown_table(header, rows, "llrrll")


def publish(folder: Path, blocks: Mapping[str, str]) -> None:
    """Write the blocks and the verdict table of the study in `folder`, and the summary of all."""
    for name, content in {**blocks, "verdicts": verdict_table(read_claims(folder / "claims.toml"))}.items():
        fill(folder / "README.md", name, content)
    fill(EXPERIMENTS / "README.md", "summary", summary_table())


def _row(claim: Claim) -> tuple[str, ...]:
    entry = claim.entry
    unit = f" {entry['unit']}" if "unit" in entry else ""
    theirs = f"{entry['theirs']}{unit}" if "theirs" in entry else ""
    ours = f"{entry['ours']:g} ± {entry['std']:g} ({entry['seeds']}){unit}" if "ours" in entry else ""
    return entry["text"], entry["source"], theirs, ours, _rule(entry), _verdict(entry)


def _rule(entry: dict[str, Any]) -> str:
    if "measure" not in entry:
        return ""
    if entry["holds"] == "near":
        return f"{entry['bound']:g} ± {entry['tolerance']:g}"
    return f"{'>' if entry['holds'] == 'above' else '<'} {entry['bound']:g}"


def _verdict(entry: dict[str, Any]) -> str:
    """The verdict with what it rests on: the control of a confounded claim, a note, or what is needed to test it."""
    verdict = str(entry.get("verdict", "not yet measured"))
    reasons = [entry["needs"]] if verdict == UNTESTED else []
    if "control" in entry and verdict == "confounded":
        reasons.append(entry["control"].get("says", entry["control"]["measure"]))
    if "note" in entry:
        reasons.append(entry["note"])
    return f"**{verdict}**: {'; '.join(reasons)}" if reasons else f"**{verdict}**"
