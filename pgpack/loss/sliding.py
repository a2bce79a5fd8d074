"""Which tokens are scored with which context: whole windows, sliding windows, windows inside documents.

    targets  0 . . . . . . . . . . . . . . . . n        every target is scored by exactly one window
    full     [========][========][========]             stride = seq_len: context starts anew in each window
    sliding  [========]                                 the first window scores all it sees,
               [------==]                               every later one only its last `stride` targets
                 [------==]

Owns the cutting and the batching; knows no model. Target t is tokens[t + 1], predicted from tokens[start..t].
Source: openai/parameter-golf, sliding-window evaluation at stride 64 as in PR #1394 and #212 (same starts, same
scored targets, same short last window). A document ends with the target that starts the next one, as in the
document-wise evaluation of PR #77, so that isolated and continuous evaluation score the same targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgpack.errors import DataError
from pgpack.text.data import Tokens

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class EvaluationWay:
    """How a text is scored; the default is the challenge's own evaluation.

    stride (0 = the window): a window starts every so many tokens. documents: no context crosses the start of a
    document. loops (None = as trained): how often a looped model repeats its loop. bf16: the forward pass under
    autocast, as the challenge's own scripts evaluate; several times faster on a GPU, and noisier.
    """

    stride: int = 0
    documents: bool = False
    loops: int | None = None
    bf16: bool = False

    @property
    def variant(self) -> str:
        """What the digest of an evaluation must say besides windows and precision."""
        return "" if self.loops is None else f"loops {self.loops}"


@dataclass(frozen=True, eq=False)
class Windows:
    """Window i reads tokens[starts[i] : starts[i] + lengths[i]] and scores its last scored[i] targets.

    Windows are in the order of their targets; documents[i] counts the text parts that share no context.
    Shape: (n_windows,) int64 each.
    """

    starts: Positions
    lengths: Positions
    scored: Positions
    documents: Positions

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def first_targets(self) -> Positions:
        """The first scored target of each window."""
        return self.starts + self.lengths - self.scored


def document_starts(tokens: Tokens, document_token: int | None) -> Positions:
    """Positions at which context begins anew: 0 and every `document_token` that is followed by a target."""
    if document_token is None:
        return np.zeros(1, dtype=np.int64)
    found = np.flatnonzero(tokens[:-1] == document_token)
    return np.union1d(0, found).astype(np.int64)


def cut_windows(
    tokens: Tokens, seq_len: int, stride: int, document_token: int | None = None, first: int | None = None
) -> Windows:
    """Windows over every target of `tokens`, each target scored once.

    `first` (default seq_len) is how many targets the first window of a part scores: below seq_len the context grows
    by `stride` until it is full, which changes no loss of a fixed model but lets one be trained in between.
    Raises: DataError when stride or first do not lie in 1..seq_len.
    """
    first = seq_len if first is None else first
    for name, value in (("stride", stride), ("first", first)):
        if not 1 <= value <= seq_len:
            raise DataError(
                f"the {name} of sliding windows must be between 1 and the window, {seq_len}; found {value}"
            )
    starts = document_starts(tokens, document_token)
    ends = np.append(starts[1:], len(tokens) - 1)
    parts = [_cut_part(int(a), int(b), seq_len, stride, first) for a, b in zip(starts, ends, strict=True)]
    documents = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rows = np.concatenate(parts)
    return Windows(rows[:, 0], rows[:, 1], rows[:, 2], documents)


def _cut_part(begin: int, end: int, seq_len: int, stride: int, first: int) -> Positions:
    """(start, length, scored) of the windows over targets begin..end. Shape: (n, 3)."""
    n_later = max(0, -(-(end - begin - first) // stride))
    full_stops = begin + first + stride * np.arange(n_later + 1)
    starts = np.maximum(full_stops - seq_len, begin)
    stops = np.minimum(full_stops, end)
    before = np.concatenate(([begin], full_stops[:-1]))
    return np.stack((starts, stops - starts, stops - before), axis=1)


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows of one forward pass, padded on the right, which no causal model sees.

    Shape: ids, targets (B, T) int64; scored (B, T - offset) bool: True at each window's scored targets, whose
    positions in the text are `positions` (n,) in row order. Targets before column `offset` are scored by no window;
    `all_scored` says that the mask is True everywhere.
    """

    ids: Tensor
    targets: Tensor
    scored: Tensor
    offset: int
    positions: Positions
    all_scored: bool


def batches(
    tokens: Tokens, windows: Windows, chosen: Positions | None, batch_tokens: int, device: torch.device
) -> Iterator[Batch]:
    """The `chosen` windows (None: all) in batches of about `batch_tokens`, longest first, equal ones in order."""
    chosen = np.arange(len(windows)) if chosen is None else chosen
    order = chosen[np.argsort(-windows.lengths[chosen], kind="stable")]
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // int(windows.lengths[order[start]]))
        yield _batch(tokens, windows, order[start : start + size], device)
        start += size


def _batch(tokens: Tokens, windows: Windows, rows: Positions, device: torch.device) -> Batch:
    starts, lengths, scored = windows.starts[rows], windows.lengths[rows], windows.scored[rows]
    longest = int(lengths[0])
    columns = np.arange(longest + 1)
    index = starts[:, None] + columns
    block = tokens[np.minimum(index, len(tokens) - 1)].astype(np.int64)
    block[columns > lengths[:, None]] = 0
    offset = int((lengths - scored).min())
    seen = columns[offset:-1]
    mask = (seen >= (lengths - scored)[:, None]) & (seen < lengths[:, None])
    part = torch.from_numpy(block).to(device)
    return Batch(
        part[:, :-1],
        part[:, 1:],
        torch.from_numpy(mask).to(device),
        offset,
        (starts[:, None] + seen)[mask],
        bool(mask.all()),
    )
