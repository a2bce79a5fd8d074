"""The text flags of a bench on a model that does not name text of its own; what results call that model."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgpack.bench.options import BenchOptions


def add_text_flags(parser: argparse.ArgumentParser) -> None:
    """--text, or --val and --calib; --tokenizer, --seq-len."""
    parser.add_argument("--text", action="append", default=[], help="text, unless the checkpoint names its own")
    parser.add_argument("--val", help="token shards to evaluate on, instead of --text")
    parser.add_argument("--calib", help="token shards to calibrate on")
    parser.add_argument("--tokenizer", help="of the shards")
    parser.add_argument("--seq-len", type=int, help="tokens of a window")


def text_options(given: argparse.Namespace) -> BenchOptions:
    """What they name."""
    return BenchOptions(
        text=tuple(given.text), val=given.val, calib=given.calib, tokenizer=given.tokenizer, seq_len=given.seq_len
    )


def name_of(model: Path) -> str:
    """What results call a model: its folder's name where the file is called `model`."""
    if not model.suffix or model.is_dir():
        return model.name
    return model.parent.name if model.stem == "model" else model.stem
