"""The loss that trials are compared by, on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

METRICS = ("kl", "bpb", "nats", "error")


def metric_option(says: str) -> Callable[[Any], Any]:
    """The flag --metric, with what its help says."""
    return click.option("--metric", type=click.Choice(METRICS), help=says)
