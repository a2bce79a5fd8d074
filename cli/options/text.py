"""The flags of every command that needs text.

A checkpoint of pgtrain carries its own defaults, so usually no flag is needed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions

from ..screen.output import note
from .group import flag, flag_group

if TYPE_CHECKING:
    from pgpack.bench.workpiece import Workpiece
    from pgpack.cache.store import Cache
    from pgpack.checkpoint.checkpoint import Checkpoint

text_options = flag_group(
    BenchOptions,
    "text",
    {
        "text": flag(
            "--text",
            multiple=True,
            metavar="PATH",
            help="Text to calibrate and evaluate on: .txt, .md, .jsonl, .parquet (also .gz, .xz, .zst), folders of "
            "them, or builtin; split by document. May be repeated.",
        ),
        "field": flag("--field", metavar="NAME", help="What holds the text in .jsonl and .parquet: text by default."),
        "val": flag("--val", metavar="GLOB", help="Token shards to evaluate on, or a text as --text takes it."),
        "calib": flag("--calib", metavar="GLOB", help="The same to calibrate on; must not overlap --val."),
        "tokenizer": flag(
            "--tokenizer",
            metavar="FILE.model",
            help="SentencePiece model, tokenizer.json or a model's folder; default: the checkpoint's own.",
        ),
        "seq_len": flag("--seq-len", type=click.IntRange(1), metavar="N", help="Tokens per window."),
        "max_tokens": flag("--max-tokens", type=click.IntRange(1), metavar="N", help="Evaluate at most N tokens."),
        "device": flag("--device", metavar="NAME", help="cpu (the default), cuda or cuda:N."),
        "model": flag(
            "--model", metavar="FILE.py:build", help="Function: state dict to nn.Module; or a pgtrain preset."
        ),
        "set": flag(
            "--set", multiple=True, metavar="FIELD=VALUE", help="A field of a pgtrain model: mlp_activation=relu3."
        ),
        "base": flag(
            "--base", metavar="DIR", help="The model that an adapter (LoRA) was trained on; they are merged."
        ),
        "calibration": flag("--calibration", metavar="FILE", help="Hessians of `pgpack calibrate`, instead of text."),
    },
)
base_option = click.option(
    "--base", metavar="DIR", help="The model that an adapter (LoRA) was trained on; they are merged."
)
strict_option = click.option(
    "--strict", is_flag=True, help="Refuse tensors that a recipe wants a Hessian for and that have none."
)


def bench_of(
    path: Path,
    checkpoint: Checkpoint,
    options: BenchOptions,
    quiet: bool,
    keep_in: Path | None = None,
    cache: Cache | None = None,
) -> Workpiece:
    """The bench of a command: notes and bars go to stderr, unless it is to be quiet."""
    from pgpack.bench.workpiece import Workpiece

    say = functools.partial(note, quiet=quiet)
    return Workpiece(path, checkpoint, options, note=say, progress=not quiet, keep_in=keep_in, cache=cache)
