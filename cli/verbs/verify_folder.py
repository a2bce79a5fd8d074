"""`pgpack verify DIR`: the referee's checklist over a submission folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions

from ..screen.output import emit_json, note

if TYPE_CHECKING:
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.referee.evidence import Evidence
    from pgpack.referee.scoring import Scores


@dataclasses.dataclass(frozen=True)
class FolderFlags:
    """What only folders know: `scorer` FILE.py:score, `documents` claimed apart, warnings refused under `strict`."""

    scorer: str | None = None
    documents: bool = False
    stride: int | None = None
    strict: bool = False
    timeout_s: float = 600.0


def verify_folder(
    folder: Path,
    checkpoint: Path | None,
    budget: int | None,
    evaluate: bool,
    text: BenchOptions,
    flags: FolderFlags,
    as_json: bool,
    quiet: bool,
) -> bool:
    """Print the checklist, or its JSON, and say whether the folder is accepted."""
    from pgpack.checkpoint.checkpoint import load_checkpoint
    from pgpack.referee.evidence import CAP, Options, collect
    from pgpack.referee.runs import Limits
    from pgpack.referee.verdict import as_document, checklist, judged

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
    evidence: Evidence, checkpoint: Checkpoint | None, text: BenchOptions, flags: FolderFlags, quiet: bool
) -> Scores:
    """Measured on the first artifact that decoded behind the fence; why not, when that is impossible.

    What the flags leave open, such as the text, is what the `checkpoint` names.
    """
    from pgpack.errors import PgpackError
    from pgpack.referee.scoring import Scores

    sound = [decoded for decoded in evidence.decoded if decoded.first.ok]
    if not sound:
        return Scores(fault="nothing was decoded that could be measured")
    path = evidence.folder.path / sound[0].entry.name
    note(f"measuring {path.name}", quiet)
    from .verify_scores import measure

    try:
        return dataclasses.replace(measure(path, checkpoint, text, flags, quiet), seed=sound[0].seed)
    except PgpackError as error:
        if text.val is None:
            raise click.UsageError(f"{error}") from None
        return Scores(fault=str(error))
