"""`pgpack eval`: bits per byte of a checkpoint or an artifact."""

from __future__ import annotations

from pathlib import Path

import click

from pgpack.bench.options import BenchOptions
from pgpack.tables import decimals

from ..options.dry_run import dry_run_option, rates_here, show_foreseen
from ..options.numbers import WholeNumber
from ..options.text import evaluator_of, text_options
from ..options.types import PATH, max_bytes_option
from ..screen.output import Screen, format_bytes, screen_options

EPILOG = """\b
Examples:
  pgpack eval model.safetensors
  pgpack eval model.pgpack --checkpoint model.safetensors
  pgpack eval final_model.int8.ptz --model adapter.py:build --val 'fineweb_val_*.bin' \\
      --tokenizer fineweb_1024_bpe.model --seq-len 1024
"""


@click.command("eval", epilog=EPILOG)
@click.argument("file", type=PATH)
@click.option("--checkpoint", type=PATH, help="Model and text of the artifact, and KL to it.")
@click.option("--loops", type=WholeNumber(0), help="Repeat the model's loop this often instead of as trained.")
@dry_run_option
@max_bytes_option
@text_options
@screen_options
def command(
    *,
    file: Path,
    checkpoint: Path | None,
    loops: int | None,
    dry_run: bool,
    max_bytes: int | None,
    text: BenchOptions,
    screen: Screen,
) -> None:
    """Bits per byte of FILE, a checkpoint or an artifact.

    An artifact holds no text, and its model only where it was a folder: give --checkpoint (the loss is then compared
    with it, by KL), or the text flags.
    """
    if dry_run:
        _show_dry_run(file, checkpoint, max_bytes, text, screen)
        return
    from pgpack.bench.artifact import ArtifactFile, open_either
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.checkpoint.checkpoint import from_tensors
    from pgpack.checkpoint.files import weight_files
    from pgpack.unpack import check_digest

    found = open_either(file, text.base, max_bytes, text.key)
    if isinstance(found, ArtifactFile):
        unpacked = found.unpacked
        check_digest(unpacked)
        kind = unpacked.kind
        subject = from_tensors(unpacked.tensors(), source=str(file), companions=unpacked.companions)
    else:
        kind, subject = "checkpoint", found
    reference = open_merged(checkpoint, text.base, text.key) if checkpoint else None
    whole = bool(text.tokenizer or subject.companions)
    if subject is not found and reference is None and not (text.names_text and whole):
        raise click.UsageError(
            f"{file} is an artifact and holds no text, nor a model unless it was a model folder; give --checkpoint "
            "FILE, or --text PATH, and without a model --tokenizer PATH, --seq-len N and, unless it is "
            "a pgtrain model, --model FILE.py:build"
        )
    evaluator = evaluator_of(file, subject, text, screen, checkpoint, reference, loops)
    loss = evaluator.evaluate(dict(subject.items()))
    n_bytes = found.n_bytes if isinstance(found, ArtifactFile) else sum(p.stat().st_size for p in weight_files(file))
    lines = [f"bpb     {loss.bpb:.6f}", f"nats    {loss.nats:.6f} per token"]
    if loss.kl is not None:
        lines.append(f"kl      {decimals(loss.kl, 6)} nats per token to {checkpoint}")
    lines.append(f"text    {loss.n_tokens:,} tokens, {loss.n_text_bytes:,} bytes, {loss.eval_s:.1f} s")
    document = {"file": str(file), "kind": kind, "n_bytes": n_bytes, **loss.as_row()}
    document["evaluator_digest"] = evaluator.digest
    screen.show(document, *lines, f"size    {format_bytes(n_bytes)}, {kind}")


def _show_dry_run(
    file: Path, checkpoint: Path | None, max_bytes: int | None, text: BenchOptions, screen: Screen
) -> None:
    from pgpack.bench.foreseen import foreseen_eval
    from pgpack.bench.rates import passes_cost

    subject = foreseen_eval(file, checkpoint, text, max_bytes)
    facts = {"file": str(file), "n_params": subject.n_values, "tokens": subject.n_evaluated}
    cost = passes_cost(subject.n_values, {"evaluate": subject.n_run}, rates_here())
    show_foreseen(screen, facts, cost, text.device)
