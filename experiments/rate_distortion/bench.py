"""`make bench-rd`: the engine against the field's packers, NNCodec, the Gaussian bound, and itself without its parts.

    python -m experiments.rate_distortion.bench demo/model.safetensors runs/rd/text-4m.safetensors --out results/rd

Writes OUT.json and OUT.md after every curve. Points already measured are read from the work folder, so that the
bench goes on where it stopped. All curves of a checkpoint are measured on the same held-out tokens, and calibrated
on the same calibration tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pgpack.recipe.presets import PRESETS

from . import curves
from .gap import gaps, total_gap
from .laboratory import Laboratory
from .rows import Row
from .tables import markdown

GAP_TARGETS = (0, 3)  # indices of TARGETS: the points whose gap to the bound is shown, the last one by tensor

GROUPS = ("engine", *curves.TRAINED, "preset", "peer", "plain", "ablation")
Work = tuple[str, str, Callable[[], Iterator[Row]]]


def work_of(laboratory: Laboratory, nncodec: str | None) -> Iterator[Work]:
    """(group, curve, how to measure it), what matters most first."""
    steps = curves.dials(laboratory)

    def variant(each: curves.Variant, some: Sequence[float]) -> Callable[[], Iterator[Row]]:
        return partial(curves.variant_rows, laboratory, each, some)

    for each in curves.ENGINES:
        yield "engine", each.name, variant(each, steps)
    for group, each in curves.TRAINED.items():
        yield group, each.name, variant(each, steps[2:5])
    for name, preset in PRESETS.items():
        if all(shutil.which(program) for program in preset.requires):
            yield "preset", name, partial(curves.preset_rows, laboratory, name)
    if nncodec:
        for name in curves.NNCODEC:
            yield "peer", name, partial(curves.nncodec_rows, laboratory, name, nncodec)
        for each in curves.PLAIN:
            yield "plain", each.name, variant(each, curves.plain_dials(laboratory))
    for each in curves.ABLATIONS:
        yield "ablation", each.name, variant(each, steps[1:5])


def study(laboratory: Laboratory, groups: Sequence[str], nncodec: str | None) -> Iterator[dict[str, Any]]:
    """The document of one checkpoint, growing curve by curve."""
    evaluator = laboratory.piece.evaluator
    fp32 = evaluator.evaluate(laboratory.tensors)
    steps = [curves.dials(laboratory)[i] for i in GAP_TARGETS]
    variants = (curves.ENGINES[1], curves.FULL_ROWS, curves.SCALAR)
    document: dict[str, Any] = {
        "name": laboratory.name,
        "n_params": laboratory.checkpoint.n_params,
        "checkpoint_digest": laboratory.checkpoint.digest,
        "evaluator_digest": evaluator.digest,
        "n_tokens": fp32.n_tokens,
        "fp32_bpb": fp32.bpb,
        "curves": [],
        "gap": [dataclasses.asdict(gap) for gap in gaps(laboratory, steps[-1])],
        "total_gap": [dataclasses.asdict(total_gap(laboratory, s, v)) for v in variants for s in steps],
    }
    for group, name, measure in work_of(laboratory, nncodec):
        if group not in groups:
            continue
        print(f"{laboratory.name}: {name}", file=sys.stderr, flush=True)
        document["curves"].append({"group": group, "name": name, "rows": [dataclasses.asdict(r) for r in measure()]})
        yield document


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Rate-distortion curves of the engine and its peers.")
    parser.add_argument("checkpoints", nargs="+", type=Path, help="pgtrain checkpoints with their text beside them")
    parser.add_argument("--out", type=Path, default=Path("results/rd"), help="OUT.json and OUT.md are written")
    parser.add_argument("--work", type=Path, default=Path("runs/rd"), help="folder of the points measured so far")
    parser.add_argument("--max-tokens", type=int, default=16384, help="held-out tokens to evaluate on")
    parser.add_argument("--nncodec", metavar="PYTHON", help="interpreter of an environment that holds nncodec")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="curves to measure")
    given = parser.parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    documents: list[dict[str, Any]] = []
    for path in given.checkpoints:
        name = path.parent.name if path.stem == "model" else path.stem
        laboratory = Laboratory(path, name, given.work / name, given.max_tokens)
        documents.append({})
        for document in study(laboratory, given.groups, given.nncodec):
            documents[-1] = document
            given.out.with_suffix(".json").write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
            given.out.with_suffix(".md").write_text(markdown(documents), encoding="utf-8")
    print(markdown(documents))


if __name__ == "__main__":
    main()
