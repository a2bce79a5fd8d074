"""`pgpack verify DIR`: the referee's checklist over a submission folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pgpack.bench.options import BenchOptions
from pgpack.bench.workpiece import Workpiece
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.errors import PgpackError
from pgpack.referee.evidence import CAP, Evidence, Options, collect
from pgpack.referee.options import FolderOptions
from pgpack.referee.probes import measure
from pgpack.referee.runs import Limits
from pgpack.referee.scoring import Scores
from pgpack.referee.verdict import as_document, checklist, judged

from ..options.text import bench_of
from ..screen.output import emit_json


def verify_folder(
    folder: Path,
    checkpoint: Path | None,
    budget: int | None,
    evaluate: bool,
    text: BenchOptions,
    flags: FolderOptions,
    as_json: bool,
    quiet: bool,
) -> bool:
    """Print the checklist, or its JSON, and say whether the folder is accepted."""
    loaded = load_checkpoint(checkpoint) if checkpoint else None
    shapes = None if loaded is None else {name: tuple(shape) for name, shape in loaded.shapes.items()}
    limits = Limits(timeout_s=flags.timeout_s)
    evidence = collect(folder, Options(CAP if budget is None else budget, shapes, limits=limits))
    if evaluate or flags.scorer:
        evidence = dataclasses.replace(evidence, scores=_scores(evidence, loaded, text, flags, quiet))
    verdict = judged(evidence, strict=flags.strict)
    if as_json:
        emit_json(as_document(verdict))
    else:
        click.echo(checklist(verdict))
    return verdict.ok


def _scores(
    evidence: Evidence, checkpoint: Checkpoint | None, text: BenchOptions, flags: FolderOptions, quiet: bool
) -> Scores:
    """What was measured; why nothing was, when that is impossible. Usage error when no text was named.

    What the flags leave open, such as the text, is what the `checkpoint` names.
    """

    def opened(path: Path, tensors: Checkpoint) -> Workpiece:
        return bench_of(path, tensors, text, quiet)

    try:
        return measure(evidence, checkpoint, opened, flags)
    except PgpackError as error:
        if not text.names_text:
            raise click.UsageError(f"{error}") from None
        return Scores(fault=str(error))
