"""`pgpack plan`: what a recipe does to each tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.tables import clipped, counted, shape_text, table

from ..options.recipe import RecipeFlags, one_of, recipe_options
from ..options.text import opening_options
from ..options.types import PATH
from ..screen.checkpoint import said_of_config
from ..screen.output import Screen, format_bytes, picked, screen_options

if TYPE_CHECKING:
    from pgpack.bench.options import Opening
    from pgpack.plan import Plan

EPILOG = """\b
Examples:
  pgpack plan model.safetensors --preset sdclip-brotli
  pgpack plan model.safetensors --recipe 'role:control=cast; *=gptq(bits=6,clip=12.85)|rans'
  pgpack plan model.safetensors --recipe best.toml --json
  pgpack plan model.safetensors --recipe '*=tcq(step=0.0002)|rans_scaled' --calibration hessians.safetensors
"""


@click.command("plan", epilog=EPILOG)
@click.argument("checkpoint", type=PATH)
@recipe_options
@click.option("--calibration", type=PATH, metavar="FILE", help="Show what `tcq` allocates from it.")
@opening_options
@screen_options
def command(
    *, checkpoint: Path, recipe: RecipeFlags, calibration: Path | None, opening: Opening, screen: Screen
) -> None:
    """What a recipe does to each tensor of CHECKPOINT, and an estimate of the bytes.

    Works on the weights alone: no text is read and nothing is calibrated. The estimate is the order-0 entropy of
    sampled rows plus side information; only `pack` measures. What tcq makes of a checkpoint that names its text needs
    calibration, and no number is given without; of another one it is that of packing without text. With --calibration
    FILE (of `pgpack calibrate`) matrices quantized by tcq show their allocation: the middle step, how far steps of
    columns and rows go from it in octaves, and the bits of Gaussian weights under it. Nothing is quantized.
    """
    one_of(recipe.named)
    from pgpack.calibration.calibration import load_calibration
    from pgpack.calibration.coverage import covered
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.plan import plan

    loaded = open_merged(checkpoint, opening.base, opening.key)
    observed = load_calibration(calibration) if calibration is not None else None
    chosen = recipe.read(loaded.stored_shapes)
    if observed is not None or "data_defaults" not in loaded.metadata:
        whole = covered(loaded, chosen, observed)
        if whole.note:
            screen.note(whole.note)
        chosen, observed = whole.applied.recipe, whole.calibration
    planned = plan(loaded, chosen, observed)
    for line in (*loaded.notes, *said_of_config(loaded)):
        screen.note(line)
    screen.show(_document(planned), *_lines(planned))
    if planned.needs_hessian and observed is None and not screen.as_json:
        count = planned.recipe.calib.count
        needy = counted(len(planned.needs_hessian), "tensor")
        screen.note(f"Hessians are needed of {needy}, from {count:,} tokens or --calibration FILE")


def _lines(planned: Plan) -> Iterator[str]:
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
    yield table(("tensor", "role", "shape", "policy", "est. bytes", "bits/weight"), rows)
    total = "the bytes need calibration: the step of tcq is a loss, and what it buys only --calibration FILE shows"
    if planned.ideal_bits is not None:
        n_bytes, bits = round(planned.ideal_bits / 8), planned.ideal_bits / max(1, planned.numel)
        total = f"estimated {format_bytes(n_bytes)}, {bits:.3f} bits per weight"
    yield f"{planned.numel:,} weights, {total}"
    if planned.companion_bytes:
        yield f"and {format_bytes(planned.companion_bytes)} for config and tokenizer, which --weights-only leaves out"
    yield f"recipe {planned.recipe.digest[:16]}  {planned.recipe}"
    if any(tensor.allocation for tensor in planned.tensors):
        yield ""
        yield _allocations(planned)
    for alias, stored in planned.aliases.items():
        yield f"{alias} is tied to {stored} and costs nothing"


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
    return table(("allocation", "step", "columns, octaves", "rows, octaves", "bits/weight"), rows)


def _document(planned: Plan) -> dict[str, object]:
    columns = ("name", "role", "shape", "numel", "policy", "needs_hessian", "ideal_bits", "allocation")
    return {
        "recipe": str(planned.recipe),
        "recipe_digest": planned.recipe.digest,
        **picked(planned, "numel", "ideal_bits", "companion_bytes", "aliases", "needs_hessian"),
        "tensors": [picked(tensor, *columns) for tensor in planned.tensors],
    }
