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
from typing import Any

import click

from ..screen.output import emit_json, note, shared_options

EPILOG = """\b
Examples:
  pgpack demo --out demo
  pgpack demo --out demo --fast
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
@click.option(
    "--out", default="demo", show_default=True, type=click.Path(path_type=Path, file_okay=False), help="Folder."
)
@click.option("--fast", is_flag=True, help="A tiny model and a small space: a minute instead of five.")
@click.option("--dry-run", is_flag=True, help="Print the steps and stop.")
@shared_options
def command(*, out: Path, fast: bool, dry_run: bool, as_json: bool, quiet: bool) -> int:
    """The whole job on the corpus built into Python: text, training, sweep, frontier, best artifact, verification.

    Each step is printed as the line to type. Repeat the command after Ctrl-C or a kill and it goes on where it was.
    """
    steps = _steps(out, FAST if fast else FULL)
    if dry_run:
        lines = [shlex.join(step.line) for step in steps]
        emit_json({"steps": lines}) if as_json else click.echo("\n".join(lines))
        return 0
    started, said = time.monotonic(), {}
    for number, step in enumerate(steps, start=1):
        if step.done is not None and step.done.exists():
            note(f"[{number}/{len(steps)}] {step.done} is there already", quiet)
            continue
        note(f"[{number}/{len(steps)}] {shlex.join(step.line)}", quiet)
        code, said[step.name] = _run(step.line, as_json, quiet)
        if code:
            click.echo(said[step.name] if isinstance(said[step.name], str) else json.dumps(said[step.name], indent=2))
            return code
    if as_json:
        emit_json({"out": str(out), "demo_s": time.monotonic() - started, **said})
        return 0
    click.echo(said["sweep"] + said["verify"], nl=False)
    click.echo(f"the whole job took {time.monotonic() - started:.0f} s; report: {out / 'study' / 'report.html'}")
    return 0


@dataclass(frozen=True)
class Step:
    """One command line. `done`: a file that makes it unnecessary; None when the command itself knows how to go on."""

    name: str
    line: tuple[str, ...]
    done: Path | None = None


def _steps(out: Path, scale: Scale) -> list[Step]:
    text, model, study = out / "text", out / "model.safetensors", out / "study"
    best = str(study / "best.pgpack")
    budget, tokens = ("--budget", scale.budget), ("--max-tokens", scale.max_tokens)
    picture = study / "frontier-kl.svg"
    return [
        Step("data", ("pgtrain", "data", "-o", str(text)), text / "corpus.json"),
        Step("run", ("pgtrain", "run", "--data", str(text), *scale.training, "-o", str(model)), model),
        Step("sweep", ("pgpack", "sweep", str(model), *scale.sweep, *budget, *tokens, "--out", str(study))),
        Step("frontier", ("pgpack", "frontier", str(study), "--metric", "kl", "-o", str(picture), "--force")),
        Step("verify", ("pgpack", "verify", best, "--checkpoint", str(model), *budget, "--eval", *tokens)),
    ]


def _run(line: Sequence[str], as_json: bool, quiet: bool) -> tuple[int, Any]:
    """(exit code, what the command printed) of one step, run in this process; its stderr goes through."""
    from ..pgpack_app import app as pgpack
    from ..pgtrain_app import app as pgtrain

    program = {"pgpack": pgpack, "pgtrain": pgtrain}[line[0]]
    flags = [*line[1:], *(["--json"] if as_json else []), *(["-q"] if quiet else [])]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = program.main(flags, prog_name=line[0], standalone_mode=False)
    text = printed.getvalue()
    return (code if isinstance(code, int) else 0), (json.loads(text) if as_json and text else text)
