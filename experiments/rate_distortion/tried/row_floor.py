"""How coarse may rows get that calibration hardly saw?

    python -m experiments.rate_distortion.row_floor demo/model.safetensors > results/row-floor.md
    python -m experiments.rate_distortion.row_floor MODEL.pt --val GLOB --calib GLOB --tokenizer FILE --seq-len 256

`tcq` takes a row's Fisher weight for at least 2^-floor of the mean. The more octaves, the coarser the rows of rare
tokens, which is cheap on text like the calibration text and dear in a passage of another kind. The dial is turned at
every floor and the curves are compared at equal loss; a standard error of the KL that is large beside it shows that
few blocks of the text carry it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pgpack.bench.options import BenchOptions
from pgpack.bench.workpiece import Workpiece
from pgpack.cache.store import Cache
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import StudyError
from pgpack.loss.evaluator import BitsPerByte
from pgpack.recipe.recipe import parse_recipe
from pgpack.study.frontier import Metric, bd_rate

FLOORS = (12, 10, 8, 6, 4)
STEPS = (8e-5, 1.6e-4, 3.2e-4, 6.4e-4)
ENGINE = "tcq(step={step},states=64,floor={floor})|rans_scaled(states=64)"
SMALL = "cast|shuffle|brotli"
Point = tuple[int, BitsPerByte]


def curve(bench: Workpiece, floor: int) -> list[Point]:
    """The dial at one floor."""
    measurer = bench.measurer()
    measurer.cache = Cache()
    found = []
    for step in STEPS:
        text = f"ndim<=1={SMALL}; role:control={SMALL}; *={ENGINE.format(step=step, floor=floor)}"
        artifact = measurer.pack(parse_recipe(text).without_idle_rules(bench.checkpoint.stored_shapes))
        loss = measurer.evaluate(artifact)
        assert loss is not None
        found.append((artifact.n_bytes, loss))
    return found


def against(anchor: list[Point], test: list[Point], metric: Metric) -> str:
    """Mean difference of bytes at equal loss; '-' where the curves share none."""
    tables = [np.array([(n_bytes, getattr(loss, metric)) for n_bytes, loss in points]) for points in (anchor, test)]
    try:
        return f"{bd_rate(*tables, metric).percent:+.1f} %"
    except StudyError:
        return "-"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="how coarse rows may get that calibration hardly saw")
    parser.add_argument("checkpoint", type=Path)
    for name in ("--val", "--calib", "--tokenizer"):
        parser.add_argument(name)
    parser.add_argument("--seq-len", type=int)
    parser.add_argument("--max-tokens", type=int, default=16384)
    given = parser.parse_args()
    flags = BenchOptions(given.val, given.calib, given.tokenizer, given.seq_len, given.max_tokens)
    bench = Workpiece(given.checkpoint, load_checkpoint(given.checkpoint), flags)
    print("# How coarse rows may get that calibration hardly saw\n")
    print(
        f"Written by `python -m experiments.rate_distortion.row_floor`: `{given.checkpoint.name}`, 64 states, "
        f"{given.max_tokens:,} held-out tokens. KL in nats per token +- its standard error over blocks of the text.\n"
    )
    heads = "".join(f" bytes at step {step:g} | KL |" for step in STEPS)
    print(f"| floor |{heads} at equal KL | at equal bits per byte |")
    print("|---:|" + "---:|" * (2 * len(STEPS) + 2))
    anchor: list[Point] = []
    for floor in FLOORS:
        points = curve(bench, floor)
        anchor = anchor or points
        cells = "".join(f" {n_bytes:,} | {loss.kl:.5f} +- {loss.kl_se or 0:.5f} |" for n_bytes, loss in points)
        rates = " | ".join(against(anchor, points, metric) for metric in ("kl", "bpb"))
        print(f"| {floor} |{cells} {rates} |", flush=True)


if __name__ == "__main__":
    main()
