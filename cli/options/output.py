"""Where a command writes: -o, --output everywhere. Older spellings still work and are not shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class OutputOption(click.Option):
    """An option whose first spelling is an older one: taken, and named neither in help nor in errors."""

    @property
    def shown(self) -> list[str]:
        return [name for name in self.opts if name in ("-o", "--output")]

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        kept, self.opts = self.opts, self.shown
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = kept

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return " / ".join(f"'{name}'" for name in self.shown)


def output_option(**attributes: Any) -> Callable[[Any], Any]:
    """The flag -o, --output, whose value a command receives as `out`; --out is its older spelling."""
    return click.option("--out", "-o", "--output", "out", cls=OutputOption, **attributes)
