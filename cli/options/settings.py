"""The name of a preset on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from pgtrain.changed_fields import nearest


class PresetName(click.ParamType[str]):
    """The name of one of `presets`; a wrong one is answered with the nearest."""

    name = "NAME"

    def __init__(self, presets: Iterable[str]) -> None:
        self.presets = tuple(presets)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.presets:
            self.fail(f"{value!r} is not a preset{nearest(value, self.presets)}; `pgtrain ls` shows all", param, ctx)
        return str(value)
