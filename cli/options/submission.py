"""The flags of `pgpack pack --submission DIR`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import click

from ..flag_group import flag, flag_group
from .numbers import WholeNumber
from .types import FILE, PATH, NamedPath


@dataclass(frozen=True)
class SubmissionFlags:
    """The values of the flags; `submission` None: an artifact alone is asked for."""

    submission: Path | None = flag(
        "--submission",
        metavar="DIR",
        type=PATH,
        help="Write a whole submission folder instead of an artifact; --budget is then for code and weights.",
    )
    train_script: Path | None = flag(
        "--train-script", metavar="FILE.py", type=FILE, help="With --submission: the training script."
    )
    log: tuple[Path, ...] = flag(
        "--log", metavar="FILE", type=FILE, multiple=True, help="A training log, one per checkpoint."
    )
    seed: tuple[int, ...] = flag(
        "--seed", metavar="N", type=WholeNumber(), multiple=True, help="The seed of each checkpoint, in their order."
    )
    code: str = flag(
        "--code",
        type=click.Choice(["packed", "raw"]),
        default="packed",
        help="packed (the default): script minified, self-extracting; raw: as it is.",
    )
    about: Path | None = flag(
        "--about", metavar="FILE.json", type=FILE, help="name, author, github_id, date, track, blurb ..."
    )
    requirements: Path | None = flag(
        "--requirements", metavar="FILE", type=FILE, help="requirements.txt of the training script."
    )
    study: Path | None = flag(
        "--study",
        metavar="DIR",
        type=NamedPath(path_type=Path, exists=True, file_okay=False),
        help="A sweep of the checkpoint, for the frontier figure.",
    )


submission_options = flag_group(SubmissionFlags, "flags")


def require_alone(flags: SubmissionFlags) -> None:
    """Usage error when a flag of submissions is given without --submission."""
    given = [f.name for f in dataclasses.fields(SubmissionFlags) if getattr(flags, f.name) != f.default]
    if given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} belongs to --submission DIR")
