"""`pgpack unpack`: artifact -> checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

import click

from pgpack.tables import counted

from ..options.output import output_option
from ..options.types import PATH, NamedPath, max_bytes_option
from ..screen.output import Screen, claim, claim_output, refuse_unwritable, screen_options

EPILOG = """\b
Examples:
  pgpack unpack smol.pgpack -o smol-back/
  pgpack unpack smol.pgpack -o smol-back/ --dtype bf16
  pgpack unpack smol.pgpack -o smol.gguf --type q8_0
  pgpack unpack model.pgpack -o decoded.safetensors
  pgpack unpack final_model.int8.ptz -o decoded.pt
  pgpack unpack model.pgpack --banked -o final_model.pt
"""
NO_BANKS = "--banked is of the challenge's scripts: a GGUF holds a matrix per layer"


@click.command("unpack", epilog=EPILOG)
@click.argument("artifact", type=PATH)
@output_option(required=True, type=NamedPath(), help="File to write, or folder (NAME/).")
@click.option(
    "--format",
    "--as",
    "form",
    type=click.Choice(("safetensors", "npz", "pt", "gguf", "folder")),
    help="By default what OUT's name says: .safetensors, .npz, .pt, .pth, .gguf; NAME/ a folder.",
)
@click.option(
    "--dtype",
    type=click.Choice(("f32", "f16", "bf16")),
    help="How floats are stored, in all but a GGUF [default: f32].",
)
@click.option(
    "--type", "gguf_type", type=click.Choice(("f32", "f16", "bf16", "q8_0")), help="Of matrices in a GGUF: f16."
)
@click.option(
    "--banked", is_flag=True, help="Matrices in banks (qo_bank, kv_bank, ...), as banked scripts load them."
)
@click.option("--force", is_flag=True, help="Replace the file, or the model folder, if it exists.")
@max_bytes_option
@screen_options
def command(
    *,
    artifact: Path,
    out: str,
    form: str | None,
    dtype: str | None,
    gguf_type: str | None,
    banked: bool,
    force: bool,
    max_bytes: int | None,
    screen: Screen,
) -> None:
    """Decode ARTIFACT (ours or one of the field's formats) to named tensors, or to a model folder.

    A folder is what from_pretrained of transformers loads: the weights and what was packed beside them (config,
    tokenizer, licence). A GGUF is what llama.cpp loads (Llama, Qwen2, Qwen3, GPT-2). In any other file, names and
    shapes are those of the checkpoint, tied names included; artifacts hold banks as one matrix per layer, --banked
    puts them together again. The checkpoint's metadata (its model and text) is not part of an artifact.
    Nothing is written when the decoded weights fail their digest.
    """
    from pgpack.bench.artifact import open_artifact
    from pgpack.bench.unpacking import FOLDER, GGUF, form_of, refuse_folder, write_unpacked

    path = Path(out)
    if known := form != FOLDER and path.suffix and not path.is_dir():
        claim_output(path, force, artifact)
    opened = open_artifact(artifact, max_bytes)
    form = form or form_of(out, opened.companions)
    if gguf_type and form != GGUF:
        raise click.UsageError("--type belongs to --as gguf; elsewhere --dtype says how floats are stored")
    if form == GGUF and (dtype or banked):
        idle = "--dtype is not of a GGUF: --type says how its matrices are stored" if dtype else NO_BANKS
        raise click.UsageError(idle)
    if form == FOLDER:
        refuse_unwritable(path)
        if not known:
            claim(path)
        try:
            refuse_folder(path, force)
        except FileExistsError as error:
            raise click.UsageError(f"{path} {error.strerror}") from None
    elif not known:
        claim_output(path, force, artifact)
    told, stored = {"weights_digest": opened.digest}, gguf_type or "f16" if form == GGUF else dtype or "f32"
    unpacked = opened.unpacked
    write_unpacked(path, unpacked, form, told, stored, banked, force)
    shapes = [record.shape for record in unpacked.decoded().records.values()]
    values = sum(math.prod(shape) for shape in shapes)
    document = {"artifact": str(artifact), "kind": unpacked.kind, "out": str(path), "tensors": len(shapes)}
    screen.show(
        {**document, "values": values, "aliases": dict(unpacked.aliases), "weights_digest": opened.digest},
        f"{counted(len(shapes), 'tensor')}, {values:,} values, weights digest {opened.digest[:16]}",
        f"written to {out}",
    )
