"""`pgpack calibrate`: Hessians and Fisher weights of a checkpoint as one safetensors file."""

from __future__ import annotations

from pathlib import Path

import click

from pgpack.bench.options import BenchOptions
from pgpack.progress import waiting

from ..options.dry_run import dry_run_option, rates_here, show_foreseen
from ..options.numbers import WholeNumber
from ..options.output import output_option
from ..options.text import bench_of, text_options
from ..options.types import PATH
from ..screen.output import Screen, claim_output, format_bytes, note, picked, refuse_other_format, screen_options

EPILOG = """\b
Examples:
  pgpack calibrate model.safetensors -o hessians.safetensors
  pgpack calibrate model.safetensors -o hessians.safetensors --tokens 1000000 --device cuda
  pgpack pack model.safetensors --budget 16MB --calibration hessians.safetensors -o model.pgpack
"""


@click.command("calibrate", epilog=EPILOG)
@click.argument("checkpoint", type=PATH)
@output_option(required=True, type=PATH, help="File to write.")
@click.option("--tokens", type=WholeNumber(1), default=32_768, show_default=True, help="Tokens to run.")
@click.option("--outputs", is_flag=True, help="For tcq(group=N): also how output gradients go together.")
@dry_run_option
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@text_options
@screen_options
def command(
    *,
    checkpoint: Path,
    out: Path,
    tokens: int,
    outputs: bool,
    dry_run: bool,
    force: bool,
    text: BenchOptions,
    screen: Screen,
) -> None:
    """Run CHECKPOINT on its calibration text and write what GPTQ and its kin need to know of every matrix.

    The file is plain safetensors: NAME.hessian (in, in) and NAME.fisher (out,). Every matrix that was not seen is
    listed: recipes pack it by its weights alone, or refuse with --strict.
    """
    refuse_other_format(out, ".safetensors", "safetensors")
    claim_output(out, force, checkpoint, dry_run=dry_run)
    if text.calibration is not None:
        raise click.UsageError("--calibration names a finished file; leave it out to write one")
    if dry_run:
        _show_dry_run(checkpoint, out, tokens, text, screen)
        return
    from pgpack.bench.workpiece import OUTPUT_ROWS
    from pgpack.calibration.calibration import LOOKUP, save_calibration
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.tensors.roles import roles_of

    with waiting(not screen.quiet, f"loading {checkpoint}"):
        loaded = open_merged(checkpoint, text.base, text.key)
    bench = bench_of(checkpoint, loaded, text, screen)
    with waiting(not screen.quiet, "loading torch"):  # behind the bench, which knows what is not there
        from pgpack.calibration.observe import uncovered

    calibration = bench.observe(tokens, OUTPUT_ROWS if outputs else 0)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_calibration(out, calibration)
    names, n_bytes = calibration.names, out.stat().st_size
    unseen = uncovered(calibration, loaded.stored_shapes)
    roles = roles_of(loaded.stored_shapes)
    missing = [name for name in unseen if roles[name] != "control"]  # those are no matrices
    n_seen = len({name.removesuffix(LOOKUP) for name in names})  # a table that is the head too was seen as both
    document = {
        "calibration": str(out),
        "calibration_digest": calibration.digest,
        **picked(calibration, "token_digest", "n_tokens"),
        "hessians": names,
        "without_hessian": missing,
        "n_bytes": n_bytes,
    }
    screen.show(
        document,
        f"coverage  {n_seen} of {n_seen + len(missing)} matrices have a Hessian",
        f"tokens    {calibration.n_tokens:,}, digest {calibration.token_digest[:16]}",
        f"written to {out}, {format_bytes(n_bytes)}, digest {calibration.digest[:16]}",
    )
    for name in () if screen.as_json else missing:
        note(f"NO HESSIAN  {name} {loaded.shapes[name]}: the model never multiplied with it")


def _show_dry_run(checkpoint: Path, out: Path, tokens: int, text: BenchOptions, screen: Screen) -> None:
    from pgpack.bench.foreseen import foreseen_run
    from pgpack.bench.rates import BACKWARD, passes_cost

    subject = foreseen_run(checkpoint, text)
    matrices = [shape for shape in subject.shapes.values() if len(shape) == 2]
    facts = {"checkpoint": str(checkpoint), "calibration": str(out), "tokens": tokens, "matrices": len(matrices)}
    cost = passes_cost(subject.n_values, {"calibrate": BACKWARD * tokens}, rates_here())
    show_foreseen(screen, facts, cost, text.device)
