"""The `pgpack` program: its verbs, each in the module that the table names. Imports nothing heavy."""

from __future__ import annotations

from typing import NoReturn

import click

from pgpack import __version__

from .lazy import LazyGroup
from .output import run

VERBS = {
    "plan": ("plan", "What a recipe does to each tensor, and an estimate of the bytes."),
    "pack": ("pack", "Checkpoint to artifact, by a recipe, a preset or a byte budget."),
    "unpack": ("unpack", "Artifact to checkpoint."),
    "transcode": ("transcode", "An artifact of the field coded anew, bit for bit the same weights."),
    "inspect": ("inspect", "Where the bytes of an artifact or a checkpoint are."),
    "analyze": ("analyze", "What the weights of a checkpoint say: blocks, skips, lanes, projections."),
    "eval": ("evaluate", "Bits per byte of a checkpoint or an artifact."),
    "calibrate": ("calibrate", "Hessians and Fisher weights of a checkpoint as one file."),
    "init-adapter": ("init_adapter", "A template of the file that builds your own model."),
    "verify": ("verify", "Judge an artifact, or a whole submission folder, in a clean process."),
    "sweep": ("sweep", "Measure many recipes: journal, frontier, report, best artifact."),
    "cache": ("cache", "What is kept between runs: list it, delete it."),
    "frontier": ("frontier", "Merge, compare and plot studies; BD-rate and hypervolume."),
    "report": ("report", "A study as one page, or live in the browser while a sweep runs."),
    "demo": ("demo", "The whole job on the corpus that is built in."),
}


@click.command(cls=LazyGroup, verbs=VERBS)
@click.version_option(__version__, prog_name="pgpack")
def app() -> None:
    """Pack small language models into a byte budget; every number is measured after decoding.

    \b
    Example: the whole job on the built-in corpus
      pgpack demo --out demo
    Example: a checkpoint of your own, 16 decimal megabytes
      pgpack sweep model.safetensors --budget 16MB --out study
      pgpack pack model.safetensors --budget 16MB -o model.pgpack
      pgpack verify model.pgpack --checkpoint model.safetensors --budget 16MB --eval
    """


def main() -> NoReturn:
    """Entry point of the console script."""
    run(app, "pgpack")


if __name__ == "__main__":
    main()
