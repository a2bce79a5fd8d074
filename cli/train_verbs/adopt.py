"""`pgtrain adopt`: a public script's checkpoint -> a checkpoint that knows its model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from pgpack.text.text_folder import TextFolder
from pgtrain.changed_fields import changed_fields
from pgtrain.model.model_config import GPTConfig
from pgtrain.presets import find_preset

from ..options.settings import preset_name
from ..options.types import PATH
from ..screen.output import Screen, format_bytes, refuse_overwrite, screen_options


@click.command(
    "adopt",
    epilog="\b\nExamples:\n  pgtrain adopt final_model.pt --preset lanes -o model.safetensors --data text\n"
    "  pgtrain adopt final_model.pt --preset embed-416 --set lane_start=8 -o model.safetensors",
)
@click.argument("source", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Checkpoint to write.")
@click.option("--preset", required=True, type=preset_name, metavar="NAME", help="Its system.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change a field of the preset's model.")
@click.option("--data", type=PATH, help="Folder of shards and tokenizer to evaluate it on.")
@click.option("--tokenizer", type=PATH, help="SentencePiece .model of the shards.")
@click.option("--force", is_flag=True, help="Replace the checkpoint if it exists.")
@screen_options
def command(
    *,
    source: Path,
    out: Path,
    preset: str,
    changes: tuple[str, ...],
    data: Path | None,
    tokenizer: Path | None,
    force: bool,
    screen: Screen,
) -> None:
    """Read SOURCE, the final_model.pt of a public training script, and write it as a checkpoint of ours.

    Banks become one matrix per tensor, what the script stores and never reads is left out, and the model is recorded,
    so that every other command knows how to run it. pgtrain/MODEL.md says which scripts were compared.
    """
    if out.suffix != ".safetensors":
        raise click.UsageError(f"-o {out}: the checkpoint's name must end in .safetensors")
    refuse_overwrite(out, force)
    config = replace(find_preset(preset).model, **changed_fields(changes, GPTConfig()))
    folder = TextFolder.open(data, tokenizer) if data else None
    from pgtrain.adopt import adopt

    adopted = adopt(source, config, out, folder)
    lines = [f"{adopted.parameters:,} parameters" + (", banks split" if adopted.was_banked else "")]
    if adopted.left_out:
        lines.append(f"left out, never read by {preset}: {', '.join(adopted.left_out)}")
    document = {"checkpoint": str(out), **asdict(adopted), "model": json.loads(config.to_json())}
    screen.show(document, *lines, f"written to {out}, {format_bytes(adopted.n_bytes)}")
