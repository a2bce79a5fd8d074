"""How much is spent on a search for a budget, on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pgpack.fit.effort import DEFAULT, LEVELS

from .numbers import WholeNumber


def effort_option(says: str) -> Callable[[Any], Any]:
    """The flag --effort, with what its help says first."""
    return click.option(
        "--effort",
        type=WholeNumber(0, len(LEVELS) - 1),
        metavar="0..9",
        help=f"{says}, from no text to calibrate on (0) to the smallest file (9); {DEFAULT} unless given.",
    )
