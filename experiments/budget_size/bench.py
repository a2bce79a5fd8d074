"""`make bench-budget-size`: which size of model is best for so many bytes, measured, and the law of it.

    python -m experiments.budget_size.bench runs/budget-size-text --out results/budget-size

Every model is a row, written at once; rows that are there are not measured again, so that a run goes on where it was
stopped. What is written: OUT.json (the rows), OUT.md, OUT.svg, and with --law the law that `pgpack advise` reads.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pgpack.text.text_folder import TextFolder
from pgtrain.model.tensor_table import count_parameters

from .measuring import Measuring, Plan, Row, Shape
from .page import law_of, markdown, picture

SHAPES = (Shape(2, 64), Shape(2, 96), Shape(2, 128), Shape(4, 96), Shape(3, 160), Shape(5, 192))
TOKENS = (1 << 17, 1 << 18, 1 << 19)
BUDGETS = (12_500, 25_000, 50_000, 100_000, 200_000)
SEEDS = (1337,)


def plans(vocab_size: int, shapes: Sequence[Shape], tokens: Sequence[int], seeds: Sequence[int]) -> list[Plan]:
    """The cheapest first, the first seed before the second."""

    def cost(plan: Plan) -> tuple[int, int]:
        return seeds.index(plan.seed), count_parameters(plan.shape.model(vocab_size)) * plan.n_tokens

    return sorted((Plan(*each) for each in itertools.product(shapes, tokens, seeds)), key=cost)


def measured(measuring: Measuring, planned: Sequence[Plan], kept: Path) -> Iterator[list[Row]]:
    """All rows so far, after each; `kept`: their file."""
    rows = [Row.read(each) for each in json.loads(kept.read_text(encoding="utf-8"))] if kept.exists() else []
    held = {(row.layers, row.dim, row.n_tokens, row.seed) for row in rows}
    if rows:
        yield rows
    for plan in planned:
        if (plan.shape.layers, plan.shape.dim, plan.n_tokens, plan.seed) in held:
            continue
        print(
            f"{plan.shape.layers} layers of {plan.shape.dim}, {plan.n_tokens:,} tokens", file=sys.stderr, flush=True
        )
        rows = [*rows, measuring.row(plan)]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
        yield rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write, model by model."""
    parser = argparse.ArgumentParser(description="Which size of model is best for so many bytes.")
    parser.add_argument("text", type=Path, help="folder of `pgtrain data`")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, type=_shape, metavar="LAYERSxWIDTH")
    parser.add_argument("--tokens", nargs="+", default=TOKENS, type=int, help="trained on")
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--budgets", nargs="+", default=BUDGETS, type=int, help="bytes")
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--max-tokens", type=int, default=16_384, help="held-out tokens to measure on")
    parser.add_argument("--work", type=Path, default=Path("runs/budget-size"), help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=Path("results/budget-size"), help="OUT.json, OUT.md, OUT.svg")
    parser.add_argument("--law", type=Path, metavar="FILE", help="write what `pgpack advise` reads")
    given = parser.parse_args(arguments)
    text = TextFolder.open(given.text)
    vocab_size = json.loads((given.text / "corpus.json").read_text(encoding="utf-8"))["vocab_size"]
    measuring = Measuring(text, vocab_size, given.work, given.batch_tokens, tuple(given.budgets), given.max_tokens)
    rows: list[Row] = []
    planned = plans(vocab_size, given.shapes, given.tokens, given.seeds)
    for rows in measured(measuring, planned, given.out.with_suffix(".json")):
        print(f"{len(rows)} models", file=sys.stderr, flush=True)
    publish(rows, given.out, given.law, f"{vocab_size} pieces, batches of {given.batch_tokens:,} tokens")


def publish(rows: Sequence[Row], out: Path, law_file: Path | None, how: str) -> None:
    """The page, its picture and the law of what is measured."""
    sizes, tokens = [row.n_params for row in rows], [row.n_tokens for row in rows]
    measured_on = (
        f"{len(rows)} models of {min(sizes):,} to {max(sizes):,} parameters, {min(tokens):,} to {max(tokens):,} "
        f"training tokens, trained plain, {how}"
    )
    law, errors = law_of(rows, measured_on)
    page = markdown(rows, law, errors)
    out.with_suffix(".md").write_text(page, encoding="utf-8")
    out.with_suffix(".svg").write_bytes(picture(rows, law))
    if law_file is not None:
        law.save(law_file)
    print(page)


def _shape(text: str) -> Shape:
    layers, _, dim = text.partition("x")
    return Shape(int(layers), int(dim))


if __name__ == "__main__":
    main()
