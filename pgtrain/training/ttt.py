"""Score-first test-time training: a model that learns from the text it is measured on, without looking ahead.

    chunk 0: score -> train        chunk 1: score -> train        ...        last chunk: score
             every target of a chunk has its final loss before any gradient sees it

Owns the order of scoring and training, which rules C1 to C4 of issue #1017 of openai/parameter-golf ask for: a loss
depends on earlier tokens alone, comes from a full distribution, is fixed before its token is trained on, in one pass
from left to right. Refuses (by RoundTripError, a bug of ours) to train on a target that has no loss yet.
Source: chunks, SGD, epochs and the cosine over chunks of #1493 and #1546; low-rank adapters with a reset at every
document of #77 and #1855. Where we differ: freezing is by block and freezes its matrices, whereas in #1546 the
matrices lay in banks outside the blocks and a freeze of two blocks held 4,112 scalars still.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pgpack.errors import DataError, RoundTripError
from pgpack.loss.bpb import TextEvaluator, next_token_logits
from pgpack.loss.evaluator import BitsPerByte, Tensors
from pgpack.loss.sliding import cut_windows
from pgtrain.model.tensor_table import parameter_group

from .ttt_config import TTTConfig

BLOCK_LISTS = ("blocks", "shared_blocks")


@dataclass(frozen=True)
class TTTReport:
    """What the training amounted to: counts of values, chunks, optimizer steps and targets seen in them.

    `frozen_values` are those of the frozen blocks; a target counts once per epoch.
    """

    trained_values: int
    frozen_values: int
    chunks: int
    steps: int
    trained_tokens: int


class Learner(nn.Module):
    """A model whose weights are seen through what has been learned; the module's own tensors never change.

    sgd: the learned values replace the module's. lora: W + B A, with A (rank, in) and B (out, rank).
    """

    def __init__(self, module: nn.Module, vocab_size: int, config: TTTConfig, bf16: bool = False) -> None:
        super().__init__()
        self.module, self.vocab_size, self.config, self.bf16 = module, vocab_size, config, bf16
        self.steps = self.trained_tokens = 0
        frozen = frozen_names(module, config.freeze_blocks, config.frozen_part)
        self._bases = _trainable(module, config.kind, frozen)
        self.reset_()
        self.trained_values = sum(tensor.numel() for tensor in self._learned.values())
        self.frozen_values = sum(p.numel() for name, p in module.named_parameters() if name in frozen)

    def reset_(self) -> None:
        """Forget everything learned, momentum included."""
        self._learned: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(self.config.seed)
        for name, base in self._bases.items():
            if self.config.kind == "sgd":
                self._learned[name] = base.clone()
                continue
            rows, columns = base.shape
            bound = columns**-0.5
            start = torch.empty(self.config.rank, columns).uniform_(-bound, bound, generator=generator)
            self._learned[f"{name}/A"] = start.to(base.device, base.dtype)
            self._learned[f"{name}/B"] = base.new_zeros(rows, self.config.rank)
        leaves = [tensor.requires_grad_() for tensor in self._learned.values()]
        if self.config.kind == "sgd":
            self._optimizer: torch.optim.Optimizer = torch.optim.SGD(leaves, momentum=self.config.momentum)
        else:
            self._optimizer = torch.optim.Adam(leaves, betas=(0.9, 0.95), eps=1e-10)
        self._seen: dict[str, Tensor] | None = None

    def weights(self) -> dict[str, Tensor]:
        """Name -> tensor of everything that is not the module's own."""
        if self.config.kind == "sgd":
            return self._learned
        return {
            name: base + self._learned[f"{name}/B"] @ self._learned[f"{name}/A"] for name, base in self._bases.items()
        }

    def forward_logits(self, ids: Tensor) -> Tensor:  # (B, T) int64 -> (B, T, V) float32
        """Logits with what has been learned so far."""
        if torch.is_grad_enabled():
            return self._logits(self.weights(), ids)
        if self._seen is None:
            self._seen = self.weights()
        return self._logits(self._seen, ids)

    def _logits(self, weights: dict[str, Tensor], ids: Tensor) -> Tensor:
        named = {f"module.{name}": tensor for name, tensor in weights.items()}
        logits: Tensor = functional_call(_Logits(self.module, self.vocab_size), named, (ids,))
        return logits

    def step_(self, ids: Tensor, targets: Tensor, lr: float) -> None:
        """One optimizer step on targets that are already scored."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.forward_logits(ids)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.grad_clip:
            torch.nn.utils.clip_grad_norm_(list(self._learned.values()), self.config.grad_clip)
        self._optimizer.step()
        self._seen = None
        self.steps += 1
        self.trained_tokens += targets.numel()


class _Logits(nn.Module):
    """Gives `next_token_logits` of any model the shape that `functional_call` needs."""

    def __init__(self, module: nn.Module, vocab_size: int) -> None:
        super().__init__()
        self.module, self.vocab_size = module, vocab_size

    def forward(self, ids: Tensor) -> Tensor:
        return next_token_logits(self.module, ids, self.vocab_size)


def frozen_names(module: nn.Module, n_blocks: int, part: str = "all") -> set[str]:
    """Every parameter, matrices included unless `part` is scalars, of the first `n_blocks` physical blocks.

    Raises: DataError when the model has no list of blocks, or fewer than that.
    """
    if n_blocks == 0:
        return set()
    names = [name for name, _ in module.named_parameters()]
    found: set[str] = set()
    for index in range(n_blocks):
        prefixes = tuple(f"{blocks}.{index}." for blocks in BLOCK_LISTS)
        held = {name for name in names if name.startswith(prefixes)}
        if not held:
            raise DataError(f"block {index} cannot be frozen: no tensor is called {' or '.join(prefixes)}*")
        found |= held if part == "all" else {name for name in held if parameter_group(name) == "scalar"}
    return found


def _trainable(module: nn.Module, kind: str, frozen: set[str]) -> dict[str, Tensor]:
    """Name -> tensor of what learns: all floating weights (sgd), or the matrices of linear layers (lora)."""
    linear = {
        f"{prefix}.weight" if prefix else "weight"
        for prefix, part in module.named_modules()
        if isinstance(part, nn.Linear) and min(part.weight.shape) > 1
    }
    chosen = {
        name: parameter.detach()
        for name, parameter in module.named_parameters()
        if name not in frozen and parameter.is_floating_point() and (kind == "sgd" or name in linear)
    }
    if not chosen:
        raise DataError("nothing is left to train: every weight of this model is frozen")
    return chosen


class TTTEvaluator:
    """Implements `pgpack.loss.evaluator.Evaluator` on the text, windows and model of a `TextEvaluator`.

    After `evaluate`, `report` says what was trained. The tensors that are evaluated are never changed.
    """

    def __init__(self, text: TextEvaluator, config: TTTConfig) -> None:
        self.text, self.config = text, config
        first = min(text.seq_len, config.chunk_tokens)
        self.windows = cut_windows(text.tokens, text.seq_len, min(text.stride, first), text.document_token, first)
        self.text_batches = text.with_windows(self.windows)
        self.report: TTTReport | None = None

    @property
    def digest(self) -> str:
        """sha256 hex over the digest of the fixed evaluation and the settings of the training."""
        settings = dataclasses.asdict(self.config)
        if self.config.frozen_part == "all":  # as it was before there was a choice
            del settings["frozen_part"]
        way = f"{self.text.digest}|score-first-ttt-1|{sorted(settings.items())}"
        return hashlib.sha256(way.encode("ascii")).hexdigest()

    def evaluate(self, tensors: Tensors) -> BitsPerByte:
        """Loss of the model that starts as `tensors` and learns; `kl` is not defined for a changing model."""
        started = time.perf_counter()
        nats = self.token_nats(tensors)
        return self.text.loss(float(nats.sum(dtype=np.float64)), time.perf_counter() - started)

    def token_nats(self, tensors: Tensors) -> NDArray[np.float32]:
        """Loss of every target in the order of the text, each from before it was trained on. Shape: (n_tokens,)."""
        learner = Learner(self.text.module(tensors), self.text.vocab_size, self.config, self.text.bf16)
        reset = self.config.kind == "lora"
        nats = np.full(self.text.n_tokens, np.nan, dtype=np.float32)
        chunks = list(self._chunks())
        if not reset:  # one learner for the whole text, however many documents it has
            chunks = [dataclasses.replace(chunk, number=i, of=len(chunks)) for i, chunk in enumerate(chunks)]
        for chunk in chunks:
            if chunk.number == 0 and reset:
                learner.reset_()
            self._score(learner, chunk, nats)
            if chunk.number + 1 < chunk.of:  # nobody would profit from training on the last one
                self._train(learner, chunk, nats)
        self.report = TTTReport(
            learner.trained_values, learner.frozen_values, len(chunks), learner.steps, learner.trained_tokens
        )
        return nats

    def _score(self, learner: Learner, chunk: _Chunk, nats: NDArray[np.float32]) -> None:
        with torch.no_grad():
            for batch in self.text_batches.batches(chunk.windows):
                nats[batch.positions] = self.text_batches.scored_nats(learner, batch)

    def _train(self, learner: Learner, chunk: _Chunk, nats: NDArray[np.float32]) -> None:
        if np.isnan(nats[chunk.begin : chunk.end]).any():
            raise RoundTripError(f"targets {chunk.begin} to {chunk.end} would be trained on before they are scored")
        lr = self.config.lr * 0.5 * (1.0 + math.cos(math.pi * chunk.number / max(chunk.of - 1, 1)))
        part = torch.from_numpy(self.text.tokens[chunk.begin : chunk.end + 1].astype(np.int64)).to(self.text.device)
        for _ in range(self.config.epochs):
            for ids, targets in _sequences(part, self.text.seq_len, self.config.batch_tokens):
                learner.step_(ids, targets, lr)

    def _chunks(self) -> Iterator[_Chunk]:
        """Chunks from left to right. A window belongs to the chunk of its first scored target."""
        first_targets, documents = self.windows.first_targets, self.windows.documents
        lasts = np.flatnonzero(np.append(documents[1:] != documents[:-1], True))
        begin_row = 0
        for last in lasts:
            rows = np.arange(begin_row, last + 1)
            begin = int(self.windows.starts[begin_row])
            end = int(self.windows.starts[last] + self.windows.lengths[last])
            of = -(-(end - begin) // self.config.chunk_tokens)
            owner = (first_targets[rows] - begin) // self.config.chunk_tokens
            for number in range(of):
                start = begin + number * self.config.chunk_tokens
                stop = min(start + self.config.chunk_tokens, end)
                yield _Chunk(start, stop, number, of, rows[owner == number])
            begin_row = int(last) + 1


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Targets begin..end, the windows that start to score in it, and its number `of` all of its text or document."""

    begin: int
    end: int
    number: int
    of: int
    windows: NDArray[np.int64]


def _sequences(part: Tensor, seq_len: int, batch_tokens: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, targets) of consecutive sequences, several per step; the rest that fills none comes as a shorter one."""
    n_targets = len(part) - 1
    whole = n_targets // seq_len
    size = max(1, batch_tokens // seq_len)
    for start in range(0, whole, size):
        stop = min(start + size, whole)
        piece = part[start * seq_len : stop * seq_len + 1]
        yield piece[:-1].view(-1, seq_len), piece[1:].view(-1, seq_len)
    rest = part[whole * seq_len :]
    if len(rest) > 1:
        yield rest[None, :-1], rest[None, 1:]
