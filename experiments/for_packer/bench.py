"""`make bench-for-packer`: training for the packer beside plain training, at the same tokens.

    python -m experiments.for_packer.bench demo/text --out results/for-packer

Every arm goes on from the same trunk; its checkpoint is packed by the same recipe at its own dial (arms that are
trained for none: at all dials). BD-rates are over bytes at equal bits per byte of held-out text, against plain
training. Rows are written as they are measured; those that are there already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from pgpack.bench.opening import open_bench
from pgpack.recipe.dials import trellis_recipe

from .training import STATES, Arm, Bench

DIALS = (0.0008, 0.0016, 0.0032)
PLAIN_DIALS = (0.0005, 0.001, 0.002, 0.003, 0.0045)
PLAIN = Arm("plain")
FOR_PACKER = "for packer"
SOFT = Arm("soft-round QAT, int6", (("qat_bits", 6), ("qat_embed_bits", 8), ("qat_rounding", "soft")))
MAX_TOKENS, CALIBRATED = 16_384, "@calib=tokens(count=8192)"


def arms() -> list[Arm]:
    """In the order of what matters most."""
    return [
        PLAIN,
        *(Arm(FOR_PACKER, (), dial) for dial in DIALS[::-1]),
        SOFT,
        *(Arm("uniform-noise QAT", (), dial, noise=True) for dial in DIALS[::-1]),
    ]


def measured(bench: Bench, arm: Arm) -> list[dict[str, Any]]:
    """The rows of an arm."""
    path, seconds = bench.train(arm)
    opened = open_bench(path, max_tokens=MAX_TOKENS, cache=False)
    dials = PLAIN_DIALS if arm.dial is None else (arm.dial,)
    rows = []
    for dial in dials:
        recipe = f"{trellis_recipe(dial, STATES, opened.checkpoint.stored_shapes)}; {CALIBRATED}"
        artifact = opened.pack(recipe, to=path.with_suffix(".pgpack"), force=True)
        rows.append(
            {
                "arm": arm.name, "trained_for": arm.dial, "seed": bench.seed, "dial": dial,
                "n_bytes": artifact.n_bytes, "bpb": opened.measure(artifact).bpb, "fp32_bpb": opened.measure().bpb,
                "late_cpu_s": round(seconds, 1),
            }
        )  # fmt: skip
    return rows


def bytes_at(rows: Sequence[dict[str, Any]], bpb: float) -> float | None:
    """Bytes of a curve at a loss, log bytes over loss between its points; None beyond its ends."""
    points = sorted((row["bpb"], math.log(row["n_bytes"])) for row in rows)
    if not points or not points[0][0] <= bpb <= points[-1][0]:
        return None
    return math.exp(float(np.interp(bpb, [p[0] for p in points], [p[1] for p in points])))


def differences(rows: Sequence[dict[str, Any]], name: str) -> dict[float, list[float]]:
    """Dial -> percent of bytes against plain training of the same seed at the loss of each point, a seed an entry."""
    found: dict[float, list[float]] = {}
    for row in sorted((row for row in rows if row["arm"] == name), key=lambda row: float(row["dial"])):
        plain = [other for other in rows if other["arm"] == PLAIN.name and other["seed"] == row["seed"]]
        if (expected := bytes_at(plain, row["bpb"])) is not None:
            found.setdefault(row["dial"], []).append(100 * (row["n_bytes"] / expected - 1))
    return found


def markdown(rows: Sequence[dict[str, Any]], bench: Bench) -> str:
    """The page."""
    tokens = bench.steps * bench.batch_tokens
    names = list(dict.fromkeys(row["arm"] for row in rows))
    late = {name: [row["late_cpu_s"] for row in rows if row["arm"] == name] for name in names}
    plain_s = median(late.get(PLAIN.name, [math.nan]))
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "# Training for the packer",
        "",
        f"Written by `make bench-for-packer`: the demo's text and model, {bench.preset.model.model_dim} wide (its "
        f"own: 288), {tokens:,} tokens ({bench.steps} steps of {bench.batch_tokens}), the last 40 % in another "
        f"way for each arm, seeds {', '.join(map(str, seeds))}. Packed by the trellis engine ({STATES} states), "
        f"{MAX_TOKENS:,} held-out tokens. Bytes are against plain training at equal bits per byte; above 0 is "
        "a loss *(negative)*. "
        "How far a step on the rate goes was chosen on this text and model, of four settings at seed 1337; the peers "
        "have their own defaults. Of several seeds: mean and standard deviation.",
        "",
        "| arm | bytes at equal bits per byte, by dial | mean | processor time of the last part |",
        "|---|---|---:|---:|",
    ]
    for name in names:
        found = differences(rows, name) if name != PLAIN.name else {}
        shown = "; ".join(f"{dial:g}: {_spread(percents)}" for dial, percents in found.items()) or "-"
        mean = fmean(map(fmean, found.values())) if found else 0.0
        mark = " *(negative)*" if mean > 0 else ""
        total = f"{mean:+.1f} %{mark}" if found else "-"
        lines.append(f"| {name} | {shown} | {total} | {median(late[name]) / plain_s - 1:+.0%} |")
    lines += ["", "| arm | seed | dial | bytes | bits per byte | fp32 |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(
            f"| {row['arm']} | {row['seed']} | {row['dial']:g} | {row['n_bytes']:,} | {row['bpb']:.4f} "
            f"| {row['fp32_bpb']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def _spread(percents: Sequence[float]) -> str:
    deviation = f" ± {stdev(percents):.1f}" if len(percents) > 1 else ""
    return f"{fmean(percents):+.1f}{deviation} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write, arm by arm."""
    parser = argparse.ArgumentParser(description="Training for the packer beside plain training.")
    parser.add_argument("text", type=Path, help="folder of `pgtrain data`, such as demo/text")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=288, help="width of the model; 288 is the demo's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337], help="every arm once for each")
    parser.add_argument("--arms", nargs="+", help="of which names; all of them, unless given")
    parser.add_argument("--work", type=Path, default=Path("runs/for-packer"), help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=Path("results/for-packer"), help="OUT.json and OUT.md")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    earlier: list[dict[str, Any]] = []
    for seed in given.seeds:
        bench = Bench.of(given.text, given.work, given.steps, given.batch_tokens, given.dim, seed)
        kept = given.work / f"rows-{seed}-{given.steps}-{given.batch_tokens}-{given.dim}.json"
        rows = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        for arm in arms():
            if any((row["arm"], row["trained_for"]) == (arm.name, arm.dial) for row in rows):
                continue
            if given.arms and arm.name not in given.arms:
                continue
            print(f"seed {seed}: {arm.name} {arm.dial or ''}", file=sys.stderr, flush=True)
            rows += measured(bench, arm)
            kept.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        earlier += rows
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.with_suffix(".json").write_text(json.dumps(earlier, indent=1) + "\n", encoding="utf-8")
        given.out.with_suffix(".md").write_text(markdown(earlier, bench), encoding="utf-8")
        print(markdown(earlier, bench), flush=True)


if __name__ == "__main__":
    main()
