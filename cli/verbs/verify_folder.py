"""`pgpack verify DIR`: the referee's checklist over a submission folder."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import click

from pgpack.bench.options import BenchOptions
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.errors import PgpackError
from pgpack.referee.evidence import CAP, Evidence, Options, collect
from pgpack.referee.options import FolderOptions
from pgpack.referee.probes import measure
from pgpack.referee.runs import Limits
from pgpack.referee.scoring import Scores
from pgpack.referee.verdict import as_document, checklist, judged

from ..options.text import bench_of
from ..screen.output import Screen


def verify_folder(
    folder: Path,
    checkpoint: Path | None,
    budget: int | None,
    evaluate: bool,
    text: BenchOptions,
    flags: FolderOptions,
    screen: Screen,
) -> bool:
    """Print the checklist, or its JSON, and say whether the folder is accepted."""
    loaded = load_checkpoint(checkpoint) if checkpoint else None
    shapes = None if loaded is None else {name: tuple(shape) for name, shape in loaded.shapes.items()}
    limits = Limits(timeout_s=flags.timeout_s)
    evidence = collect(folder, Options(CAP if budget is None else budget, shapes, limits=limits))
    if evaluate or flags.scorer:
        evidence = dataclasses.replace(evidence, scores=_scores(evidence, loaded, text, flags, screen))
    verdict = judged(evidence, strict=flags.strict)
    screen.show(as_document(verdict), checklist(verdict))
    return verdict.ok


def _scores(
    evidence: Evidence, checkpoint: Checkpoint | None, text: BenchOptions, flags: FolderOptions, screen: Screen
) -> Scores:
    """What was measured; why nothing was, when that is impossible. Usage error when no text was named.

    What the flags leave open, such as the text, is what the `checkpoint` names.
    """
    try:
        return measure(evidence, checkpoint, partial(bench_of, options=text, screen=screen), flags)
    except PgpackError as error:
        if text.val is None:
            raise click.UsageError(f"{error}") from None
        return Scores(fault=str(error))
