"""`pgpack verify`: a checklist of what an artifact must be, or a whole submission folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions
from pgpack.referee.options import FolderOptions
from pgpack.sizes import Size

from ..options.dry_run import dry_run_option, rates_here, show_foreseen
from ..options.numbers import FiniteNumber, WholeNumber
from ..options.text import bench_of, evaluator_of, text_options
from ..options.types import PATH, max_bytes_option, resolved
from ..options.types import budget as budget_size
from ..screen.output import EXIT_FAILED, Screen, picked, screen_options

if TYPE_CHECKING:
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.loss.evaluator import Evaluator
    from pgpack.verify import Verification

EPILOG = """\b
Examples:
  pgpack verify model.pgpack --budget 16MB
  pgpack verify model.pgpack --checkpoint model.safetensors --budget 16MB --eval
  pgpack verify submission/ --json
  pgpack verify submission/ --only network --only cap
  pgpack verify --explain network
  pgpack verify submission/ --checkpoint final_model.pt --eval --val 'fineweb_val_*.bin' \\
      --tokenizer fineweb_8192_bpe.model --seq-len 2048
"""


def _explain(context: click.Context, _: click.Parameter, name: str | None) -> None:
    """Prints a rule and ends, before FILE is asked for."""
    if name is None or context.resilient_parsing:
        return
    from pgpack.errors import SettingError
    from pgpack.referee.explanations import explained

    try:
        click.echo(explained(name))
    except SettingError as error:
        raise click.UsageError(str(error)) from None
    context.exit()


@click.command("verify", epilog=EPILOG)
@click.argument("file", type=PATH)
@click.option("--checkpoint", type=PATH, help="Compare names, shapes and weights with it.")
@click.option("--budget", type=budget_size, metavar="SIZE", help="Largest size allowed, such as 16MB (decimal).")
@click.option("--eval", "evaluate", is_flag=True, help="Measure the loss of the decoded weights.")
@click.option("--scorer", metavar="FILE.py:score", help="Folder: score(state_dict, ids) -> nats, learning included.")
@click.option("--documents", is_flag=True, help="Folder: no context crosses the start of a document; test that.")
@click.option("--stride", type=WholeNumber(1), help="Folder: slide the window by this many tokens.")
@click.option("--only", metavar="RULE", multiple=True, help="Folder: judge this rule alone (repeatable).")
@click.option(
    "--explain",
    metavar="RULE",
    callback=_explain,
    is_eager=True,
    expose_value=False,
    help="Say what a rule looks for, with an example that fails and one that passes.",
)
@click.option("--strict", is_flag=True, help="Folder: a warning refuses as well.")
@click.option("--timeout", "timeout_s", type=FiniteNumber(1), default=600.0, help="Seconds per decode.")
@dry_run_option
@max_bytes_option
@text_options
@screen_options
def command(
    *,
    file: Path,
    checkpoint: Path | None,
    budget: Size | None,
    evaluate: bool,
    dry_run: bool,
    max_bytes: int | None,
    text: BenchOptions,
    screen: Screen,
    **folder: Any,
) -> int:
    """Check that FILE is a sound artifact: it decodes in a clean process, and every digest and size is right.

    What the manifest FILE.json records (file, recipe, weights, loss) is compared where it is there. Of a folder, the
    whole submission is judged (16 MB where no budget is given) and the result is a checklist to paste into a review.
    Exit code 0 when all checks hold, 4 when one fails.
    """
    if dry_run:
        _show_dry_run(file, checkpoint, evaluate, max_bytes, text, screen)
        return 0
    if file.is_dir():
        return _judge_folder(file, checkpoint, budget, evaluate, text, FolderOptions(**folder), screen)
    defaults = dataclasses.asdict(FolderOptions())
    timeout_s = folder.pop("timeout_s")
    if odd := [name for name, value in folder.items() if value != defaults[name]]:
        raise click.UsageError(f"--{odd[0]} is for a submission folder; FILE is a single file")
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.verify import verify

    if not evaluate and (idle := text.idle("without --eval no model runs")):
        screen.note(idle)
    loaded = open_merged(checkpoint, text.base, text.key) if checkpoint else None
    limit = resolved(budget, None if loaded is None else loaded.fp32_bytes)
    evaluator = _evaluator(file, checkpoint, loaded, text, screen, max_bytes) if evaluate else None
    result = verify(
        file, checkpoint=loaded, budget=limit, evaluator=evaluator, timeout_s=timeout_s, max_bytes=max_bytes
    )
    document = {
        "file": str(file),
        **picked(result, "ok", "kind", "n_bytes", "decode_s", "weights_digest", "checks"),
        "relative_errors": result.errors,
        **(result.loss.as_row() if result.loss else {}),
    }
    screen.show(document, *_checklist(file, result))
    return 0 if result.ok else EXIT_FAILED


def _judge_folder(
    folder: Path,
    checkpoint: Path | None,
    budget: Size | None,
    evaluate: bool,
    text: BenchOptions,
    flags: FolderOptions,
    screen: Screen,
) -> int:
    """The referee's checklist over a submission folder, or its JSON. Usage error when no text was named.

    What the flags leave open, such as the text, is what the checkpoint names.
    """
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.errors import DataError, PgpackError
    from pgpack.referee.collecting import collect
    from pgpack.referee.evidence import CAP, Options
    from pgpack.referee.probes import measure
    from pgpack.referee.runs import Limits
    from pgpack.referee.scoring import Scores
    from pgpack.referee.table import rule_of
    from pgpack.referee.verdict import as_document, checklist, judged

    for name in flags.only:
        rule_of(name)  # a wrong id is refused before any work
    loaded = open_merged(checkpoint, text.base, text.key) if checkpoint else None
    shapes = None if loaded is None else {name: tuple(shape) for name, shape in loaded.shapes.items()}
    limit = resolved(budget, None if loaded is None else loaded.fp32_bytes)
    limits = Limits(timeout_s=flags.timeout_s)
    evidence = collect(folder, Options(CAP if limit is None else limit, shapes, limits=limits))
    if not evidence.is_submission:
        raise DataError(
            f"{folder} is no submission folder: no script, no artifact and no submission.json in it; name the folder "
            "that holds them (of a model's folder or a study, the file that `pgpack pack` writes is verified)"
        )
    if evaluate or flags.scorer:
        try:
            scores = measure(evidence, loaded, partial(bench_of, options=text, screen=screen), flags)
        except PgpackError as error:
            if not text.names_text:
                raise click.UsageError(f"{error}") from None
            scores = Scores(fault=str(error))  # why nothing was measured
        evidence = dataclasses.replace(evidence, scores=scores)
    verdict = judged(evidence, strict=flags.strict, only=flags.only)
    screen.show(as_document(verdict), *checklist(verdict).split("\n"))
    return 0 if verdict.ok else EXIT_FAILED


def _evaluator(
    file: Path,
    path: Path | None,
    checkpoint: Checkpoint | None,
    text: BenchOptions,
    screen: Screen,
    max_bytes: int | None,
) -> Evaluator | None:
    """As `evaluator_of`; None when the artifact cannot be decoded: the checklist will say so."""
    from pgpack.checkpoint.checkpoint import from_tensors
    from pgpack.errors import FormatError
    from pgpack.files import contents
    from pgpack.unpack import unpack

    if checkpoint is not None:
        return evaluator_of(file, checkpoint, text, screen, path, checkpoint)
    try:
        unpacked = unpack(contents(file), max_bytes)
        held = from_tensors(unpacked.tensors(), source=str(file), companions=unpacked.companions)
    except FormatError:
        return None
    return evaluator_of(file, held, text, screen, None, None)


def _checklist(file: Path, result: Verification) -> Iterator[str]:
    width = max(len(check.name) for check in result.checks)
    for check in result.checks:
        yield f"{'ok  ' if check.ok else 'FAIL'}  {check.name:{width}}  {check.detail}"
    failed = sum(not check.ok for check in result.checks)
    yield f"verify ok: {file}" if result.ok else f"verify FAILED: {failed} of {len(result.checks)} checks"


def _show_dry_run(
    file: Path, checkpoint: Path | None, evaluate: bool, max_bytes: int | None, text: BenchOptions, screen: Screen
) -> None:
    """Of a folder, whose own decoder may take any time up to --timeout, what ours would take for its largest file."""
    from pgpack.bench.costs import decoding_cost
    from pgpack.bench.foreseen import foreseen_eval, foreseen_file, largest_file
    from pgpack.bench.rates import passes_cost

    judged = largest_file(file) if file.is_dir() else file
    subject, rates = (foreseen_eval if evaluate else foreseen_file)(judged, checkpoint, text, max_bytes), rates_here()
    cost = decoding_cost(subject.n_values, rates)
    if evaluate:
        cost = cost.then(passes_cost(subject.n_values, {"evaluate": subject.n_run}, rates))
    facts = {"file": str(judged), "n_params": subject.n_values, "tokens": subject.n_evaluated if evaluate else None}
    show_foreseen(screen, facts, cost, text.device)
