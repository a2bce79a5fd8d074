"""`pgpack unpack`: artifact -> checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from ..options.types import PATH
from ..screen.output import Screen, refuse_overwrite, screen_options

EPILOG = """\b
Examples:
  pgpack unpack model.pgpack -o decoded.safetensors
  pgpack unpack final_model.int8.ptz -o decoded.pt
  pgpack unpack model.pgpack --banked -o final_model.pt
"""


@click.command("unpack", epilog=EPILOG)
@click.argument("artifact", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="File to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("safetensors", "pt")),
    help="By default what OUT's name says: .pt and .pth are torch files, all others safetensors.",
)
@click.option(
    "--banked", is_flag=True, help="Matrices in banks (qo_bank, kv_bank, ...), as banked scripts load them."
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@screen_options
def command(*, artifact: Path, out: Path, form: str | None, banked: bool, force: bool, screen: Screen) -> None:
    """Decode ARTIFACT (ours or one of the field's formats) to named float32 tensors.

    Names and shapes are those of the checkpoint, tied names included; artifacts hold banks as one matrix per layer,
    and --banked puts them together again. The checkpoint's metadata (its model and text) is not part of an artifact.
    Nothing is written when the decoded weights fail their digest.
    """
    from pgpack.bench.artifact import open_artifact

    refuse_overwrite(out, force, artifact)
    opened = open_artifact(artifact)
    tensors, unpacked = opened.unpack(out, form, banked), opened.unpacked
    values = sum(array.size for array in tensors.values())
    document = {"artifact": str(artifact), "kind": unpacked.kind, "out": str(out), "tensors": len(tensors)}
    screen.show(
        {**document, "values": values, "aliases": unpacked.aliases, "weights_digest": opened.digest},
        f"{len(tensors)} tensors, {values:,} values, weights digest {opened.digest[:16]}",
        f"written to {out}",
    )
