"""`pgtrain adopt`: a public script's checkpoint -> a checkpoint that knows its model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pgpack.models.evidence import evidence_lines
from pgpack.text.text_folder import TextFolder
from pgtrain.changed_fields import changed_fields
from pgtrain.model.model_config import GPTConfig

from ..options.numbers import WholeNumber
from ..options.output import output_option
from ..options.settings import preset_name
from ..options.text import key_option
from ..options.types import PATH, require_there
from ..screen.output import Screen, claim_output, format_bytes, picked, require_suffix, screen_options


@click.command(
    "adopt",
    epilog="\b\nExamples:\n  pgtrain adopt final_model.pt --preset lanes -o model.safetensors --data text\n"
    "  pgtrain adopt final_model.pt --data text -o model.safetensors\n"
    "  pgtrain adopt final_model.pt --model embed-416 --set lane_start=8 -o model.safetensors",
)
@click.argument("source", type=PATH)
@output_option(required=True, type=PATH, help="Checkpoint to write.")
@click.option("--preset", "--model", type=preset_name, metavar="NAME", help="Its system; else --data tells it.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change a field of the system's model.")
@click.option("--seq-len", type=WholeNumber(1), metavar="N", help="Tokens per window that it was trained on.")
@click.option("--data", type=PATH, help="Folder of shards and tokenizer to evaluate it on.")
@click.option("--tokenizer", type=PATH, help="Tokenizer of the shards: a .model, a tokenizer.json or a folder.")
@click.option("--force", is_flag=True, help="Replace the checkpoint if it exists.")
@key_option
@screen_options
def command(
    *,
    source: Path,
    out: Path,
    preset: str | None,
    changes: tuple[str, ...],
    seq_len: int | None,
    data: Path | None,
    tokenizer: Path | None,
    force: bool,
    key: str | None,
    screen: Screen,
) -> None:
    """Read SOURCE, the final_model.pt of a public training script, and write it as a checkpoint of ours.

    Banks become one matrix per tensor, what the script stores and never reads is left out, and the model is recorded,
    so that every other command knows how to run it. Sizes are those of the tensors; what leaves no trace in them is
    the named system's, or told by the loss on the text of --data. pgtrain/MODEL.md says which scripts were compared.
    """
    require_suffix(out, ".safetensors")
    claim_output(out, force)

    require_there(source)
    said = changed_fields(changes, GPTConfig()) | ({} if seq_len is None else {"seq_len": seq_len})
    folder = TextFolder.open(data, tokenizer) if data else None
    from pgtrain.adopt import adopt

    adopted = adopt(source, out, preset, said, folder, key)
    found = None if adopted.identified is None else json.loads(adopted.identified.to_json())
    lines = [] if found is None else [*evidence_lines(found)]
    lines += [f"{adopted.parameters:,} parameters" + (", banks split" if adopted.was_banked else "")]
    if adopted.left_out:
        lines.append(f"left out, never read by {preset or 'it'}: {', '.join(adopted.left_out)}")
    figures = picked(adopted, "parameters", "was_banked", "left_out", "n_bytes")
    document = {"checkpoint": str(out), **figures, "model": json.loads(adopted.config.to_json()), "found": found}
    screen.show(document, *lines, f"written to {out}, {format_bytes(adopted.n_bytes)}")
