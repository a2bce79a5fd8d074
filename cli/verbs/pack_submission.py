"""`pgpack pack ... --submission DIR`: checkpoints, training script and logs -> a submission folder."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from pgpack.bench.packing import fit_packed, pack_recipe
from pgpack.bench.workpiece import Workpiece
from pgpack.errors import CheckpointError, DataError, StudyError, SubmissionError
from pgpack.fit.effort import Effort
from pgpack.study.frontier import Metric
from pgpack.study.study import Study
from pgpack.submission.folder import folder_files, write_folder
from pgpack.submission.making import DECODER_BYTES, Order, Plan, make_submission, plan_submission
from pgpack.submission.submission import About, RunResult, Submission
from pgpack.tables import table

from ..options.recipe import RecipeFlags
from ..options.submission import SubmissionFlags
from ..screen.output import Screen, claim, picked


def run_submission(
    checkpoints: Sequence[Path],
    bench: Callable[[Path], Workpiece],
    recipe: RecipeFlags,
    budget: int | None,
    effort: Effort,
    metric: Metric | None,
    flags: SubmissionFlags,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Plan, pack, write, show. `effort`, `metric`: of a search."""
    if flags.study is not None and not dry_run:
        _require_study_of(flags.study, checkpoints, bench)
    order = _order(checkpoints, flags, budget)
    if not dry_run:
        claim(order.target)
    plan = plan_submission(order, screen.note)
    if dry_run:
        _show_plan(plan, screen)
        return
    plan.order.about.require_names()
    packers = [partial(_run_of, path, bench, recipe, effort, metric) for path in checkpoints]
    submission = make_submission(plan, packers, not recipe.is_given, screen.note)
    files = folder_files(submission)
    write_folder(plan.order.target, files)
    _show_submission(submission, plan.order.target, list(files), screen)


def _run_of(
    path: Path,
    bench: Callable[[Path], Workpiece],
    recipe: RecipeFlags,
    effort: Effort,
    metric: Metric | None,
    n_bytes: int,
) -> RunResult:
    """The artifact of one checkpoint, of at most so many bytes where no recipe is given."""
    piece = bench(path)
    if not recipe.is_given:
        packed = fit_packed(piece, n_bytes, effort, [], metric)
    else:
        chosen = recipe.read(piece.checkpoint.stored_shapes)
        try:
            piece.measurer()
        except (DataError, CheckpointError) as error:
            if piece.options.names_text:
                raise
            piece.note(f"no loss is measured ({error})")
            packed = pack_recipe(piece, chosen, evaluate=False)
        else:
            packed = pack_recipe(piece, chosen, evaluate=True)
    before = piece.measurer().fp32_loss() if packed.loss is not None else None
    n_params = piece.checkpoint.n_params
    return RunResult(None, packed.artifact.data, str(packed.recipe), n_params, None, packed.loss, before)


def _require_study_of(directory: Path, checkpoints: Sequence[Path], bench: Callable[[Path], Workpiece]) -> None:
    """Raises StudyError when the study in `directory` is of none of the checkpoints."""
    meta = Study.load(directory).meta
    studied = [each.checkpoint_digest for each in meta.checkpoints]
    given = [bench(path).checkpoint.digest for path in checkpoints]
    if not set(studied) & set(given):
        raise StudyError(
            f"{directory} is a study of checkpoint {studied[0]} ({meta.checkpoint}), but {checkpoints[0]} is "
            f"checkpoint {given[0]}; give a study of it as --study, or leave --study out"
        )


def _order(checkpoints: Sequence[Path], flags: SubmissionFlags, budget: int | None) -> Order:
    """What the flags ask for. Usage error when they do not belong together."""
    assert flags.submission is not None
    if flags.train_script is None:
        raise click.UsageError("--submission needs --train-script FILE.py; its bytes count")
    try:
        return Order(
            flags.submission,
            checkpoints,
            flags.train_script,
            _source_of(flags.train_script),
            flags.log,
            flags.seed,
            flags.code == "raw",
            _read_about(flags.about),
            flags.requirements,
            flags.study,
            **({} if budget is None else {"budget": budget}),
        )
    except SubmissionError as error:
        raise click.UsageError(str(error)) from None


def _read_about(path: Path | None) -> About:
    """What --about says. Usage error when it is not a JSON object of known texts."""
    today = datetime.date.today().isoformat()
    if path is None:
        return About(date=today)
    known = [field.name for field in dataclasses.fields(About)]
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--about {path}: not JSON ({error})") from None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise click.UsageError(f"--about {path}: give an object of texts with {', '.join(known)}")
    if unknown := sorted(set(values) - set(known)):
        raise click.UsageError(f"--about {path}: {unknown[0]} is not one of {', '.join(known)}")
    return About(**{"date": today, **values})


def _source_of(script: Path) -> str:
    """The script with its own line ends, without a byte order mark. Raises click.UsageError unless it is UTF-8."""
    try:
        return script.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{script} is not UTF-8; save it in that encoding, then pack it") from None


def _show_plan(plan: Plan, screen: Screen) -> None:
    """What would be done, for --dry-run."""
    document: dict[str, Any] = {
        "submission": str(plan.order.target),
        "checkpoints": [str(path) for path in plan.order.checkpoints],
        "seeds": list(plan.order.seeds),
        "budget": plan.order.budget,
        "code": {"form": plan.train.form, "given": len(plan.train.given), **plan.train.conventions},
        "decoder_estimate": DECODER_BYTES,
        "weights_budget": plan.weights_budget,
    }
    lines = []
    for key, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {n:,}" if isinstance(n, int) else f"{n}" for name, n in value.items())
        lines.append(f"{key:18} {f'{value:,}' if isinstance(value, int) else re.sub(r'[][]', '', str(value))}")
    screen.show(document, *lines)


def _show_submission(submission: Submission, directory: Path, files: Sequence[str], screen: Screen) -> None:
    """What was written."""
    decoder = {
        "readable": len(submission.decoder.readable.encode()),
        "minified": len(submission.decoder.code.encode()),
        "shipped": len(submission.code[1].shipped),
    }
    document = {"submission": str(directory), "files": sorted(files), **picked(submission, "spare", "spread")}
    rows = [
        (f"{code.name} ({code.form})", *(f"{n:,}" for n in (len(code.given), *code.conventions.values())))
        for code in submission.code
    ]
    conventions = submission.conventions
    rows += [(run.model_name, "", *[f"{len(run.artifact):,}"] * len(conventions)) for run in submission.runs]
    rows.append(("total", "", *(f"{n + submission.n_model:,}" for n in conventions.values())))
    losses = [
        f"loss      {run.loss.bpb:.6f} bits per byte, {run.before.bpb:.6f} before ({run.model_name})"
        for run in submission.runs
        if run.loss is not None and run.before is not None
    ]
    screen.show(
        {**document, "decoder": decoder, **submission.document()},
        table(("bytes", "as written", *conventions), rows),
        *losses,
        f"spare     {submission.spare:,} of {submission.budget:,} bytes; seeds spread over {submission.spread:,}",
        f"written to {directory}: {', '.join(sorted(files))}",
        f"next      fill in README.md and submission.json, then: pgpack verify {shlex.quote(str(directory))}",
    )
