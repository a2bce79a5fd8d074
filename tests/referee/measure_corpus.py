"""False acceptances and false refusals on the corpus, per rule: python -m tests.referee.measure_corpus [--names]

With PYTHONPATH naming another checkout's package first, an older referee is measured on the same folders.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pgpack.referee.verdict import judge
from tests.referee.corpus import cases
from tests.referee.folder_case import Case


def outcome(case: Case, folder: Path) -> str:
    """'' when right, else 'false acceptance' or 'false refusal'."""
    verdict = judge(folder)
    status = next((found.status for rule, found in verdict.findings if rule.id == case.rule), "ok")
    if case.verdict in ("accepted", "warned"):
        silent = case.verdict == "warned" and verdict.ok and status != "warn"
        return "false acceptance" if silent else "" if verdict.ok else "false refusal"
    seen = status == "fail" or (case.verdict == "flagged" and status == "warn")
    return "" if seen else "false acceptance"


def main() -> None:
    """One line of a Markdown table per rule."""
    counts: dict[str, Counter[str]] = {}
    started = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        for name, case in cases().items():
            found = outcome(case, case.write(Path(place, name)))
            counts.setdefault(case.rule, Counter()).update(["folders", *([found] if found else [])])
            if found and "--names" in sys.argv:
                print(f"{found}: {name} ({case.rule})", file=sys.stderr)
    print("| rule | folders | false acceptances | false refusals |\n|---|---:|---:|---:|")
    total: Counter[str] = Counter()
    for rule, row in sorted(counts.items()):
        total += row
        print(f"| `{rule}` | {row['folders']} | {row['false acceptance']} | {row['false refusal']} |")
    print(f"| all | {total['folders']} | {total['false acceptance']} | {total['false refusal']} |")
    print(f"{time.process_time() - started:.0f} s of this process", file=sys.stderr)


if __name__ == "__main__":
    main()
