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


def rates_here() -> Rates:
    """What this machine was measured at, kept where `pgpack doctor` keeps it."""
    from pgpack.bench.rates import read_rates
    from pgpack.cache.options import default_folder

    named = os.environ.get("PGPACK_CACHE")
    return read_rates(Path(named) if named else default_folder())


def show_foreseen(screen: Screen, facts: Mapping[str, Any], cost: Cost, device: str | None = None) -> None:
    """The facts, a line each, and the cost."""
    if device not in (None, "cpu"):
        screen.note(f"the time is that of the CPU, not of --device {device}")
    known = {name: value for name, value in facts.items() if value is not None}
    width = max((len(name) for name in known), default=0)
    said = (
        f"{name:{width}}  {value:,}" if isinstance(value, int) else f"{name:{width}}  {value}"
        for name, value in known.items()
    )
    screen.show({**known, "cost": cost.as_document()}, *said, *cost.lines())
