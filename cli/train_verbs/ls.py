"""`pgtrain ls`: the presets as a table."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from pgpack.tables import table
from pgtrain.model.size_estimate import ideal_artifact_bytes
from pgtrain.model.tensor_table import count_parameters
from pgtrain.presets import PRESETS, Preset

from ..screen.output import Screen, screen_options


@click.command("ls", epilog="\b\nExamples:\n  pgtrain ls\n  pgtrain ls prism --json")
@click.argument("name", required=False)
@screen_options
def command(*, name: str | None, screen: Screen) -> None:
    """List the presets of `pgtrain run`, or those whose names contain NAME.

    MB estimates the artifact at int6 with an int8 embedding, before anything is trained; `pgpack pack` measures.
    Layers are blocks, or blocks and the layers one pass makes of them. With --json every field is printed.
    """
    chosen = {key: preset for key, preset in PRESETS.items() if name is None or name in key}
    if not chosen:
        raise click.UsageError(f"no preset's name contains {name!r}; `pgtrain ls` shows all")
    headings = ("preset", "parameters", "MB", "layers", "dim", "from", "system")
    rows = [_row(key, preset) for key, preset in chosen.items()]
    screen.show([_document(key, preset) for key, preset in chosen.items()], table(headings, rows))


def _row(name: str, preset: Preset) -> tuple[str | int, ...]:
    model = preset.model
    blocks, layers = model.num_blocks, model.virtual_layers
    return (
        name,
        count_parameters(model),
        f"{ideal_artifact_bytes(model) / 1e6:5.2f}",
        f"{blocks:2}" if blocks == layers else f"{blocks:2} as {layers}",
        model.model_dim,
        preset.source or "-",
        preset.purpose,
    )


def _document(name: str, preset: Preset) -> dict[str, Any]:
    return {
        "preset": name,
        "parameters": count_parameters(preset.model),
        "ideal_artifact_bytes": ideal_artifact_bytes(preset.model),
        "source": preset.source,
        "purpose": preset.purpose,
        "model": json.loads(preset.model.to_json()),
        "training": asdict(preset.training),
    }
