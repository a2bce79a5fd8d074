"""`pgpack plan`: what a recipe does to each tensor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.tables import clipped, shape_text, table

from ..options.recipe import chosen_recipe, one_of, recipe_options
from ..options.text import base_option
from ..screen.output import emit_json, format_bytes, note, shared_options

if TYPE_CHECKING:
    from pgpack.plan import Plan

EPILOG = """\b
Examples:
  pgpack plan model.safetensors --preset sdclip-brotli
  pgpack plan model.safetensors --recipe 'role:control=cast; *=gptq(bits=6,clip=12.85)|rans'
  pgpack plan model.safetensors --recipe best.toml --json
  pgpack plan model.safetensors --recipe '*=tcq(step=0.0002)|rans_scaled' --calibration hessians.safetensors
"""


@click.command("plan", epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@recipe_options
@click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE", help="Show what `tcq` allocates from it."
)
@base_option
@shared_options
def command(
    *,
    checkpoint: Path,
    recipe: str | None,
    preset: str | None,
    passthrough: int | None,
    calibration: Path | None,
    base: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """What a recipe does to each tensor of CHECKPOINT, and an estimate of the bytes.

    Works on the weights alone: no text is read and nothing is calibrated. The estimate is the order-0 entropy of
    sampled rows plus side information; only `pack` measures. What tcq makes of a checkpoint that names its text needs
    calibration, and no number is given without; of another one it is that of packing without text. With --calibration
    FILE (of `pgpack calibrate`) matrices quantized by tcq show their allocation: the middle step, how far steps of
    columns and rows go from it in octaves, and the bits of Gaussian weights under it. Nothing is quantized.
    """
    one_of({"--recipe": recipe, "--preset": preset})
    from pgpack.calibration.calibration import load_calibration
    from pgpack.calibration.coverage import covered
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.plan import plan

    loaded = open_merged(checkpoint, base)
    observed = load_calibration(calibration) if calibration is not None else None
    chosen = chosen_recipe(recipe, preset, passthrough, loaded.stored_shapes)
    if observed is not None or "data_defaults" not in loaded.metadata:
        whole = covered(loaded, chosen, observed)
        note(whole.note, quiet or not whole.note)
        chosen, observed = whole.applied.recipe, whole.calibration
    planned = plan(loaded, chosen, observed)
    for line in loaded.notes:
        note(line, quiet)
    if as_json:
        emit_json(_document(planned))
        return
    click.echo(_table(planned))
    if any(tensor.allocation for tensor in planned.tensors):
        click.echo(_allocations(planned))
    for alias, stored in planned.aliases.items():
        click.echo(f"{alias} is tied to {stored} and costs nothing")
    if planned.needs_hessian and observed is None:
        count = planned.recipe.calib.count
        note(
            f"{len(planned.needs_hessian)} tensors need Hessians, from {count:,} tokens or --calibration FILE", quiet
        )


def _table(planned: Plan) -> str:
    rows = [
        (
            tensor.name,
            tensor.role,
            shape_text(tensor.shape),
            clipped(tensor.policy, 56),
            None if tensor.ideal_bits is None else round(tensor.ideal_bits / 8),
            None if tensor.ideal_bits is None else tensor.ideal_bits / max(1, tensor.numel),
        )
        for tensor in planned.tensors
    ]
    lines = table(("tensor", "role", "shape", "policy", "est. bytes", "bits/weight"), rows)
    total = f"{planned.numel:,} weights, "
    if planned.ideal_bits is None:
        total += (
            "the bytes need calibration: the step of tcq is a loss, and what it buys only --calibration FILE shows"
        )
    else:
        n_bytes, bits = round(planned.ideal_bits / 8), planned.ideal_bits / max(1, planned.numel)
        total += f"estimated {format_bytes(n_bytes)}, {bits:.3f} bits per weight"
    return f"{lines}\n{total}\nrecipe {planned.recipe.digest[:16]}  {planned.recipe}"


def _allocations(planned: Plan) -> str:
    """Steps of the trellis-coded matrices; octaves as the least and largest factor on the step."""
    rows = [
        (
            tensor.name,
            f"{each.step:.4g}",
            f"{each.columns[0]:+.2f} to {each.columns[1]:+.2f}",
            f"{each.rows[0]:+.2f} to {each.rows[1]:+.2f}",
            each.ideal_bits / max(1, tensor.numel),
        )
        for tensor in planned.tensors
        if (each := tensor.allocation)
    ]
    return "\n" + table(("allocation", "step", "columns, octaves", "rows, octaves", "bits/weight"), rows)


def _document(planned: Plan) -> dict[str, object]:
    return {
        "recipe": str(planned.recipe),
        "recipe_digest": planned.recipe.digest,
        "numel": planned.numel,
        "ideal_bits": planned.ideal_bits,
        "aliases": planned.aliases,
        "needs_hessian": list(planned.needs_hessian),
        "tensors": [
            {
                "name": tensor.name,
                "role": tensor.role,
                "shape": list(tensor.shape),
                "numel": tensor.numel,
                "policy": tensor.policy,
                "needs_hessian": tensor.needs_hessian,
                "ideal_bits": tensor.ideal_bits,
                "allocation": dataclasses.asdict(tensor.allocation) if tensor.allocation else None,
            }
            for tensor in planned.tensors
        ],
    }
