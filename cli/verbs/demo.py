"""`pgpack demo`: the whole job, step by step, each with the line that a person would type."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ..options.output import output_option
from ..options.types import FOLDER
from ..screen.output import Screen, screen_options

EPILOG = """\b
Examples:
  pgpack demo -o demo
  pgpack demo -o demo --fast
"""


@dataclass(frozen=True)
class Scale:
    """How large a demo is. `budget`: about a thirteenth of the fp32 weights, where packers differ most."""

    training: tuple[str, ...]
    sweep: tuple[str, ...]
    budget: str
    max_tokens: str


FULL = Scale(("--preset", "demo"), (), "600kB", "8192")
FAST = Scale(
    ("--preset", "demo", "--layers", "2", "--dim", "128", "--steps", "30", "--warmdown", "20"),
    ("--bits", "4,6", "--clip-sigmas", "8,14", "--codec", "rans,zlib"),
    "200kB",
    "4096",
)


@click.command("demo", epilog=EPILOG)
@output_option(default="demo", show_default=True, type=FOLDER, help="Folder.")
@click.option("--fast", is_flag=True, help="A tiny model and a small space: a minute instead of five.")
@click.option("--dry-run", is_flag=True, help="Print the steps and stop.")
@screen_options
def command(*, out: Path, fast: bool, dry_run: bool, screen: Screen) -> int:
    """The whole job on the corpus built into Python: text, training, sweep, frontier, best artifact, verification.

    Each step is printed as the line to type. Repeat the command after Ctrl-C or a kill and it goes on where it was.
    """
    steps = _steps(out, FAST if fast else FULL)
    if dry_run:
        lines = [shlex.join(line) for line in steps]
        screen.show({"steps": lines}, *lines)
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
    budget, tokens = ("--budget", scale.budget), ("--max-tokens", scale.max_tokens)
    picture = study / "frontier-kl.svg"
    return {
        ("pgtrain", "data", "-o", str(text)): text / "corpus.json",
        ("pgtrain", "run", "--data", str(text), *scale.training, "-o", str(model)): model,
        ("pgpack", "sweep", str(model), *scale.sweep, *budget, *tokens, "-o", str(study)): None,
        ("pgpack", "frontier", str(study), "--metric", "kl", "-o", str(picture), "--force"): None,
        ("pgpack", "verify", best, "--checkpoint", str(model), *budget, "--eval", *tokens): None,
    }


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
