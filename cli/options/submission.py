"""The flags of `pgpack pack --submission DIR`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import click

from ..flag_group import flag, flag_group
from .types import PATH

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True)
class SubmissionFlags:
    """The values of the flags; `submission` None: an artifact alone is asked for."""

    submission: Path | None = None
    train_script: Path | None = None
    log: tuple[Path, ...] = ()
    seed: tuple[int, ...] = ()
    code: str = "packed"
    about: Path | None = None
    requirements: Path | None = None
    study: Path | None = None


submission_options = flag_group(
    SubmissionFlags,
    "flags",
    {
        "submission": flag(
            "--submission",
            metavar="DIR",
            type=PATH,
            help="Write a whole submission folder instead of an artifact; --budget is then for code and weights.",
        ),
        "train_script": flag(
            "--train-script", metavar="FILE.py", type=_FILE, help="With --submission: the training script."
        ),
        "log": flag("--log", metavar="FILE", type=_FILE, multiple=True, help="A training log, one per checkpoint."),
        "seed": flag(
            "--seed", metavar="N", type=int, multiple=True, help="The seed of each checkpoint, in their order."
        ),
        "code": flag(
            "--code",
            type=click.Choice(["packed", "raw"]),
            default="packed",
            help="packed (the default): script minified, self-extracting; raw: as it is.",
        ),
        "about": flag(
            "--about", metavar="FILE.json", type=_FILE, help="name, author, github_id, date, track, blurb ..."
        ),
        "requirements": flag(
            "--requirements", metavar="FILE", type=_FILE, help="requirements.txt of the training script."
        ),
        "study": flag(
            "--study",
            metavar="DIR",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            help="A sweep of the checkpoint, for the frontier figure.",
        ),
    },
)


def require_alone(flags: SubmissionFlags) -> None:
    """Usage error when a flag of submissions is given without --submission."""
    given = [f.name for f in dataclasses.fields(SubmissionFlags) if getattr(flags, f.name) != f.default]
    if given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} belongs to --submission DIR")
