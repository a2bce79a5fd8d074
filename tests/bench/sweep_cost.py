"""`make bench-sweep`: what a sweep of 100 recipes costs beside 100 packs and evaluations on their own.

    10 quantizer settings x 10 codings --pgpack sweep, an empty cache--------------------> cost of the sweep
                                       --pgpack pack --eval --no-cache, one process each-> cost of a recipe alone

Ten of the hundred are packed alone, chosen so that each quantizer and each coding is among them once. A recipe costs
what its quantizer, its coding and everything else cost, one after the other, so ten times the sum of these ten is the
cost of all hundred. Before anything is compared, bytes, weights and loss of the ten must equal the sweep's rows.
Costs are processor seconds of the process and the programs it starts: other work on the machine hardly changes them.

Measured beside it: a second study of the same recipes; an eleventh coding; and with `--with-file` the same comparison
with a finished calibration file on both sides, so that nothing but packing and evaluating is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.pack_36m import machine

GOAL = 0.15
QUANTIZERS = (
    "gptq(bits=4,clip=8)",
    "gptq(bits=5,clip=10)",
    "gptq(bits=6,clip=12.85)",
    "gptq(bits=6,clip=16)",
    "gptq(bits=7,clip=15)",
    "gptq(bits=8,clip=20)",
    "tcq(step=0.0005,states=8)",
    "tcq(step=0.001,states=8)",
    "sdclip(bits=6,clip=12.85)",
    "rtn(bits=6)",
)
CODINGS = (
    "rans",
    "brotli(quality=11)",
    "zstd(level=19)",
    "zstd(level=22)",
    "lzma(preset=6)",
    "bitpack|zlib(level=9)",
    "zlib(level=9)",
    "bz2(level=9)",
    "brotli(quality=5)",
    "zstd(level=3)",
)
ELEVENTH = "bitplanes|zstd(level=9)"
Document = dict[str, Any]


@dataclass(frozen=True)
class Spent:
    """Units: seconds; `processor_s` with everything that the process started."""

    processor_s: float
    wall_s: float


def recipe(quantizer: str, coding: str) -> str:
    return f"role:control=cast; *={quantizer}|{coding}"


def sample() -> list[str]:
    """One recipe in ten: each quantizer with another coding."""
    return [recipe(quantizer, coding) for quantizer, coding in zip(QUANTIZERS, CODINGS, strict=True)]


def spent(*arguments: object) -> tuple[Document, Spent]:
    """What `pgpack ARGUMENTS --json -q` prints and costs. Raises when it fails."""
    line = [sys.executable, "-m", "pgpack_cli.pgpack_app", *(str(word) for word in arguments), "--json", "-q"]
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        process = subprocess.Popen(line, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, line)
        out.seek(0)
        return json.loads(out.read()), Spent(usage.ru_utime + usage.ru_stime, wall_s)


def total(parts: Sequence[Spent], factor: float = 1.0) -> Spent:
    return Spent(factor * sum(part.processor_s for part in parts), factor * sum(part.wall_s for part in parts))


@dataclass
class Bench:
    """A checkpoint that carries its text, and a folder for everything that is written."""

    checkpoint: Path
    folder: Path
    max_tokens: int

    def sweep(self, study: str, codings: Sequence[str], cache: str, *flags: object) -> Spent:
        """All quantizers under `codings`, into a study."""
        space = self.folder / "space.txt"
        space.write_text("\n".join(recipe(quantizer, coding) for quantizer in QUANTIZERS for coding in codings))
        where = ("--out", self.folder / study, "--cache", self.folder / cache, "--max-tokens", self.max_tokens)
        document, cost = spent("sweep", self.checkpoint, "--space", space, *where, *flags)
        if document["n_failed"]:
            raise SystemExit(f"{document['n_failed']} trials failed: {self.folder / study}")
        say(f"sweep of {len(QUANTIZERS) * len(codings)} recipes into {study}", cost)
        return cost

    def packs(self, study: str, *flags: object) -> list[Spent]:
        """The sample, one process each; every result must equal the study's row."""
        lines = (self.folder / study / "trials.jsonl").read_text().splitlines()
        rows = {row["recipe_digest"]: row for row in map(json.loads, lines)}
        costs = []
        for text in sample():
            where = ("-o", self.folder / "alone.pgpack", "--force", "--max-tokens", self.max_tokens)
            document, cost = spent("pack", self.checkpoint, "--recipe", text, "--eval", "--no-cache", *where, *flags)
            row = rows[document["recipe_digest"]]
            different = [name for name in ("n_bytes", "weights_digest", "bpb", "kl") if row[name] != document[name]]
            if different:
                raise SystemExit(f"{text}: {', '.join(different)} of the sweep differ from those of a pack alone")
            say(text, cost)
            costs.append(cost)
        return costs


def say(what: str, cost: Spent) -> None:
    print(f"{cost.processor_s:8.1f} s processor {cost.wall_s:8.1f} s wall  {what}", file=sys.stderr, flush=True)


