"""`make gpu-proof`: the record's model trained on one GPU, plain and for the packer, and packed into 16 MB.

    train: text -> speed -> trunk -> plain -> for the packer
                                       |            |
               field, engine of the plain one    field, engine of the other          each a process, side by side

Every row is written to OUT.json and OUT.md at once. At the end of its minutes whatever still runs is stopped, and
says so; the same command goes on with the rows that are not there yet, in the same work folder. Made for 15 minutes
of one H100 or H200, in one call or in several: `--minutes 9.5`, twice.

A machine without a network: make runs/gpu-proof/text before (`--only text`), take it along, and there
`python3 -m pip install --no-index --no-deps --no-build-isolation -e .`, then `make gpu-proof GPU_PYTHON=python3`.
--bring FOLDER copies the results and what fits of the artifacts into 16 MiB there.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.gpu_stages import ARMS, FIELD, SCALES

Row = dict[str, Any]
TRAINING = ("text", "speed", "trunk", *ARMS)
BROUGHT = 16 << 20  # bytes
GRACE_S = 15.0  # for a run to save its state
TRIES = 3  # processes for one chain: a row that ends its process is not tried again


@dataclass(frozen=True)
class Chain:
    """Stages that one process does one after another, once the row `after` is there."""

    stages: tuple[str, ...]
    after: str = ""


def chains(scale: str, only: Sequence[str] | None) -> list[Chain]:
    """All rows of a scale, or the rows `only`."""
    efforts = SCALES[scale].efforts
    whole = [
        Chain(TRAINING),
        *(Chain((f"calibrate, {arm}", *(f"effort {effort}, {arm}" for effort in efforts)), arm) for arm in ARMS),
        *(Chain(tuple(f"{name}, {arm}" for name in FIELD), f"calibrate, {arm}") for arm in ARMS),
    ]
    return [Chain(tuple(s for s in chain.stages if only is None or s in only), chain.after) for chain in whole]


@dataclass
class Results:
    """Rows by stage, on disk from the first one on."""

    out: Path
    about: Row
    rows: dict[str, Row] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, row: Row) -> None:
        with self.changed:
            self.rows[row["stage"]] = row
            self.out.parent.mkdir(parents=True, exist_ok=True)
            document = {**self.about, "rows": list(self.rows.values())}
            self.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            self.out.with_suffix(".md").write_text(markdown(document), encoding="utf-8")
            self.changed.notify_all()
        print(f"{row['stage']}: {row.get('error') or 'ok'}", file=sys.stderr, flush=True)

    def is_there(self, stage: str) -> bool:
        return "error" not in self.rows.get(stage, {"error": ""})

    def awaited(self, stage: str, until: float) -> bool:
        """Whether the row came and is none of a failure."""
        with self.changed:
            self.changed.wait_for(lambda: stage in self.rows, max(0.0, until - time.monotonic()))
            return self.is_there(stage)


def run_chain(chain: Chain, command: Sequence[str], results: Results, until: float) -> None:
    """All rows of a chain, whatever happens to its process."""
    missing = [stage for stage in chain.stages if not results.is_there(stage)]
    if missing and chain.after and not results.awaited(chain.after, until):
        for stage in missing:
            results.add({"stage": stage, "error": f"not begun: {chain.after} is missing"})
        return
    for _ in range(TRIES):
        if not missing:
            return
        ending = _run(command, missing, results, until)
        left = [stage for stage in missing if stage not in results.rows]
        if left:
            results.add({"stage": left[0], "error": ending})
        missing = left[1:]
    for stage in missing:
        results.add({"stage": stage, "error": "not begun"})


def _run(command: Sequence[str], stages: Sequence[str], results: Results, until: float) -> str:
    """One process; rows as it tells them. What ended it comes back."""
    with subprocess.Popen([*command, *stages], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stopper = threading.Timer(max(0.0, until - time.monotonic()), _stop, (process,))
        stopper.start()
        for line in process.stdout:
            if line.startswith("ROW "):
                results.add(json.loads(line[4:]))
        code = process.wait()
        stopper.cancel()
    return "stopped: the minutes are over" if time.monotonic() >= until else f"its process ended with {code}"


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)  # a training run saves its state
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def markdown(document: Mapping[str, Any]) -> str:
    """The page."""
    rows = {row["stage"]: row for row in document["rows"]}
    speed, text = rows.get("speed", {}), rows.get("text", {})
    lines = [
        "# 36 M on a GPU, plain and for the packer" if document["scale"] == "full" else "# `make gpu-proof`, checked",
        "",
        f"Written by `{document['command']}` on {speed.get('card', document['device'])}, "
        f"{document['cores']} cores, torch {speed.get('torch', '?')}; {speed.get('parameters', 0):,} parameters, "
        f"{text.get('vocab_size', 0):,} pieces, text: {text.get('source', '?')} "
        f"({text.get('train_tokens', 0):,} tokens of training). Budget {document['budget']}. Both arms share their "
        "first 60 %.",
        "",
        "| training | steps | tokens | tokens/s | MFU | fp32 bits per byte | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("speed", "trunk", *ARMS):
        row = rows.get(name)
        if row and "error" not in row:
            lines.append(
                f"| {name} | {row['steps']:,} | {row.get('tokens', 0):,} | {row['tokens_per_s']:,.0f} | "
                f"{_share(row.get('mfu'))} | {_number(row.get('fp32_bpb'))} | {row.get('seconds', '-')} |"
            )
    lines += [
        "",
        "| file | bytes | bits per byte | KL | encode, s | decode, s | all, s | |",
        "|---|" + "---:|" * 6 + "---|",
    ]
    for name, row in rows.items():
        if "n_bytes" in row:
            lines.append(
                f"| {name} | {row['n_bytes']:,} | {row['bpb']:.4f} | {_number(row['kl'])} | {row['encode_s']} | "
                f"{row['decode_s']} | {row['seconds']} | {_cell(row['note'])} |"
            )
    failed = [f"* {name}: {row['error']}" for name, row in rows.items() if "error" in row]
    if failed:
        lines += ["", "Not there:", "", *failed]
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def bring(results: Results, work: Path, folder: Path) -> None:
    """Copy the results and then artifacts, smallest loss first, as long as all are within `BROUGHT`."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = sorted((row for row in results.rows.values() if "n_bytes" in row), key=lambda row: row["bpb"])
    files = [results.out.with_suffix(".json"), results.out.with_suffix(".md"), *sorted(work.glob("*.log.jsonl"))]
    left = BROUGHT
    for path in [*files, *(work / row["file"] for row in packed)]:
        if path.exists() and path.stat().st_size <= left:
            left -= path.stat().st_size
            shutil.copy(path, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing; write, bring and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="everything at tiny size on the CPU, in two minutes")
    parser.add_argument("--scale", choices=tuple(SCALES), default="full")
    parser.add_argument("--device", help="cuda as a rule, cpu for a smaller scale")
    parser.add_argument("--minutes", type=float, default=14.0, help="of wall clock, then it ends with what is there")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="these rows alone")
    parser.add_argument("--work", type=Path, help="folder of text, checkpoints and artifacts")
    parser.add_argument("--out", type=Path, help="OUT.json and OUT.md")
    parser.add_argument(
        "--bring", type=Path, metavar="FOLDER", help="copy results and artifacts there, 16 MiB at most"
    )
    given = parser.parse_args(arguments)
    scale = "smoke" if given.smoke else given.scale
    device = given.device or ("cuda" if scale == "full" else "cpu")
    work = given.work or Path("runs/gpu-proof" if scale == "full" else f"runs/gpu-proof-{scale}")
    out = given.out or (Path("results/gpu-36m") if scale == "full" else work / "gpu-proof")
    until = time.monotonic() + 60 * given.minutes
    command = "make gpu-proof" + ("" if scale == "full" else f" ({scale})")
    about = {"command": command, "scale": scale, "device": device, "budget": SCALES[scale].budget}
    about |= {"cores": len(_cores()), "machine": platform.machine()}
    results = Results(out, about)
    if out.with_suffix(".json").exists():
        kept = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
        if kept["scale"] == scale and (work / "text").exists():
            results.rows = {row["stage"]: row for row in kept["rows"] if "error" not in row}
    if device.startswith("cuda") and given.only != ["text"]:
        _require_gpu()
    stages = [sys.executable, "-m", "tests.bench.gpu_stages", scale, str(work), device]
    threads = [
        threading.Thread(target=run_chain, args=(chain, stages, results, until))
        for chain in chains(scale, given.only)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if given.bring:
        bring(results, work, given.bring)
    print(out.with_suffix(".md").read_text(encoding="utf-8"))


def _cores() -> set[int]:
    import os

    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here; --smoke checks everything at tiny size on the CPU")


if __name__ == "__main__":
    main()
