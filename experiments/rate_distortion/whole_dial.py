"""`make bench-dial`: the engine's dial from 8 to 0.3 bits per weight on one model: bytes and KL at every octave.

    python -m experiments.rate_distortion.whole_dial MODEL --text PATH --seq-len 1024 --out results/dial

Halves the step until a weight takes as many bits as MOST, doubles it until it takes as few as LEAST. The page says
whether bytes fall and KL rises from each step to the next. Points already measured are read from the work folder.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .curves import ENGINES, dials, text_of
from .laboratory import Laboratory
from .rows import Row
from .text_flags import add_text_flags, name_of, text_options

MOST, LEAST = 8.0, 0.3  # bits per weight
MIDDLE = 0.02  # KL in nats per token, roughly, of the step that is measured first
ENGINE = ENGINES[0]


def octaves(first: float, row_at: Callable[[float], Row], n_params: int) -> Iterator[Row]:
    """Points one octave of the step apart, in no order: MOST bits per weight to LEAST, or as few as there are."""

    def walk(factor: float, is_last: Callable[[Row, Row], bool]) -> Iterator[Row]:
        before = middle
        for n in itertools.count(1):
            row = row_at(float(f"{first * factor**n:.4g}"))
            yield row
            if is_last(row, before):
                return
            before = row

    middle = row_at(first)
    yield middle
    yield from walk(0.5, lambda row, before: 8 * row.n_bytes >= MOST * n_params)
    yield from walk(2.0, lambda row, before: 8 * row.n_bytes <= LEAST * n_params or row.n_bytes >= before.n_bytes)


def turned(rows: Sequence[Row], metric: str) -> list[tuple[Row, Row]]:
    """Neighbours, from fine to coarse, between which bytes do not fall, or KL does not rise."""
    sign = -1 if metric == "n_bytes" else 1
    return [
        pair for pair in itertools.pairwise(rows) if sign * (getattr(pair[1], metric) - getattr(pair[0], metric)) <= 0
    ]


def markdown(name: str, n_params: int, n_tokens: int, rows: Sequence[Row]) -> str:
    """The page. `rows`: from fine to coarse."""

    def said(metric: str) -> str:
        found = turned(rows, metric)
        return (
            "at every step" if not found else f"but from {', '.join(f'{a.dial:g} to {b.dial:g}' for a, b in found)}"
        )

    lines = [
        f"# {name}: the whole dial",
        "",
        f"Written by `make bench-dial`: {n_params:,} parameters, {n_tokens:,} held-out tokens, {ENGINE.name}. From "
        f"fine to coarse bytes fall {said('n_bytes')}, KL rises {said('kl')}.",
        "",
        "| step | bits per weight | bytes | KL | bits per byte |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = f"{8 * row.n_bytes / n_params:.3f} | {row.n_bytes:,}"
        lines.append(f"| {row.dial:.4g} | {size} | {row.kl:.3g} | {row.bpb:.4f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write, point by point."""
    parser = argparse.ArgumentParser(description="The engine's dial from 8 to 0.3 bits per weight.")
    parser.add_argument("model", type=Path, help="what pgpack opens: a folder, a GGUF, a checkpoint")
    add_text_flags(parser)
    parser.add_argument("--max-tokens", type=int, default=8192, help="held-out tokens to evaluate on")
    parser.add_argument("--calib-tokens", type=int, default=32_768, help="tokens to calibrate on")
    parser.add_argument("--work", type=Path, default=Path("runs/dial"), help="folder of the points measured so far")
    parser.add_argument("--out", type=Path, default=Path("results/dial"), help="OUT.md is written")
    given = parser.parse_args(arguments)
    name = name_of(given.model)
    calibrated = f"@calib=tokens(count={given.calib_tokens})"
    laboratory = Laboratory(
        given.model, name, given.work / name, given.max_tokens, calibrated, text=text_options(given)
    )
    n_params, rows = laboratory.checkpoint.n_params, list[Row]()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    [first] = dials(laboratory, (MIDDLE,))
    for row in octaves(first, lambda step: laboratory.recipe_row(ENGINE.name, step, text_of(ENGINE, step)), n_params):
        rows = sorted([*rows, row], key=lambda each: each.dial)
        print(f"{row.dial:g}: {row.n_bytes:,} B, KL {row.kl:.4g}", file=sys.stderr, flush=True)
        page = markdown(name, n_params, laboratory.piece.text.n_tokens, rows)
        given.out.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
