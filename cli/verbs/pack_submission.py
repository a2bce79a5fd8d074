"""`pgpack pack ... --submission DIR`: checkpoints, training script and logs -> a submission folder.

script -> bytes of its code ------------------+
budget - code - decoder -> artifacts -> decoder +-> files, together at most the budget -> DIR
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options.submission import SubmissionFlags, read_about
from ..screen.output import emit_json, note
from ..screen.tables import table

if TYPE_CHECKING:
    from pgpack.bench.bench import Bench
    from pgpack.submission.self_extracting import CodeFile
    from pgpack.submission.submission import RunResult, Submission

    from .pack import Packed

BUDGET = 16_000_000
DECODER_BYTES = 4200  # of the default engine's decoder as shipped, with some room; its real size is known afterwards
ATTEMPTS = 3

Packer = Callable[[int], "tuple[Bench, Packed]"]  # bytes for the weights -> the artifact of one checkpoint


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known before packing. Units: bytes."""

    flags: SubmissionFlags
    checkpoints: tuple[Path, ...]
    seeds: tuple[int | None, ...]
    train: CodeFile
    budget: int

    @property
    def weights_budget(self) -> int:
        return self.budget - len(self.train.shipped) - DECODER_BYTES


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
    plan = plan_submission(checkpoints, flags, budget, quiet)
    if dry_run:
        show_plan(plan, as_json)
        return
    from pgpack.submission.folder import folder_files, write_folder

    assert flags.submission is not None
    submission = make_submission(plan, packers, search, quiet)
    files = folder_files(submission)
    write_folder(flags.submission, files)
    show_submission(submission, flags.submission, list(files), as_json)


def plan_submission(checkpoints: Sequence[Path], flags: SubmissionFlags, budget: int | None, quiet: bool) -> Plan:
    """The plan, with every mistake of the command line found. Raises click.UsageError or SubmissionError."""
    from pgpack.errors import BudgetExceeded
    from pgpack.submission.folder import require_new
    from pgpack.submission.self_extracting import MINIFIED, code_file, reads_itself

    assert flags.submission is not None
    require_new(flags.submission)
    if flags.train_script is None:
        raise click.UsageError("--submission needs --train-script FILE.py; its bytes count")
    for name, given in (("--log", flags.log), ("--seed", flags.seed)):
        if given and len(given) != len(checkpoints):
            raise click.UsageError(f"{len(given)} {name} for {len(checkpoints)} checkpoints; give one each, in order")
    read_about(flags.about)
    source = _source_of(flags.train_script)
    train = code_file("train_gpt.py", source, raw=flags.code == "raw")
    if train.form == MINIFIED and (reasons := list(reads_itself(source))):
        note(f"{flags.train_script} is minified, not packed: its functions need a source file ({reasons[0]})", quiet)
    seeds = _seeds(checkpoints, flags)
    if len(set(seeds)) < len(seeds):
        raise click.UsageError(
            "two checkpoints have the same seed, or none that could be read off; give --seed N each"
        )
    plan = Plan(flags, tuple(checkpoints), seeds, train, BUDGET if budget is None else budget)
    if plan.weights_budget <= 0:
        raise BudgetExceeded(
            f"the code alone takes {len(train.shipped):,} bytes and a decoder about {DECODER_BYTES:,}; "
            f"nothing is left of {plan.budget:,} for weights"
        )
    return plan


def _source_of(script: Path) -> str:
    """The script with its own line ends, without a byte order mark. Raises click.UsageError unless it is UTF-8."""
    try:
        return script.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{script} is not UTF-8; save it in that encoding, then pack it") from None


def _seeds(checkpoints: Sequence[Path], flags: SubmissionFlags) -> tuple[int | None, ...]:
    """Seeds as given, else out of the names of logs or checkpoints; None for a single checkpoint without one."""
    from pgpack.referee.folder import seed_of

    if flags.seed:
        return flags.seed
    names = [path.name for path in flags.log] or [path.name for path in checkpoints]
    return tuple(
        found if (found := seed_of(name)) is not None else seed_of(path.name)
        for name, path in zip(names, checkpoints, strict=True)
    )


def make_submission(plan: Plan, packers: Sequence[Packer], search: bool, quiet: bool) -> Submission:
    """The submission within the budget; a searched one is searched again when the decoder turned out larger.

    Raises BudgetExceeded when code and weights do not fit.
    """
    from pgpack.submission.decoder import make_decoder
    from pgpack.submission.submission import Submission

    for_weights = plan.weights_budget
    for _ in range(ATTEMPTS):
        runs = [_run(plan, i, packer(for_weights)) for i, packer in enumerate(packers)]
        note("joining, minifying and proving the decoder", quiet)
        submission = Submission(
            runs,
            plan.train,
            make_decoder([run.artifact for run in runs]),
            plan.budget,
            read_about(plan.flags.about),
            _figure(plan.flags, plan.budget),
            _requirements(plan),
        )
        over = submission.n_total - plan.budget
        if over <= 0 or not search:
            break
        note(f"code and weights are {over:,} bytes over the budget; searching again", quiet)
        for_weights -= over
    submission.require_budget()
    return submission


def _run(plan: Plan, index: int, made: tuple[Bench, Packed]) -> RunResult:
    from pgpack.submission.submission import RunResult

    bench, packed = made
    log = plan.flags.log[index].read_text(encoding="utf-8", errors="replace") if plan.flags.log else None
    before = bench.measurer().fp32_loss() if packed.loss is not None else None
    n_params = bench.checkpoint.n_params
    data = packed.artifact.data
    return RunResult(plan.seeds[index], data, str(packed.recipe), n_params, log, packed.loss, before)


def _figure(flags: SubmissionFlags, budget: int) -> str:
    """The frontier of --study as SVG; '' without one."""
    if flags.study is None:
        return ""
    from pgpack.report.plot import Curve, FrontierPicture, frontier_svg
    from pgpack.study.seeds import merged
    from pgpack.study.study import Study

    study = merged(Study.load(flags.study))
    curve = Curve(flags.study.resolve().name, study.trials)
    return frontier_svg(FrontierPicture((curve,), "Size against loss", "bpb", budget, study.meta.fp32_bpb))


def _requirements(plan: Plan) -> tuple[str, ...]:
    """Lines of --requirements; without it, what the script imports beyond the standard library."""
    import ast
    import sys

    if plan.flags.requirements is not None:
        return tuple(plan.flags.requirements.read_text(encoding="utf-8").splitlines())
    found = set()
    for node in ast.walk(ast.parse(plan.train.given)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return tuple(sorted(found - set(sys.stdlib_module_names)))


def show_plan(plan: Plan, as_json: bool) -> None:
    """What would be done, for --dry-run."""
    document: dict[str, Any] = {
        "submission": str(plan.flags.submission),
        "checkpoints": [str(path) for path in plan.checkpoints],
        "seeds": list(plan.seeds),
        "budget": plan.budget,
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
