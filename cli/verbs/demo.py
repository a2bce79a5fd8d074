"""`pgpack demo`: the whole job, step by step, each with the line that a person would type."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options.dry_run import rates_here
from ..options.output import output_option
from ..options.types import FOLDER
from ..screen.output import Screen, refuse_unwritable, screen_options

if TYPE_CHECKING:
    from pgpack.bench.rates import Cost, Rates

PRESET = "demo"

EPILOG = """\b
Examples:
  pgpack demo -o demo
  pgpack demo -o demo --fast
"""


@dataclass(frozen=True)
class Scale:
    """How large a demo is. `training`: what differs from the preset "demo"; `budget`: about a thirteenth of the fp32
    weights, where packers differ most; `n_losses`: evaluations of the sweep; `coded`: how often it quantizes and
    codes all weights, in units of the trellis (`pgpack.bench.costs` says so of the same recipes)."""

    training: Mapping[str, int]
    sweep: tuple[str, ...]
    budget: str
    max_tokens: int
    n_losses: int
    coded: float


FULL = Scale({}, (), "600kB", 8192, 24, 36.0)
FAST = Scale(
    {"--layers": 2, "--dim": 128, "--steps": 30, "--warmdown": 20},
    ("--bits", "4,6", "--clip-sigmas", "8,14", "--codec", "rans,zlib"),
    "200kB",
    4096,
    5,
    3.0,
)
VOCABULARY, VAL_TOKENS = 1024, 57_784  # of `pgtrain data` without sources


@click.command("demo", epilog=EPILOG)
@output_option(default="demo", show_default=True, type=FOLDER, help="Folder.")
@click.option("--fast", is_flag=True, help="A tiny model and a small space: a minute instead of five.")
@click.option("--dry-run", is_flag=True, help="Print the steps and what they will take, and stop.")
@screen_options
def command(*, out: Path, fast: bool, dry_run: bool, screen: Screen) -> int:
    """The whole job on the corpus built into Python: text, training, sweep, frontier, best artifact, verification.

    Each step is printed as the line to type. Repeat the command after Ctrl-C or a kill and it goes on where it was.
    """
    scale = FAST if fast else FULL
    steps = _steps(out, scale)
    refuse_unwritable(out / "text")
    if dry_run:
        lines, cost = [shlex.join(line) for line in steps], demo_cost(scale, rates_here())
        screen.show({"steps": lines, "cost": cost.as_document()}, *lines, *cost.lines())
        return 0
    started, said = time.monotonic(), {}
    for number, (line, done) in enumerate(steps.items(), start=1):
        if done is not None and done.exists():
            screen.note(f"[{number}/{len(steps)}] {done} is there already")
            continue
        screen.note(f"[{number}/{len(steps)}] {shlex.join(line)}")
        code, printed = _run(line, screen)
        said[line[1]] = json.loads(printed) if screen.as_json and printed else printed
        if code:
            click.echo(json.dumps(said[line[1]], indent=2) if screen.as_json and printed else printed)
            return code
    demo_s = time.monotonic() - started
    if screen.as_json:
        screen.show({"out": str(out), "demo_s": demo_s, **said})
        return 0
    click.echo(said["sweep"] + said["verify"], nl=False)
    click.echo(f"the whole job took {demo_s:.0f} s; report: {out / 'study' / 'report.html'}")
    return 0


def _steps(out: Path, scale: Scale) -> dict[tuple[str, ...], Path | None]:
    """Command line -> a file that makes it unnecessary; None when the command itself knows how to go on."""
    text, model, study = out / "text", out / "model.safetensors", out / "study"
    best = str(study / "best.pgpack")
    budget, tokens = ("--budget", scale.budget), ("--max-tokens", str(scale.max_tokens))
    training = ("--preset", PRESET, *(word for flag in scale.training.items() for word in map(str, flag)))
    picture = study / "frontier-kl.svg"
    return {
        ("pgtrain", "data", "-o", str(text)): text / "corpus.json",
        ("pgtrain", "run", "--data", str(text), *training, "-o", str(model)): model,
        ("pgpack", "sweep", str(model), *scale.sweep, *budget, *tokens, "-o", str(study)): None,
        ("pgpack", "frontier", str(study), "--metric", "kl", "-o", str(picture), "--force"): None,
        ("pgpack", "verify", best, "--checkpoint", str(model), *budget, "--eval", *tokens): None,
    }


def demo_cost(scale: Scale, rates: Rates) -> Cost:
    """What the whole job will need, from nothing."""
    from pgpack.bench.rates import BACKWARD, builtin_cost, passes_cost
    from pgpack.fit.effort import TOKENS
    from pgtrain.model.tensor_table import count_parameters
    from pgtrain.presets import find_preset

    from ..train_verbs.run import MODEL_OPTIONS, TRAIN_OPTIONS, run_cost

    start, given = find_preset(PRESET), scale.training.items()
    shape: dict[str, Any] = {MODEL_OPTIONS[flag][0]: n for flag, n in given if flag in MODEL_OPTIONS}
    schedule: dict[str, Any] = {TRAIN_OPTIONS[flag][0]: n for flag, n in given if flag in TRAIN_OPTIONS}
    model = dataclasses.replace(start.model, **{**shape, "vocab_size": VOCABULARY})
    training = dataclasses.replace(start.training, **schedule)
    n = count_parameters(model)
    passes = {"calibrate": BACKWARD * TOKENS, "evaluate": (scale.n_losses + 3) * scale.max_tokens}
    sweep = passes_cost(n, passes, rates)
    packed = dataclasses.replace(sweep, seconds={**sweep.seconds, "pack": scale.coded * n / rates.trellis})
    trained = run_cost(model, training, VAL_TOKENS, rates)
    return builtin_cost(rates).then(trained).then(packed)


def _run(line: Sequence[str], screen: Screen) -> tuple[int, str]:
    """(exit code, what the command printed) of one step, run in this process; its stderr goes through."""
    from ..pgpack_app import app as pgpack
    from ..pgtrain_app import app as pgtrain

    program = {"pgpack": pgpack, "pgtrain": pgtrain}[line[0]]
    flags = [*line[1:], *(["--json"] if screen.as_json else []), *(["-q"] if screen.quiet else [])]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = program.main(flags, prog_name=line[0], standalone_mode=False)
    return (code if isinstance(code, int) else 0), printed.getvalue()
