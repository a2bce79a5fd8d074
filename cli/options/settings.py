"""The name of a preset on the command line."""

from __future__ import annotations

import click

from pgtrain.changed_fields import nearest
from pgtrain.presets import PRESETS


def preset_name(value: str) -> str:
    """The name of a preset; a wrong one is answered with the nearest."""
    if value not in PRESETS:
        raise click.BadParameter(f"{value!r} is not a preset{nearest(value, PRESETS)}; `pgtrain ls` shows all")
    return value
