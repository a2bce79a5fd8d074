"""Where a command writes: -o, --output everywhere. An older spelling still works and is not shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OLDER = "--out"


class OutputOption(click.Option):
    """An option whose older spelling is taken, and named neither in help, nor in errors, nor by completion."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown, self.opts = self.opts, [OLDER, *self.opts]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown


def output_option(**attributes: Any) -> Callable[[Any], Any]:
    """The flag -o, --output, whose value a command receives as `out`."""
    return click.option("-o", "--output", "out", cls=OutputOption, **attributes)
