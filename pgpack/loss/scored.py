"""What the scored targets of one batch cost, a few at a time: nats, and KL from a reference model.

    states (n, K) --a slice of them--> log-probabilities (m, V) --> nats (m,), KL(reference || model) (m,)

Tokens x vocabulary values are held for a slice only (`pgpack.loss.head`); every row is computed as it would be whole.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .head import Split, slices
from .sliding import Batch


class Scored(NamedTuple):
    """A model on the scored targets of one batch, in the order of their positions.

    `states`: (n, K), rows of which `logprobs` turns into log-probabilities of `n_pieces` pieces.
    """

    states: Tensor
    logprobs: Callable[[Tensor], Tensor]
    n_pieces: int

    @classmethod
    def of(cls, split: Split, batch: Batch, precision: Callable[[], AbstractContextManager[Any]]) -> Scored:
        """The scored targets of a batch that a model was run on; its head is run within `precision()`."""

        def logprobs(rows: Tensor) -> Tensor:
            with precision():
                logits = split.head(rows)
            return F.log_softmax(logits, dim=-1)

        seen = split.hidden[:, batch.offset :]
        states = seen.flatten(0, 1) if batch.all_scored else seen[batch.scored]
        return cls(states, logprobs, split.n_pieces)


class Costs(NamedTuple):
    """Of each scored target, in nats: its loss, and with a reference how much that is above the reference's, and the
    KL. Shape: (n,)."""

    nats: Tensor
    excess: Tensor | None = None
    kl: Tensor | None = None


def costs(model: Scored, batch: Batch, reference: Scored | None = None) -> Costs:
    """What the scored targets cost."""
    targets = batch.targets[:, batch.offset :]
    targets = targets.flatten() if batch.all_scored else targets[batch.scored]
    parts: list[tuple[Tensor, ...]] = []
    for part in slices(len(targets), model.n_pieces):
        logprobs = model.logprobs(model.states[part])
        wanted = targets[part, None]
        nats = -logprobs.gather(-1, wanted)[:, 0]
        if reference is None:
            parts.append((nats,))
            continue
        known = reference.logprobs(reference.states[part])
        excess = nats + known.gather(-1, wanted)[:, 0]
        kl = torch.sub(known, logprobs, out=logprobs).mul_(known.exp()).sum(-1, dtype=torch.float64)
        parts.append((nats, excess, kl))
    return Costs(*(torch.cat(each) for each in zip(*parts, strict=True)))


class Known:
    """What a reference model says of every batch, computed once.

    Log-probabilities lie in a file without a name: those of 57,600 tokens and 1,024 pieces take 0.24 GB. Of models
    whose head is told apart the hidden states are kept, in memory.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._batches: list[tuple[int, torch.Size] | Scored] = []

    def add(self, scored: Scored, states: bool) -> None:
        """Keep the next batch, its hidden `states` or its log-probabilities. Raises: OSError without room for it."""
        if states:
            self._batches.append(scored)
            return
        logprobs = scored.logprobs(scored.states)
        self._batches.append((self._file.tell(), logprobs.shape))
        self._file.write(logprobs.cpu().numpy().data)
        self._file.flush()

    def __getitem__(self, index: int) -> Scored:
        """A batch by its number."""
        kept = self._batches[index]
        if isinstance(kept, Scored):
            return kept
        start, shape = kept
        logprobs = torch.from_numpy(np.memmap(self._file, np.float32, "c", start, tuple(shape)))
        return Scored(logprobs, lambda rows: rows, shape[-1])
