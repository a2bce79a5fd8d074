"""`pgtrain curve`: loss curves of one or more runs as one picture."""

from __future__ import annotations

from pathlib import Path

import click

from pgpack.tables import counted

from ..options.output import output_option
from ..options.types import PATH
from ..screen.output import Screen, claim_output, require_suffix, screen_options


@click.command("curve", epilog="\b\nExamples:\n  pgtrain curve wide.log.jsonl narrow.log.jsonl -o curves.svg")
@click.argument("logs", nargs=-1, required=True, type=PATH)
@output_option(required=True, type=PATH, help="SVG file to write.")
@click.option("--force", is_flag=True, help="Replace the picture if it exists.")
@screen_options
def command(*, logs: tuple[Path, ...], out: Path, force: bool, screen: Screen) -> None:
    """Draw training loss and bits per byte of LOGS (OUT.log.jsonl of `pgtrain run`) against training tokens."""
    require_suffix(out, ".svg")
    claim_output(out, force)
    for log in logs:
        if log.is_dir():
            raise click.UsageError(f"{log} is a folder; name the OUT.log.jsonl of `pgtrain run` in it")
    from pgtrain.training.loss_curve import read_curve, write_curves

    curves = [read_curve(log) for log in logs]
    write_curves(out, curves)
    rows = [
        {"name": c.name, "steps_drawn": len(c.losses), "loss": c.losses[-1][1], "val_bpb": dict(c.measured)}
        | ({"damaged_lines": c.n_damaged} if c.n_damaged else {})
        for c in curves
    ]
    for curve in curves:
        if curve.n_damaged:
            screen.note(f"{curve.name}: {counted(curve.n_damaged, 'damaged line')} of its log left out")
    if screen.as_json or not screen.quiet:
        said = f"{len(curves)} {'run' if len(curves) == 1 else 'runs'} drawn in {out}"
        screen.show({"picture": str(out), "runs": rows}, said)
