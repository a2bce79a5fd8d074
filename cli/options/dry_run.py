"""--dry-run of commands that take long: what they would do, in time and memory, and nothing done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..screen.output import Screen

if TYPE_CHECKING:
    from pgpack.bench.rates import Cost, Rates

dry_run_option: Callable[[Any], Any] = click.option(
    "--dry-run", is_flag=True, help="Say how long it will take and how much memory, and stop."
)


WORDS = {  # for facts that have another name in JSON
    "budget": "budget, bytes",
    "n_params": "values",
    "recipe_digest": "recipe's digest",
    "needs_hessian": "that need Hessians",
    "companion_bytes": "config, tokenizer",
    "text_bytes": "text, bytes",
}


def rates_here(folder: Path | None = None) -> Rates:
    """What this machine was measured at, kept where `pgpack doctor` keeps it, or in `folder`."""
    from pgpack.bench.rates import read_rates
    from pgpack.cache.options import default_folder

    named = os.environ.get("PGPACK_CACHE")
    return read_rates(folder or (Path(named) if named else default_folder()))


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """What is known of the facts, a line each: numbers with separators, lists by their lengths."""
    known = {WORDS.get(name, name): value for name, value in facts.items() if value is not None}
    width = max(map(len, known), default=0)
    counts = {name: len(value) if isinstance(value, list) else value for name, value in known.items()}
    return [f"{name:{width}}  {f'{value:,}' if isinstance(value, int) else value}" for name, value in counts.items()]


def show_foreseen(screen: Screen, facts: Mapping[str, Any], cost: Cost, device: str | None = None) -> None:
    """The facts, a line each, and the cost."""
    if device not in (None, "cpu"):
        screen.note(f"the time is that of the CPU, not of --device {device}")
    known = {name: value for name, value in facts.items() if value is not None}
    screen.show({**known, "cost": cost.as_document()}, *fact_lines(known), *cost.lines())
