"""`pgpack eval`: bits per byte of a checkpoint or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions

from ..options.text import bench_of, text_options
from ..screen.output import emit_json, format_bytes, shared_options

if TYPE_CHECKING:
    from pgpack.unpack import Unpacked

EPILOG = """\b
Examples:
  pgpack eval model.safetensors
  pgpack eval model.pgpack --checkpoint model.safetensors
  pgpack eval final_model.int8.ptz --model adapter.py:build --val 'fineweb_val_*.bin' \\
      --tokenizer fineweb_1024_bpe.model --seq-len 1024
"""


@click.command("eval", epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Model and text of the artifact, and KL to it.")
@text_options
@shared_options
def command(*, file: Path, checkpoint: Path | None, text: BenchOptions, as_json: bool, quiet: bool) -> None:
    """Bits per byte of FILE, a checkpoint or an artifact.

    An artifact holds no text, and its model only where it was a folder: give --checkpoint (the loss is then compared
    with it, by KL), or the text flags.
    """
    from pgpack.bench.artifact import ArtifactFile, open_either
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.checkpoint.checkpoint import from_tensors
    from pgpack.checkpoint.files import weight_files
    from pgpack.unpack import check_digest

    found = open_either(file, text.base)
    unpacked: Unpacked | None = None
    n_bytes = found.n_bytes if isinstance(found, ArtifactFile) else sum(p.stat().st_size for p in weight_files(file))
    if isinstance(found, ArtifactFile):
        unpacked = found.unpacked
        check_digest(unpacked)
        subject = from_tensors(unpacked.tensors(), source=str(file), companions=unpacked.companions)
    else:
        subject = found
    reference = open_merged(checkpoint, text.base) if checkpoint else None
    whole = bool(text.tokenizer or subject.companions)
    if unpacked is not None and reference is None and not (text.names_text and whole):
        raise click.UsageError(
            f"{file} is an artifact and holds no text, nor a model unless it was a model folder; give --checkpoint "
            "FILE, or --text PATH, and without a model --tokenizer FILE.model, --seq-len N and, unless it is "
            "a pgtrain model, --model FILE.py:build"
        )
    bench = bench_of(checkpoint or file, reference or subject, text, quiet)
    evaluator = bench.evaluator if reference else bench.text.evaluator()
    loss = evaluator.evaluate(dict(subject.items()))
    if as_json:
        document: dict[str, Any] = {"file": str(file), "kind": unpacked.kind if unpacked else "checkpoint"}
        emit_json({**document, "n_bytes": n_bytes, **loss.as_row(), "evaluator_digest": evaluator.digest})
        return
    click.echo(f"bpb     {loss.bpb:.6f}")
    click.echo(f"nats    {loss.nats:.6f} per token")
    if loss.kl is not None:
        click.echo(f"kl      {loss.kl:.6f} nats per token to {checkpoint}")
    click.echo(f"text    {loss.n_tokens:,} tokens, {loss.n_text_bytes:,} bytes, {loss.eval_s:.1f} s")
    click.echo(f"size    {format_bytes(n_bytes)}, {unpacked.kind if unpacked else 'checkpoint'}")
