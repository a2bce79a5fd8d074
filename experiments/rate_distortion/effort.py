"""`make bench-effort`: what each level of `--effort` takes and gives, against the default, on one checkpoint.

    python -m experiments.rate_distortion.effort demo/model.safetensors --out results/effort

Points already measured are read from the work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import DEFAULT, LEVELS, Effort
from pgpack.recipe.directives import Calibrate

from .curves import dials, preset_rows
from .laboratory import Laboratory
from .rows import Row, rate
from .text_flags import add_text_flags, name_of, text_options

TARGETS = (0.0015, 0.006, 0.025)  # KL in nats per token, roughly
PEER = "sdclip-brotli"


def rows_of(laboratory: Laboratory, level: int, targets: Sequence[float] = TARGETS) -> list[Row]:
    """The curve of a level."""
    found = dials(laboratory, targets)
    recipes = {step: engine_recipe(LEVELS[level], step, laboratory.shapes) for step in found}
    return [laboratory.recipe_row(f"effort {level}", step, str(recipe)) for step, recipe in recipes.items()]


def spends(effort: Effort) -> str:
    """A level in words."""
    tokens = Calibrate().count if effort.tokens is None else effort.tokens
    parts = [f"{tokens:,} {effort.calib + ' ' if effort.calib else ''}tokens", f"{effort.states} states"]
    parts += [f"rows by {effort.group}"] if effort.group else []
    parts += ["drift followed"] if effort.drift else []
    parts += [f"{effort.compensate} steps of compensation"] if effort.compensate else []
    parts += [f"{effort.tune} steps of tuning"] if effort.tune else []
    return ", ".join(parts)


def markdown(name: str, n_tokens: int, curves: dict[int, list[Row]], peer: list[Row]) -> str:
    """The page; differences are to the default level and to the peer over its own dial."""
    n_dials = max(map(len, curves.values()))
    lines = [
        "# Levels of effort",
        "",
        f"Written by `make bench-effort`: {name}, {n_tokens:,} held-out tokens, {n_dials} dials a level. "
        "Time is the median of quantizing (with what it trains) and encoding; calibration is not in it. "
        f"`{PEER}` over its own dial has {len(peer)} points.",
        "",
        f"| effort | spends | bytes at equal KL | against `{PEER}` | quantize + encode, s | bytes / KL |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for level, rows in curves.items():
        against = rate(curves.get(DEFAULT, []), rows, "kl") if level != DEFAULT else 0.0
        versus = rate(peer, rows, "kl")
        points = "; ".join(f"{row.n_bytes:,} / {row.kl:.4g}" for row in rows)
        seconds = median(row.quantize_s + row.encode_s for row in rows)
        shown, beside = ("-" if each is None else f"{each:+.1f} %" for each in (against, versus))
        mark = " (default)" if level == DEFAULT else ""
        lines.append(f"| {level}{mark} | {spends(LEVELS[level])} | {shown} | {beside} | {seconds:.1f} | {points} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write, level by level."""
    parser = argparse.ArgumentParser(description="Time and bytes of each level of effort.")
    parser.add_argument("checkpoint", type=Path)
    add_text_flags(parser)
    parser.add_argument("--max-tokens", type=int, default=16384, help="held-out tokens to evaluate on")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 0, 1, 2, *range(4, len(LEVELS))])
    parser.add_argument("--targets", type=float, nargs="+", default=TARGETS, help="KL of the dials, roughly")
    parser.add_argument("--work", type=Path, default=Path("runs/effort"), help="folder of the points measured so far")
    parser.add_argument("--out", type=Path, default=Path("results/effort"), help="OUT.json and OUT.md are written")
    given = parser.parse_args(arguments)
    text = text_options(given)
    name = name_of(given.checkpoint)

    @functools.cache
    def laboratory(calib: str | None = None) -> Laboratory:
        folder = given.work / name / (calib or "")
        made = text if calib is None else dataclasses.replace(text, calib=calib)
        return Laboratory(given.checkpoint, name, folder, given.max_tokens, text=made)

    curves: dict[int, list[Row]] = {}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    peer = list(preset_rows(laboratory(), PEER))
    for level in given.levels:
        print(f"effort {level}: {spends(LEVELS[level])}", file=sys.stderr, flush=True)
        curves[level] = rows_of(laboratory(LEVELS[level].calib), level, given.targets)
        measured = dict(sorted(curves.items()))
        rows = {str(level): [dataclasses.asdict(row) for row in rows] for level, rows in measured.items()}
        rows[PEER] = [dataclasses.asdict(row) for row in peer]
        given.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        page = markdown(name, laboratory().piece.text.n_tokens, measured, peer)
        given.out.with_suffix(".md").write_text(page, encoding="utf-8")
    print(given.out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
