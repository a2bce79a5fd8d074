"""The flags of every command that opens a checkpoint (`opening_options`) or needs text as well (`text_options`).

A checkpoint of pgtrain carries its own defaults, so usually no flag is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions, Opening
from pgpack.progress import Progress, waiting

from ..flag_group import flag, flag_group, option_of
from ..screen.output import Screen
from .numbers import WholeNumber

if TYPE_CHECKING:
    from pgpack.bench.workpiece import Workpiece
    from pgpack.cache.store import Cache
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.loss.evaluator import Evaluator

OPENING = {
    "base": flag("--base", metavar="DIR", help="The model that an adapter (LoRA) was trained on; they are merged."),
    "key": flag("--key", metavar="NAME", help="Which of several state dicts in a torch file: model, ema, ..."),
}
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
        "calib": flag(
            "--calib",
            metavar="GLOB",
            help="The same to calibrate on; or self: what the model writes; or random: pieces of its tokenizer.",
        ),
        "tokenizer": flag(
            "--tokenizer",
            metavar="PATH",
            help="SentencePiece model, tokenizer.json or a model's folder; default: the checkpoint's own.",
        ),
        "seq_len": flag("--seq-len", type=WholeNumber(1), metavar="N", help="Tokens per window."),
        "max_tokens": flag("--max-tokens", type=WholeNumber(1), metavar="N", help="Evaluate at most N tokens."),
        "device": flag("--device", metavar="NAME", help="cpu (the default), cuda or cuda:N."),
        "model": flag(
            "--model", metavar="FILE.py:build", help="Function: state dict to nn.Module; or a pgtrain preset."
        ),
        "set": flag(
            "--set", multiple=True, metavar="FIELD=VALUE", help="A field of a pgtrain model: mlp_activation=relu3."
        ),
        **OPENING,
        "calibration": flag("--calibration", metavar="FILE", help="Hessians of `pgpack calibrate`, instead of text."),
    },
)
key_option = option_of(OPENING["key"], "key")
opening_options = flag_group(Opening, "opening", OPENING)
strict_option = click.option(
    "--strict", is_flag=True, help="Refuse tensors that a recipe wants a Hessian for and that have none."
)


def bench_of(
    path: Path,
    checkpoint: Checkpoint,
    options: BenchOptions,
    screen: Screen,
    keep_in: Path | None = None,
    cache: Cache | None = None,
    is_one_of_several: bool = False,
) -> Workpiece:
    """The bench of a command: notes and bars go to stderr, unless it is to be quiet; of one of several checkpoints
    the bars say which it is."""
    from pgpack.bench.sources import require_named

    require_named(path, options)  # before torch is loaded
    from pgpack.bench.workpiece import Workpiece

    progress: Progress = False if screen.quiet else str(path) if is_one_of_several else True
    return Workpiece(path, checkpoint, options, screen.note, progress, keep_in, cache)


def say_idle(checkpoint: Checkpoint, options: BenchOptions, screen: Screen, drawn: bool) -> None:
    """A note on the flags that change nothing where no text is named, by flags or checkpoint, and none is `drawn`."""
    if drawn or "data_defaults" in checkpoint.metadata or options.names_text or options.calib is not None:
        return
    if idle := options.idle("no text is given"):
        screen.note(idle)


def evaluator_of(
    file: Path,
    subject: Checkpoint,
    text: BenchOptions,
    screen: Screen,
    path: Path | None,
    reference: Checkpoint | None,
    loops: int | None = None,
) -> Evaluator:
    """With a `reference`, the checkpoint in `path`: its model and text, KL to it. Without: those that the flags name,
    for the model that the `subject` in `file` holds. `loops`: how often a looped model repeats; None: as trained."""
    given = (path, reference) if path is not None and reference is not None else None
    bench = bench_of(file, subject, text, screen) if given is None else bench_of(*given, text, screen)
    with waiting(not screen.quiet, "loading torch"):  # behind the bench: what is not there is known before torch is
        from pgpack.loss.sliding import EvaluationWay

    way = EvaluationWay(loops=loops)
    if given is None:
        return bench.text.evaluator(way=way)
    return bench.evaluator if loops is None else bench.text.evaluator(dict(given[1].items()), way=way)
