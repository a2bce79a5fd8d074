"""`pgpack calibrate`: Hessians and Fisher weights of a checkpoint as one safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions

from ..options.text import bench_of, text_options
from ..screen.output import emit_json, format_bytes, refuse_overwrite, shared_options

if TYPE_CHECKING:
    from pgpack.calibration.calibration import Calibration
    from pgpack.checkpoint.checkpoint import Checkpoint

EPILOG = """\b
Examples:
  pgpack calibrate model.safetensors -o hessians.safetensors
  pgpack calibrate model.safetensors -o hessians.safetensors --tokens 1000000 --device cuda
  pgpack pack model.safetensors --budget 16MB --calibration hessians.safetensors -o model.pgpack
"""


@click.command("calibrate", epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--tokens", type=click.IntRange(1), default=32_768, show_default=True, help="Tokens to run.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@text_options
@shared_options
def command(
    *, checkpoint: Path, out: Path, tokens: int, force: bool, text: BenchOptions, as_json: bool, quiet: bool
) -> None:
    """Run CHECKPOINT on its calibration text and write what GPTQ and its kin need to know of every matrix.

    The file is plain safetensors: NAME.hessian (in, in) and NAME.fisher (out,). Every matrix that was not seen is
    listed: recipes that need its Hessian will refuse to run.
    """
    refuse_overwrite(out, force, checkpoint)
    if text.calibration is not None:
        raise click.UsageError("--calibration names a finished file; leave it out to write one")
    from pgpack.calibration.calibration import save_calibration
    from pgpack.checkpoint.adapter import open_merged

    loaded = open_merged(checkpoint, text.base)
    calibration = bench_of(checkpoint, loaded, text, quiet).observe(tokens)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_calibration(out, calibration)
    missing = _without_hessian(calibration, loaded)
    _show(out, calibration, loaded, missing, as_json)


def _without_hessian(calibration: Calibration, checkpoint: Checkpoint) -> Sequence[str]:
    """Matrices of the checkpoint that were never multiplied with; control tensors are not matrices."""
    from pgpack.calibration.observe import uncovered
    from pgpack.tensors.roles import role_of

    names = uncovered(calibration, checkpoint.stored_shapes)
    return [name for name in names if role_of(name, checkpoint.shapes[name]) != "control"]


def _show(out: Path, calibration: Calibration, checkpoint: Checkpoint, missing: Sequence[str], as_json: bool) -> None:
    matrices = len(calibration.names) + len(missing)
    if as_json:
        document: dict[str, Any] = {
            "calibration": str(out),
            "calibration_digest": calibration.digest,
            "token_digest": calibration.token_digest,
            "n_tokens": calibration.n_tokens,
            "hessians": list(calibration.names),
            "without_hessian": list(missing),
            "n_bytes": out.stat().st_size,
        }
        emit_json(document)
        return
    click.echo(f"coverage  {len(calibration.names)} of {matrices} matrices have a Hessian")
    for name in missing:
        click.echo(f"NO HESSIAN  {name} {checkpoint.shapes[name]}: the model never multiplied with it", err=True)
    click.echo(f"tokens    {calibration.n_tokens:,}, digest {calibration.token_digest[:16]}")
    click.echo(f"written to {out}, {format_bytes(out.stat().st_size)}, digest {calibration.digest[:16]}")
