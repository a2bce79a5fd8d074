"""The `pgtrain` command: text into shards, shards into a checkpoint, a checkpoint into bits per byte."""

from __future__ import annotations

from typing import NoReturn

import click

from pgtrain import __version__

from .lazy import LazyGroup
from .screen.output import run

VERBS = {
    "data": ("train_verbs.data", "Write token shards and a tokenizer from text, or from the built-in corpus."),
    "ls": ("train_verbs.ls", "List the presets: parameters, layers, estimated artifact."),
    "adopt": ("train_verbs.adopt", "Make a public script's final_model.pt a checkpoint that knows its model."),
    "run": ("train_verbs.run", "Train a GPT and write one fp32 checkpoint; resumes after a kill."),
    "finetune": ("train_verbs.finetune", "Train a finished model on, so that it packs smaller at equal loss."),
    "curve": ("train_verbs.curve", "Draw the loss curves of runs as one picture."),
    "eval": ("train_verbs.eval", "Bits per byte of a checkpoint on its validation text."),
    "completion": ("verbs.completion", "Print what makes bash, zsh or fish complete commands and flags."),
}

FIRST = (
    ("pgtrain data -o text", "token shards and a tokenizer, from the text that is built in"),
    ("pgtrain run --data text -o model.safetensors", "train a small GPT on them"),
    ("pgtrain eval model.safetensors", "its bits per byte; `pgpack pack` takes it from here"),
)


@click.command(cls=LazyGroup, verbs=VERBS, first=FIRST)
@click.version_option(__version__, prog_name="pgtrain")
def app() -> None:
    """Train small GPTs of the parameter-golf family and measure them in bits per byte.

    \b
    Example: from nothing to a measured checkpoint
      pgtrain data -o text
      pgtrain run --data text --preset demo -o model.safetensors
      pgtrain eval model.safetensors
    """


def main() -> NoReturn:
    """Entry point of the console script."""
    run(app, "pgtrain")


if __name__ == "__main__":
    main()
