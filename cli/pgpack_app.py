"""The `pgpack` program: its verbs, each in the module that the table names. Imports nothing heavy."""

from __future__ import annotations

from typing import NoReturn

import click

from pgpack.version import __version__

from .lazy import LazyGroup
from .screen.output import run

VERBS = {
    "advise": ("verbs.advise", "How large a model, at how many bits, for so many bytes."),
    "plan": ("verbs.plan", "What a recipe does to each tensor, and an estimate of the bytes."),
    "pack": ("verbs.pack", "Checkpoint to artifact, by a recipe, a preset or a byte budget."),
    "unpack": ("verbs.unpack", "Artifact to checkpoint, or to a model folder."),
    "transcode": ("verbs.transcode", "An artifact of the field coded anew, bit for bit the same weights."),
    "inspect": ("verbs.inspect", "Where the bytes of an artifact or a checkpoint are."),
    "analyze": ("verbs.analyze", "What the weights of a checkpoint say: blocks, skips, lanes, projections."),
    "eval": ("verbs.evaluate", "Bits per byte of a checkpoint or an artifact."),
    "generate": ("verbs.generate", "Greedy text from an artifact or a model folder."),
    "compare": ("verbs.compare", "Models side by side after one prompt: tokens, KL to the first."),
    "calibrate": ("verbs.calibrate", "Hessians and Fisher weights of a checkpoint as one file."),
    "init-adapter": ("verbs.init_adapter", "A template of the file that builds your own model."),
    "verify": ("verbs.verify", "Judge an artifact, or a whole submission folder, in a clean process."),
    "sweep": ("verbs.sweep", "Measure many recipes: journal, frontier, report, best artifact."),
    "cache": ("verbs.cache", "What is kept between runs: list it, delete it."),
    "frontier": ("verbs.frontier", "Merge, compare and plot studies; BD-rate and hypervolume."),
    "report": ("verbs.report", "A study as one page, or live in the browser while a sweep runs."),
    "demo": ("verbs.demo", "The whole job on the corpus that is built in."),
    "doctor": ("verbs.doctor", "Versions, cores, memory, extras, and what a job of a size will need."),
    "completion": ("verbs.completion", "What makes the shell complete commands and flags."),
}


FIRST = (
    ("pgpack demo", "the whole job on the text that is built in: a model, its frontier, the best file"),
    ("pgpack pack MODEL --text DOCS --budget 45MB -o FILE", "the best file of so many bytes, from a model folder"),
    ("pgpack generate FILE 'Once upon'", "let it speak"),
    ("pgpack unpack FILE -o MODEL-BACK/", "the model folder again, for transformers or llama.cpp"),
    ("pgpack sweep MODEL --text DOCS -o STUDY", "every size against its loss, with pictures and a report"),
)


@click.command(cls=LazyGroup, verbs=VERBS, first=FIRST)
@click.version_option(__version__, prog_name="pgpack")
def app() -> None:
    """Pack small language models into a byte budget; every number is measured after decoding.

    \b
    Example: the whole job on the built-in corpus
      pgpack demo -o demo
    Example: a checkpoint of your own, 16 decimal megabytes
      pgpack sweep model.safetensors --budget 16MB -o study
      pgpack pack model.safetensors --budget 16MB -o model.pgpack
      pgpack verify model.pgpack --checkpoint model.safetensors --budget 16MB --eval
    """


def main() -> NoReturn:
    """Entry point of the console script."""
    run(app, "pgpack")


if __name__ == "__main__":
    main()