def run(bench: Bench, with_file: bool) -> Document:
    """Every figure. Units: seconds."""
    load = os.getloadavg()[0]
    costs = {
        "sweep": bench.sweep("study", CODINGS, "cache"),
        "second_study": bench.sweep("again", CODINGS, "cache"),
        "ten_more_recipes": bench.sweep("study", (*CODINGS, ELEVENTH), "cache"),
    }
    alone = bench.packs("study")
    if with_file:
        hessians = bench.folder / "hessians.safetensors"
        spent("calibrate", bench.checkpoint, "-o", hessians)
        costs["sweep_with_file"] = bench.sweep("calibrated", CODINGS, "empty", "--calibration", hessians)
        costs["hundred_with_file"] = total(bench.packs("calibrated", "--calibration", hessians), len(CODINGS))
    about = {
        "checkpoint_n_bytes": bench.checkpoint.stat().st_size,
        "max_tokens": bench.max_tokens,
        "machine": machine(),
        "load": [load, os.getloadavg()[0]],
    }
    return document_of(about, costs, alone)


def document_of(about: Document, costs: dict[str, Spent], alone: Sequence[Spent]) -> Document:
    """The figures with what follows from them; `alone`: the sample's, in its order."""
    costs = {**costs, "hundred_alone": total(alone, len(CODINGS))}
    return {
        "goal": GOAL,
        "share": ratio(costs["sweep"], costs["hundred_alone"]),
        **about,
        "quantizers": list(QUANTIZERS),
        "codings": list(CODINGS),
        "costs": {name: asdict(cost) for name, cost in costs.items()},
        "sample": [{"recipe": text, **asdict(one)} for text, one in zip(sample(), alone, strict=True)],
    }


def ratio(cost: Spent, of: Spent) -> float:
    return cost.processor_s / of.processor_s


def markdown(document: Document) -> str:
    """The page of `--markdown`."""
    costs, host = document["costs"], document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    met = "met" if document["share"] <= GOAL else "missed"

    def line(what: str, name: str, of: str) -> str:
        cost = costs[name]
        share = f"{100 * cost['processor_s'] / costs[of]['processor_s']:.1f} %"
        return f"| {what} | {cost['processor_s']:.0f} | {share} |"

    head = ["| | processor s | share |", "|---|---:|---:|"]
    page = [
        "# What a sweep costs",
        "",
        f"Written by `make bench-sweep`: {len(QUANTIZERS)} quantizer settings under {len(CODINGS)} codings, on a "
        f"checkpoint of {document['checkpoint_n_bytes']:,} B, {document['max_tokens']:,} evaluated tokens.",
        f"{host['cpu']}, {host['cores']} cores, {host['system']}; {versions}.",
        f"Load at the beginning {document['load'][0]:.1f}, at the end {document['load'][1]:.1f}; shares "
        "are of processor seconds: wall seconds (in the JSON) say more about what else ran.",
        "",
        f"Goal: one sweep in at most {100 * GOAL:.0f} % of 100 packs and evaluations on their own: {met}.",
        "",
        *head,
        line("100 x `pgpack pack --eval --no-cache`, from ten of them", "hundred_alone", "hundred_alone"),
        line("`pgpack sweep`, empty cache", "sweep", "hundred_alone"),
        line("the same recipes in a second study", "second_study", "hundred_alone"),
        line("ten more recipes (an eleventh coding)", "ten_more_recipes", "hundred_alone"),
        "",
    ]
    if "sweep_with_file" in costs:
        page += [
            "With `--calibration FILE` on both sides, so that no pack calibrates:",
            "",
            *head,
            line("100 packs, from ten of them", "hundred_with_file", "hundred_with_file"),
            line("`pgpack sweep`, empty cache", "sweep_with_file", "hundred_with_file"),
            "",
        ]
    chains = [row["recipe"].partition("*=")[2].replace("|", "\\|") for row in document["sample"]]
    rows = [f"| `{c}` | {row['processor_s']:.1f} |" for c, row in zip(chains, document["sample"], strict=True)]
    page += [
        "Ten recipes were packed alone, each quantizer and each coding once; the hundred are ten times their sum.",
        "Bytes, weights and loss of the ten equal the sweep's rows. What a sweep cannot share is encoding: all",
        "hundred combinations of symbols and coding are different.",
        "",
        "| packed alone | processor s |",
        "|---|---:|",
        *rows,
        "",
    ]
    return "\n".join(page)


def main() -> int:
    """Print the page; write JSON and Markdown where asked. 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description="What a sweep of 100 recipes costs beside 100 packs.")
    parser.add_argument("checkpoint", type=Path, help="with its text, such as demo/model.safetensors")
    parser.add_argument("--max-tokens", type=int, default=8192, help="evaluated tokens")
    parser.add_argument("--with-file", action="store_true", help="compare with a calibration file on both sides too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pgpack-bench-") as folder:
        document = run(Bench(given.checkpoint, Path(folder), given.max_tokens), given.with_file)
    page = markdown(document)
    if given.json:
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    if given.markdown:
        given.markdown.write_text(page)
    print(page)
    return int(document["share"] > GOAL)


if __name__ == "__main__":
    sys.exit(main())
