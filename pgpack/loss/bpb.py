"""Bits per byte of any language model on a fixed text, computed as the challenge computes it.

    tokens -> windows of seq_len (`sliding`) -> logits -> nats (fp32 per token, fp64 sum)
           -> bits / bytes of the decoded text             [+ KL(reference || model) per token]

Owns `TextEvaluator`, an implementation of `pgpack.loss.evaluator.Evaluator`: full, sliding and document-isolated.
Source: openai/parameter-golf train_gpt.py, eval_val. Where we differ: the forward pass is fp32 on every device
unless bf16 is asked for (it adds noise of the size of a good packer's loss), and one process scores every window.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgpack.errors import DataError
from pgpack.text.data import Tokens, digest_tokens
from pgpack.text.tokenizer import TokenizedText

from .evaluator import BitsPerByte, Tensors, whole_windows, with_errors
from .head import Split, Splitter, logits_of, reading
from .intervals import block_starts
from .scored import Known, Scored, costs
from .sliding import Batch, Windows, batches, cut_windows

Build = Callable[[Mapping[str, Tensor]], nn.Module]
BATCH_TOKENS = (2048, 32_768)  # CPU: 8 MB of logits per 1024 pieces stay near the cores; CUDA: fills the device
REFERENCE_BYTES = 768 * 2**20  # reference log-probabilities up to this size are kept in a file


def next_token_logits(model: nn.Module, ids: Tensor, vocab_size: int) -> Tensor:
    """`logits_of` the model in float32. Shape: (B, T) -> (B, T, V).

    Raises: DataError when the model gives something else; a vocabulary padded beyond `vocab_size` is fine.
    """
    logits = logits_of(model, ids)
    require_logits(logits, ids, vocab_size)
    return logits.float()


def require_logits(logits: Any, ids: Tensor, vocab_size: int) -> None:
    """Nothing. Raises: DataError when `logits` are none of `ids`."""
    if not isinstance(logits, Tensor) or logits.shape[:-1] != ids.shape or logits.shape[-1] < vocab_size:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DataError(
            f"the model's forward_logits (or forward) must return logits of shape (batch, tokens, {vocab_size}); "
            f"got {found}"
        )


def trim(tokens: Tokens, seq_len: int, max_tokens: int | None = None) -> Tokens:
    """The first floor((n - 1) / seq_len) * seq_len + 1 tokens, of at most `max_tokens` scored ones.

    Raises: DataError when not one window is left.
    """
    return tokens[: whole_windows(len(tokens), seq_len, max_tokens) * seq_len + 1]


@dataclass
class _Sums:
    """Running fp64 sums over scored tokens: of all, and by block of the text. Shape: (n_blocks,) where not scalar."""

    excess: NDArray[np.float64]
    kl_blocks: NDArray[np.float64]
    nats: float = 0.0
    kl: float = 0.0


class TextEvaluator:
    """Measures tensors on one text; implements `pgpack.loss.evaluator.Evaluator`.

    `text`: tokens and the bytes that each stands for; `vocab_size`: how many logits a model must give at least.
    `build` turns a state dict into a module; `reference` (the fp32 tensors) turns the KL on. Windows start every
    `stride` tokens (None: seq_len, no overlap); with `document_token` no context crosses the start of a document.
    `variant` names what `build` does beyond the tensors, such as extra loops; it is part of the digest.
    """

    def __init__(
        self,
        build: Build,
        text: TokenizedText,
        vocab_size: int,
        seq_len: int,
        *,
        tokenizer_sha256: str = "",
        reference: Tensors | None = None,
        device: str = "cpu",
        batch_tokens: int | None = None,
        max_tokens: int | None = None,
        stride: int | None = None,
        document_token: int | None = None,
        variant: str = "",
        bf16: bool = False,
    ) -> None:
        self.build, self.seq_len, self.device, self.bf16 = build, seq_len, torch.device(device), bf16
        self.tokens = trim(text.tokens, seq_len, max_tokens)
        self.stride, self.document_token = stride or seq_len, document_token
        self.windows = cut_windows(self.tokens, seq_len, self.stride, document_token)
        self.batch_tokens = batch_tokens or BATCH_TOKENS[self.device.type == "cuda"]
        self.n_tokens = len(self.tokens) - 1
        self.text, self.vocab_size = text.first(len(self.tokens)), vocab_size
        self.n_text_bytes = self.text.scored_bytes
        self._digest = self._make_digest(tokenizer_sha256, variant)
        self._splitter = Splitter(vocab_size)
        self._reference: Known | nn.Module | None = None
        if reference is not None:
            self._prepare_reference(reference)

    @property
    def digest(self) -> str:
        """sha256 hex over the tokens' digest, seq_len, the tokenizer's digest, vocabulary size and windows."""
        return self._digest

    def evaluate(self, tensors: Tensors) -> BitsPerByte:
        """Loss of the model that `build` makes of `tensors`.

        Raises: DataError when the loss is not a number or the model does not give logits.
        """
        return self.evaluate_module(self.module(tensors))

    @torch.inference_mode()
    def evaluate_module(self, model: nn.Module) -> BitsPerByte:
        """Loss of a module that already holds its weights."""
        started = time.perf_counter()
        edges = self._block_edges()
        sums = _Sums(np.zeros(len(edges)), np.zeros(len(edges)))
        for index, batch in enumerate(self.batches()):
            found = costs(self._scored(model, batch), batch, self._reference_at(index, batch))
            sums.nats += float(found.nats.sum(dtype=torch.float64))
            if found.kl is not None and found.excess is not None:
                sums.kl += float(found.kl.sum())
                block = np.searchsorted(edges, batch.positions, side="right") - 1
                sums.excess += _by_block(found.excess, block, len(edges))
                sums.kl_blocks += _by_block(found.kl, block, len(edges))
        elapsed = time.perf_counter() - started
        if self._reference is None:
            return self.loss(sums.nats, elapsed)
        return self._with_errors(self.loss(sums.nats, elapsed, sums.kl), sums, edges)

    def _block_edges(self) -> NDArray[np.int64]:
        """The first target of each block. Shape: (n_blocks,)."""
        edges: NDArray[np.int64] = self.windows.first_targets[block_starts(len(self.windows))]
        return edges

    def _with_errors(self, loss: BitsPerByte, sums: _Sums, edges: NDArray[np.int64]) -> BitsPerByte:
        ends = [*edges[1:].tolist(), self.n_tokens]
        spans = list(zip(edges.tolist(), ends, strict=True))
        n_bytes = [int(self.text.n_bytes[a + 1 : b + 1].sum(dtype=np.int64)) for a, b in spans]
        return with_errors(loss, sums.excess, sums.kl_blocks, n_bytes, [b - a for a, b in spans])

    @torch.inference_mode()
    def token_nats(self, model: nn.Module) -> NDArray[np.float32]:
        """Loss of every target in the order of the text. Shape: (n_tokens,)."""
        nats = np.full(self.n_tokens, np.nan, dtype=np.float32)
        for batch in self.batches():
            nats[batch.positions] = self.scored_nats(model, batch)
        return nats

    def scored_nats(self, model: nn.Module, batch: Batch) -> NDArray[np.float32]:
        """Loss of the scored targets of one batch, in the order of `batch.positions`."""
        found: NDArray[np.float32] = costs(self._scored(model, batch), batch).nats.cpu().numpy()
        return found

    def loss(self, nats: float, eval_s: float, kl: float | None = None) -> BitsPerByte:
        """What sums over the whole text mean.

        Raises: DataError when the loss is not a number, or the tokens stand for no text.
        """
        if not self.n_text_bytes:
            raise DataError("the evaluated tokens stand for no text: all of them are special ones; give other text")
        nats_per_token = nats / self.n_tokens
        if not math.isfinite(nats_per_token):
            raise DataError("the model's loss is not a finite number; its weights or its model code are broken")
        return BitsPerByte(
            nats=nats_per_token,
            bpb=nats / math.log(2.0) / self.n_text_bytes,
            kl=None if kl is None else max(kl / self.n_tokens, 0.0),
            n_tokens=self.n_tokens,
            n_text_bytes=self.n_text_bytes,
            eval_s=eval_s,
        )

    def batches(self, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """The chosen windows (None: all) as forward passes."""
        return batches(self.tokens, self.windows, chosen, self.batch_tokens, self.device)

    def module(self, tensors: Tensors) -> nn.Module:
        """The model of these tensors in eval mode; on a CPU it may share their memory."""
        state = {name: torch.from_numpy(_writable(array)).to(self.device) for name, array in tensors.items()}
        return self.build(state).to(self.device).eval()

    def with_windows(self, windows: Windows) -> TextEvaluator:
        """This evaluator with other windows over the same targets, without reference."""
        other = copy.copy(self)
        other.windows, other._reference = windows, None
        return other

    def _split(self, model: nn.Module, batch: Batch) -> Split:
        with reading(), self._precision():
            split = self._splitter(model, batch.ids)
        if not split.told_apart:
            require_logits(split.hidden, batch.ids, self.vocab_size)
        return split

    def _scored(self, model: nn.Module, batch: Batch) -> Scored:
        return Scored.of(self._split(model, batch), batch, self._precision)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @torch.inference_mode()
    def _prepare_reference(self, reference: Tensors) -> None:
        """Keep what the reference says of every batch, or the model itself where that is too much."""
        model = self.module(reference)
        n_bytes = int(self.windows.scored.max()) * len(self.windows) * self.vocab_size * 4
        known = Known()
        try:
            for index, batch in enumerate(self.batches()):
                split = self._split(model, batch)
                if index == 0 and n_bytes > REFERENCE_BYTES and not split.told_apart:
                    self._reference = model
                    return
                known.add(Scored.of(split, batch, self._precision), states=split.told_apart)
        except OSError:  # no room for the file
            self._reference = model
            return
        self._reference = known

    def _reference_at(self, index: int, batch: Batch) -> Scored | None:
        if isinstance(self._reference, Known):
            return self._reference[index]
        return None if self._reference is None else self._scored(self._reference, batch)

    def _make_digest(self, tokenizer_sha256: str, variant: str) -> str:
        text = f"text-evaluation-1|{digest_tokens(self.tokens)}|{self.seq_len}|{tokenizer_sha256}|{self.vocab_size}"
        if self.stride != self.seq_len:
            text += f"|stride {self.stride}"
        if self.document_token is not None:
            text += f"|documents at {self.document_token}"
        if self.bf16:
            text += "|bf16"
        if variant:
            text += f"|{variant}"
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def _by_block(values: Tensor, block: NDArray[np.int64], n_blocks: int) -> NDArray[np.float64]:
    """Sums of one value per scored target by the target's block."""
    return np.bincount(block, values.flatten().double().cpu().numpy(), n_blocks).astype(np.float64)


def _writable(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The array itself, or a copy where it is read-only: torch shares memory and warns about such arrays."""
    return array if array.flags.writeable and array.flags.c_contiguous else np.array(array, order="C")
