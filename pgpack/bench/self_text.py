"""Documents that a checkpoint's own model writes: `--calib self`, `--val self`.

    checkpoint --model--> windows of tokens --cut at special tokens, decoded--> documents, at most LIMIT tokens

What is calibrated on them has seen nothing that is evaluated, and the KL over them is that of the two models'
distributions. A model that is found by its loss on text cannot begin to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import DataError
from pgpack.models.probe import Probe
from pgpack.models.registry import find_model
from pgpack.models.source import Wanted
from pgpack.models.writing import windows_written
from pgpack.text.data import Tokens
from pgpack.text.documents import Part
from pgpack.text.random_pieces import SEEDS
from pgpack.text.stream import DocumentTokens
from pgpack.text.token_shares import token_shares
from pgpack.text.tokenizer import Tokenizer

from .options import BenchOptions

LIMIT = 32_768  # tokens
LONGEST = 256  # tokens of a window
FORGETFUL = 128  # the same where all before a token is read again for each


def written(checkpoint: Checkpoint, options: BenchOptions, tokenizer: Tokenizer, side: str) -> DocumentTokens:
    """One side of a text, written as it is read. Raises: DataError where the model is not known without text."""
    return DocumentTokens(_documents(checkpoint, options, tokenizer, side), tokenizer, "written by the model itself")


def _documents(checkpoint: Checkpoint, options: BenchOptions, tokenizer: Tokenizer, side: str) -> Iterator[Part]:
    probe = Probe(lambda: dict(checkpoint.items()), cast(Tokens, NoText(checkpoint.source)))
    wanted = Wanted(
        checkpoint.metadata, checkpoint.shapes, tokenizer.vocab_size, probe, options.model, options.set,
        checkpoint.companions, options.seq_len,
    )  # fmt: skip
    found = find_model(wanted)
    model = found.build({name: torch.tensor(array) for name, array in checkpoint.items()})
    longest = LONGEST if hasattr(model, "written") else FORGETFUL
    length = min(options.seq_len or found.seq_len or longest, longest)
    n_pieces = min(tokenizer.vocab_size, found.vocab_size or tokenizer.vocab_size)
    rng = np.random.default_rng(SEEDS[side])
    n_windows = -(-LIMIT // length)
    if tokenizer.bos_id is None:
        first = rng.choice(tokenizer.vocab_size, n_windows, p=token_shares(tokenizer)).clip(max=n_pieces - 1)
    else:
        first = np.full(n_windows, tokenizer.bos_id)
    for number, ids in enumerate(windows_written(model, first.astype(np.int64), length, n_pieces, SEEDS[side])):
        for text in _texts(ids, tokenizer):
            yield Part(f"window {number}", 0, text)


@dataclass(frozen=True)
class NoText:
    """In the place of the tokens that tell models apart."""

    source: str

    def __len__(self) -> int:
        raise DataError(
            f"{self.source} is found by its loss on text, so without any it cannot write its own; name it with "
            "--model, or give text as --text PATH"
        )


def _texts(ids: np.ndarray, tokenizer: Tokenizer) -> Iterator[str]:
    """The documents of a window: a token that stands for no text ends one."""
    known = {int(token): bool(tokenizer.decode(np.asarray([token]))) for token in np.unique(ids)}
    silent = [i for i, token in enumerate(ids.tolist()) if not known[token]]
    for part in np.split(ids, silent):
        text = tokenizer.decode(part)
        if text.strip():
            yield text
