"""`make bench-ingredients`: what each thing that the levels of `--effort` spend on is worth alone, on one model.

    python -m experiments.rate_distortion.ingredients MODEL --text PATH --seq-len 1024 --out results/ingredients

The default level with one thing changed, over the same dials. Points already measured are read from the work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from pgpack.bench.options import BenchOptions
from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import DEFAULT, LEVELS, Effort
from pgpack.text.made import RANDOM, SELF

from .curves import dials
from .drift_mix import Mixing
from .effort import TARGETS, spends
from .laboratory import NO_LOOK_UPS, Laboratory
from .measured_steps import measured_recipe
from .rows import Row, rate
from .text_flags import add_text_flags, name_of, text_options

PLAIN = LEVELS[DEFAULT]
STAGE_BY_STAGE, MEASURED = "drift, as far as helps each stage", "steps by the measured loss of each kind"
DRIFT = "@drift=layers(share={share},residual={residual})"


@dataclass(frozen=True)
class Ingredient:
    """The default level with something changed: effort, calibration (`Laboratory.calibration`), or recipe."""

    name: str
    effort: Effort = PLAIN
    calibration: str = "observed"
    suffix: str = ""

    def row(self, laboratory: Laboratory, step: float) -> Row:
        """The point at a step."""
        bounded = self.effort.bounded(laboratory.checkpoint.n_params)
        parts = (str(engine_recipe(bounded, step, laboratory.shapes)), self.suffix)
        recipe = "; ".join(part for part in parts if part)
        return laboratory.recipe_row(self.name, step, recipe, self.calibration)


@dataclass(frozen=True)
class MeasuredSteps(Ingredient):
    """The step of each kind of matrix by its measured loss."""

    def row(self, laboratory: Laboratory, step: float) -> Row:
        return laboratory.recipe_row(self.name, step, measured_recipe(laboratory, self.effort, step))


@dataclass(frozen=True)
class SearchedDrift(Ingredient):
    """Drift that each stage follows as far as helps it."""

    def row(self, laboratory: Laboratory, step: float) -> Row:
        recipe = str(engine_recipe(self.effort, step, laboratory.shapes))
        return laboratory.recipe_row(self.name, step, recipe, trainer=Mixing(laboratory.piece))


NOTHING = Ingredient("the default")
INGREDIENTS = (
    NOTHING,
    Ingredient("4 states", replace(PLAIN, states=4)),
    Ingredient("8 states", replace(PLAIN, states=8)),
    Ingredient("256 states", replace(PLAIN, states=256)),
    Ingredient("rows by 32", replace(PLAIN, group=32)),
    Ingredient("look-up shares left out", calibration=NO_LOOK_UPS),
    Ingredient("8,192 tokens", replace(PLAIN, tokens=8_192)),
    Ingredient("131,072 tokens", replace(PLAIN, tokens=131_072)),
    Ingredient("pieces drawn at random", replace(PLAIN, calib=RANDOM)),
    Ingredient("text that the model writes", replace(PLAIN, calib=SELF)),
    Ingredient("drift", replace(PLAIN, drift=True)),
    Ingredient("drift, its inputs alone", suffix=DRIFT.format(share=1, residual=0)),
    Ingredient("drift, half the way", suffix=DRIFT.format(share=0.5, residual=0.5)),
    SearchedDrift(STAGE_BY_STAGE, replace(PLAIN, drift=True)),
    MeasuredSteps(MEASURED),
    Ingredient("tuning", replace(PLAIN, tune=100)),
    Ingredient("compensation", replace(PLAIN, compensate=60)),
)


def markdown(name: str, n_tokens: int, n_params: int, curves: dict[str, list[Row]]) -> str:
    """The page; differences are to the default level."""
    plain = curves.get(NOTHING.name, [])
    lines = [
        f"# {name}: what each ingredient is worth alone",
        "",
        f"Written by `make bench-ingredients`: {n_params:,} parameters, {n_tokens:,} held-out tokens. The default "
        f"is `--effort {DEFAULT}` ({spends(PLAIN)}); a row has one thing changed. Differences are BD-rates over the "
        "dials that both have, negative where files get smaller. Time is the median of quantizing (with what it "
        "trains) and encoding; calibration is not in it.",
        "",
        "| changed | bytes at equal KL | at equal bits per byte | quantize + encode, s | bytes / KL |",
        "|---|---:|---:|---:|---|",
    ]
    for each, rows in curves.items():
        differences = ("" if each == NOTHING.name else _percent(rate(plain, rows, by)) for by in ("kl", "bpb"))
        seconds = median(row.quantize_s + row.encode_s for row in rows)
        points = "; ".join(f"{row.n_bytes:,} / {row.kl:.4g}" for row in rows)
        lines.append(f"| {each} | {' | '.join(differences)} | {seconds:.1f} | {points} |")
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write, ingredient by ingredient."""
    parser = argparse.ArgumentParser(description="What each ingredient of --effort is worth alone.")
    parser.add_argument("model", type=Path, help="what pgpack opens: a folder, a GGUF, a checkpoint")
    add_text_flags(parser)
    parser.add_argument("--max-tokens", type=int, default=16384, help="held-out tokens to evaluate on")
    parser.add_argument("--targets", type=float, nargs="+", default=TARGETS, help="KL of the dials, roughly")
    parser.add_argument("--only", nargs="+", help="of which names, beside the default; all of them, unless given")
    parser.add_argument("--work", type=Path, default=Path("runs/ingredients"), help="the points measured so far")
    parser.add_argument("--out", type=Path, default=Path("results/ingredients"), help="OUT.json, OUT.md are written")
    given = parser.parse_args(arguments)
    text = text_options(given)
    name = name_of(given.model)

    @functools.cache
    def laboratory(calib: str | None) -> Laboratory:
        made: BenchOptions = text if calib is None else replace(text, calib=calib)
        return Laboratory(given.model, name, given.work / name / (calib or ""), given.max_tokens, text=made)

    plain = laboratory(None)
    steps, curves = dials(plain, given.targets), dict[str, list[Row]]()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for each in INGREDIENTS:
        if given.only and each is not NOTHING and each.name not in given.only:
            continue
        print(each.name, file=sys.stderr, flush=True)
        for step in steps:
            curves.setdefault(each.name, []).append(each.row(laboratory(each.effort.calib), step))
            rows = {curve: [dataclasses.asdict(row) for row in points] for curve, points in curves.items()}
            given.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            page = markdown(name, plain.piece.text.n_tokens, plain.checkpoint.n_params, curves)
            given.out.with_suffix(".md").write_text(page, encoding="utf-8")
    print(given.out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
