"""`pgtrain finetune`: a finished model -> the same model, cheaper to pack."""

from __future__ import annotations

from pathlib import Path

import click

from pgpack.bench.options import BenchOptions

from ..options.dry_run import dry_run_option, rates_here, show_foreseen
from ..options.numbers import FiniteNumber, WholeNumber
from ..options.output import output_option
from ..options.text import bench_of, text_options
from ..options.types import PATH, require_there
from ..screen.next_command import pack_command
from ..screen.output import Screen, claim, claim_output, format_bytes, picked, refuse_other_format, screen_options


@click.command(
    "finetune",
    epilog="\b\nExamples:\n  pgtrain finetune model.safetensors --for-packer 480kB -o cheaper.safetensors\n"
    "  pgtrain finetune SmolLM2-135M/ --for-packer 60MB --text books/ -o cheaper/",
)
@click.argument("checkpoint", type=PATH)
@output_option(required=True, type=PATH, help="Checkpoint, or model folder, to write.")
@click.option("--for-packer", "target", required=True, metavar="RECIPE|SIZE", help="A recipe with tcq, or 480kB.")
@click.option("--steps", type=WholeNumber(), default=200, show_default=True, help="Optimizer steps.")
@click.option(
    "--lr", type=FiniteNumber(), default=0.003, show_default=True, help="Largest change per step, of a tensor's RMS."
)
@click.option(
    "--pressure",
    type=FiniteNumber(),
    default=1.0,
    show_default=True,
    help="How hard bytes press; 1: as the packer pays.",
)
@click.option(
    "--calib-tokens",
    "n_calib",
    type=WholeNumber(),
    default=8192,
    show_default=True,
    help="Tokens of each calibration.",
)
@click.option("--seed", type=WholeNumber(), default=0, show_default=True, help="Seed of the order of batches.")
@dry_run_option
@click.option("--force", is_flag=True, help="Replace what is there.")
@text_options
@screen_options
def command(
    *, checkpoint: Path, out: Path, target: str, steps: int, lr: float, pressure: float, n_calib: int, seed: int,
    dry_run: bool, force: bool, text: BenchOptions, screen: Screen,
) -> None:  # fmt: skip
    """Train CHECKPOINT on its calibration text, so that packed it is nearer to what it is now at the same bytes.

    A checkpoint or a Hugging Face folder; what is written is plain float32 again. Nothing is written before the end.
    """
    refuse_other_format(out, ".safetensors", "safetensors")
    if not out.is_dir():
        claim_output(out, force, checkpoint, dry_run=dry_run)
    elif not dry_run:
        claim(out)
    if dry_run:
        _show_dry_run(checkpoint, out, target, steps, n_calib, text, screen)
        return

    require_there(checkpoint)
    from pgpack.bench.retraining import Retraining
    from pgpack.checkpoint.adapter import open_merged
    from pgtrain.finetune import FinetuneConfig, finetune

    config = FinetuneConfig(steps, lr, pressure, seed=seed)
    bench = bench_of(checkpoint, open_merged(checkpoint, text.base, text.key), text, screen)
    work = Retraining(bench, n_calib)
    try:
        work.refuse_occupied(out, force)
    except FileExistsError as error:
        raise click.UsageError(f"{out} {error.strerror}") from None
    tokens, opened = bench.calib_tokens("training for the packer"), bench.text
    screen.note(f"{steps} steps for {target}")
    result = finetune(
        bench.checkpoint, target, opened.build, work.observe, tokens, opened.seq_len, config, device=opened.device
    )
    work.write(out, result.tensors, {"for_packer": result.recipe}, force)
    document = {"checkpoint": str(out), **picked(result, "recipe", "n_bytes", "kl")}
    screen.show(
        document,
        f"expected {format_bytes(round(result.n_bytes))} packed, KL {result.kl:.4g} nats per token",
        f"written to {out}",
        f"pack it: {pack_command(out, str(result.recipe), text)}",
    )


def _show_dry_run(
    checkpoint: Path, out: Path, target: str, steps: int, n_calib: int, text: BenchOptions, screen: Screen
) -> None:
    """A step runs the model as it was forward, and as it is forward and backward."""
    from pgpack.bench.foreseen import foreseen_run
    from pgpack.bench.rates import BACKWARD, passes_cost
    from pgpack.refine.fresh_text import BATCH_TOKENS

    subject = foreseen_run(checkpoint, text)
    passes = {"calibrate": BACKWARD * n_calib, "train": (1 + 3) * steps * BATCH_TOKENS}
    facts = {"checkpoint": str(checkpoint), "out": str(out), "target": target, "n_params": subject.n_values}
    cost = passes_cost(subject.n_values, passes, rates_here())
    show_foreseen(screen, {**facts, "steps": steps}, cost, text.device)
