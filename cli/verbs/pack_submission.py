"""`pgpack pack ... --submission DIR`: checkpoints, training script and logs -> a submission folder."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pgpack.errors import SubmissionError
from pgpack.submission.folder import folder_files, write_folder
from pgpack.submission.making import DECODER_BYTES, Order, Packer, Plan, make_submission, plan_submission
from pgpack.submission.submission import About, Submission
from pgpack.tables import table

from ..options.submission import SubmissionFlags
from ..screen.output import emit_json, note


def run_submission(
    checkpoints: Sequence[Path],
    packers: Sequence[Packer],
    flags: SubmissionFlags,
    budget: int | None,
    search: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Plan, pack, write, show."""
    say = functools.partial(note, quiet=quiet)
    plan = plan_submission(_order(checkpoints, flags, budget), say)
    if dry_run:
        show_plan(plan, as_json)
        return
    submission = make_submission(plan, packers, search, say)
    files = folder_files(submission)
    write_folder(plan.order.target, files)
    show_submission(submission, plan.order.target, list(files), as_json)


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
    if path is None:
        return About()
    known = [field.name for field in dataclasses.fields(About)]
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.UsageError(f"--about {path}: not JSON ({error})") from None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise click.UsageError(f"--about {path}: give an object of texts with {', '.join(known)}")
    if unknown := sorted(set(values) - set(known)):
        raise click.UsageError(f"--about {path}: {unknown[0]} is not one of {', '.join(known)}")
    return About(**values)


def _source_of(script: Path) -> str:
    """The script with its own line ends, without a byte order mark. Raises click.UsageError unless it is UTF-8."""
    try:
        return script.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{script} is not UTF-8; save it in that encoding, then pack it") from None


def show_plan(plan: Plan, as_json: bool) -> None:
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
    if as_json:
        emit_json(document)
        return
    for key, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {n:,}" if isinstance(n, int) else f"{n}" for name, n in value.items())
        click.echo(f"{key:18} {f'{value:,}' if isinstance(value, int) else re.sub(r'[][]', '', str(value))}")


def show_submission(submission: Submission, directory: Path, files: Sequence[str], as_json: bool) -> None:
    """What was written."""
    spare, spread = submission.spare, submission.spread
    if as_json:
        emit_json(
            {
                "submission": str(directory),
                "files": sorted(files),
                "spare": spare,
                "spread": spread,
                "decoder": {
                    "readable": len(submission.decoder.readable.encode()),
                    "minified": len(submission.decoder.code.encode()),
                    "shipped": len(submission.code[1].shipped),
                },
                **submission.document(),
            }
        )
        return
    rows = [
        (f"{code.name} ({code.form})", *(f"{n:,}" for n in (len(code.given), *code.conventions.values())))
        for code in submission.code
    ]
    conventions = submission.conventions
    rows += [(run.model_name, "", *[f"{len(run.artifact):,}"] * len(conventions)) for run in submission.runs]
    rows.append(("total", "", *(f"{n + submission.n_model:,}" for n in conventions.values())))
    click.echo(table(("bytes", "as written", *conventions), rows))
    for run in submission.runs:
        if run.loss is not None and run.before is not None:
            click.echo(f"loss      {run.loss.bpb:.6f} bits per byte, {run.before.bpb:.6f} before ({run.model_name})")
    click.echo(f"spare     {spare:,} of {submission.budget:,} bytes; seeds spread over {spread:,}")
    click.echo(f"written to {directory}: {', '.join(sorted(files))}")
    click.echo(f"next      fill in README.md and submission.json, then: pgpack verify {directory}")
