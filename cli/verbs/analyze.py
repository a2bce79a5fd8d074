"""`pgpack analyze`: what the weights of a checkpoint say about how its blocks are used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.files import replace_file
from pgpack.picture import PICTURE_SUFFIXES, figure_bytes
from pgpack.tables import shape_text, table

from ..options.text import opening_options
from ..options.types import PATH
from ..screen.output import Screen, claim_output, picked, screen_options

if TYPE_CHECKING:
    from pgpack.bench.options import Opening
    from pgpack.checkpoint.analysis import Analysis

SHOWN_TENSORS = 12

EPILOG = """\b
Examples:
  pgpack analyze model.safetensors
  pgpack analyze final_model.pt --json
  pgpack analyze model.safetensors -o analysis.png
"""


@click.command("analyze", epilog=EPILOG)
@click.argument("file", metavar="CKPT", type=PATH)
@click.option("-o", "--output", type=PATH, help="Write the picture as a .png or .svg file.")
@click.option("--force", is_flag=True, help="Replace the picture.")
@click.option("--all", "all_tensors", is_flag=True, help="Show every tensor, not the twelve with the largest peaks.")
@opening_options
@screen_options
def command(
    *, file: Path, output: Path | None, force: bool, all_tensors: bool, opening: Opening, screen: Screen
) -> None:
    """What the weights of CKPT say: contribution of every block, query gains, mixes, skips, lanes, projections.

    Contribution: Frobenius norm of the output projection x mean learned scale, attention and MLP. Skips: weight x
    (1 - sigmoid(gate)). Tensors: peak = largest magnitude / std, rows = largest / smallest std of a row. A checkpoint
    of any dialect that pack reads, or an artifact, whose decoded weights are looked at. What it has not got is said.
    """
    from pgpack.bench.artifact import ArtifactFile, open_either
    from pgpack.checkpoint.analysis import analyze
    from pgpack.checkpoint.checkpoint import from_tensors
    from pgpack.checkpoint.dialects import dialect_of

    if output is not None:
        if output.suffix not in PICTURE_SUFFIXES:
            raise click.UsageError(f"{output}: a picture is written as .png or .svg")
        claim_output(output, force, file)
    found = open_either(file, opening.base, key=opening.key)
    if isinstance(found, ArtifactFile):
        decoded = from_tensors(found.unpacked.tensors(), source=str(file))
        found = dataclasses.replace(decoded, dialect=dialect_of(decoded.shapes))
    analysis = analyze(found)
    if output is not None and not (analysis.blocks or analysis.skips):
        raise click.UsageError(
            f"-o {output}: the picture is of blocks and skips; {file} has none that are known here; leave -o out: "
            "tables are of any checkpoint"
        )
    if output is not None:
        from pgpack.report.analysis_plot import analysis_figure, described

        title = f"What the weights of {file.name} say"
        picture = analysis_figure(analysis, title)
        data = figure_bytes(picture, output.suffix, title=title, description=described(analysis))
        replace_file(output, data)
        screen.note(f"wrote {output}")
    screen.show(_document(analysis), *_lines(analysis, all_tensors))


def _lines(analysis: Analysis, all_tensors: bool) -> Iterator[str]:
    parts = (_blocks(analysis), _skips(analysis), _lanes(analysis), _depths(analysis), _projections(analysis))
    for part in (*parts, _tensors(analysis, all_tensors)):
        if part:
            yield from part
            yield ""
    yield f"{analysis.n_params:,} parameters, dialect {analysis.dialect}"
    yield from (f"note: {sentence}" for sentence in analysis.notes)


def _blocks(analysis: Analysis) -> list[str]:
    if not analysis.blocks:
        return []
    rows = [
        (block.label, block.attn_norm, block.attn_scale, block.attn, block.mlp_norm, block.mlp_scale, block.mlp,
         block.contribution, block.q_gain_mean, block.q_gain_std, block.keep, block.x0)
        for block in analysis.blocks
    ]  # fmt: skip
    headings = ("block", "|attn|", "scale", "attn", "|mlp|", "scale", "mlp", "total", "q gain", "std", "keep", "x0")
    text = table(headings, rows)
    if analysis.total is None:
        return [text]
    ratio = "no ratio: a contribution is not above 0" if analysis.ratio is None else f"max/min {analysis.ratio:.3g}"
    return [text, f"contribution in all {analysis.total:.4g}, {ratio}"]


def _skips(analysis: Analysis) -> list[str]:
    rows = [(f"skip {skip.row}", skip.weight, skip.gate, skip.effective) for skip in analysis.skips]
    return [table(("skip", "weight", "gate", "effective"), rows)] if rows else []


def _lanes(analysis: Analysis) -> list[str]:
    rows = [
        (f"layer {row.layer}", row.attn_to_attn, row.attn_to_mlp, row.attn_crosses, row.mlp_to_attn, row.mlp_to_mlp,
         row.mlp_crosses, row.keep_attn, row.keep_mlp)
        for row in analysis.lanes
    ]  # fmt: skip
    headings = (
        "lanes", "attn>attn", "attn>mlp", "crosses", "mlp>attn", "mlp>mlp", "crosses", "keep attn", "keep mlp",
    )  # fmt: skip
    return [table(headings, rows)] if rows else []


def _depths(analysis: Analysis) -> list[str]:
    rows = [(f"depth {depth.row}", depth.attn_scale, depth.mlp_scale) for depth in analysis.depths]
    return [table(("depth", "attn scale x", "mlp scale x"), rows)] if rows else []


def _projections(analysis: Analysis) -> list[str]:
    rows = [
        (row.name, shape_text(row.shape), row.largest, row.smallest, row.mean, row.std)
        for row in analysis.projections
    ]
    if not rows:
        return []
    text = table(("singular values", "shape", "largest", "smallest", "mean", "std"), rows)
    back = analysis.roundtrip
    if back is None:
        return [text]
    return [
        text,
        f"head_proj embed_proj is {back.residual:.4g} from the identity; "
        f"unrelated orthogonal matrices give {back.unrelated:.4g}",
    ]


def _tensors(analysis: Analysis, all_tensors: bool) -> list[str]:
    matrices = [tensor for tensor in analysis.tensors if all_tensors or tensor.role != "control"]
    chosen = sorted(matrices, key=lambda tensor: -tensor.peak)
    chosen = chosen if all_tensors else chosen[:SHOWN_TENSORS]
    rows = [
        (row.name, row.role, shape_text(row.shape), row.numel, row.std, row.peak, row.kurtosis,
         row.row_spread)
        for row in chosen
    ]  # fmt: skip
    return [table(("tensor", "role", "shape", "values", "std", "peak", "kurtosis", "rows"), rows)] if rows else []


def _document(analysis: Analysis) -> dict[str, Any]:
    computed = {
        "blocks": ("attn", "mlp", "contribution"),
        "skips": ("effective",),
        "lanes": ("attn_crosses", "mlp_crosses"),
        "tensors": ("numel",),
    }
    tables = {
        table: [{**vars(row), **picked(row, *names)} for row in getattr(analysis, table)]
        for table, names in computed.items()
    }
    return {"kind": "analysis", **vars(analysis), **tables, **picked(analysis, "total", "ratio")}
