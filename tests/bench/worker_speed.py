"""`make bench-workers`: the wall time of one sweep by one process and by worker processes, which share the cores.

    eight quantizations, an empty cache each --pgpack sweep --jobs 1, 2, ...--> wall seconds, processor seconds

One process uses every core too, through the threads of BLAS and torch, so that workers gain only what those leave
idle. Runs alternate, and the best of each is kept. What the rows say must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pgpack.study.study import Study
from tests.bench.pack_36m import machine
from tests.bench.sweep_cost import Spent, say, spent

SPACE = "role:control=cast; *=gptq(bits={4:7},clip={8,12})|rans"
ROUNDS = 2
Facts = set[tuple[str, int | None, float | None]]


def run(checkpoint: Path, folder: Path, max_tokens: int, jobs: int) -> tuple[Spent, Facts]:
    """One sweep from nothing; what it cost and found."""
    where = ("--out", folder / "study", "--no-cache", "--max-tokens", max_tokens, "--jobs", jobs)
    _, cost = spent("sweep", checkpoint, "--recipe", SPACE, *where)
    return cost, {(trial.recipe, trial.n_bytes, trial.kl) for trial in Study.load(folder / "study").trials}


def measure(checkpoint: Path, max_tokens: int) -> dict[str, Any]:
    """The best round of every number of workers up to the cores. Raises SystemExit where rows differ."""
    counts = range(1, (os.cpu_count() or 1) + 1)
    best: dict[int, Spent] = {}
    facts: list[Facts] = []
    for _ in range(ROUNDS):
        for jobs in counts:
            with tempfile.TemporaryDirectory() as folder:
                cost, found = run(checkpoint, Path(folder), max_tokens, jobs)
            say(f"--jobs {jobs}", cost)
            facts.append(found)
            if jobs not in best or cost.wall_s < best[jobs].wall_s:
                best[jobs] = cost
    if any(found != facts[0] for found in facts):
        raise SystemExit("the rows of different numbers of workers differ")
    return {
        "machine": machine(),
        "checkpoint_n_bytes": checkpoint.stat().st_size,
        "max_tokens": max_tokens,
        "n_recipes": len(facts[0]),
        "rounds": ROUNDS,
        "jobs": {str(jobs): asdict(cost) for jobs, cost in best.items()},
    }


def page(document: dict[str, Any]) -> str:
    """The document for people."""
    host, alone = document["machine"], document["jobs"]["1"]
    lines = [
        "# One process and several",
        "",
        f"`make bench-workers`: {document['n_recipes']} recipes, each another quantization, on a checkpoint of "
        f"{document['checkpoint_n_bytes']:,} B, {document['max_tokens']:,} evaluated tokens, no cache; best of "
        f"{document['rounds']} alternating rounds. {host['cpu']}, {host['cores']} cores, {host['system']}.",
        "",
        "| | wall s | processor s | speed |",
        "|---|---:|---:|---:|",
    ]
    for jobs, cost in document["jobs"].items():
        speed = alone["wall_s"] / cost["wall_s"]
        lines.append(f"| `--jobs {jobs}` | {cost['wall_s']:.1f} | {cost['processor_s']:.1f} | {speed:.2f} x |")
    return "\n".join([*lines, "", "One process has all cores through the threads of its libraries.", ""])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="one sweep by one process and by several")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--max-tokens", type=int, default=32768, help="evaluated tokens")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, required=True)
    given = parser.parse_args()
    document = measure(given.checkpoint, given.max_tokens)
    given.json.write_text(json.dumps(document, indent=1) + "\n")
    given.markdown.write_text(page(document))


if __name__ == "__main__":
    main()
