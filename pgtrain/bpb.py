"""Bits per byte of any language model on a fixed text, computed as the challenge computes it.

    tokens -> windows of seq_len, no overlap -> logits -> nats (fp32 per token, fp64 sum)
           -> bits / bytes of the decoded text          [+ KL(reference || model) per token]

Owns `TextEvaluator`, an implementation of `pgpack.evaluate.Evaluator`.
Source: openai/parameter-golf train_gpt.py, eval_val. Where we differ: the forward pass is fp32 on every device
(bf16 would add noise of the size of a good packer's loss), and one process scores every window.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pgpack.errors import DataError
from pgpack.evaluate import BitsPerByte, Tensors
from pgtrain.data import Tokens, digest_tokens
from pgtrain.tokenizer import ByteTables

Build = Callable[[Mapping[str, Tensor]], nn.Module]
BATCH_TOKENS = (2048, 32_768)  # CPU: 8 MB of logits per 1024 pieces stay near the cores; CUDA: fills the device
REFERENCE_BYTES = 768 * 2**20  # reference log-probabilities up to this size are kept in memory


def next_token_logits(model: nn.Module, ids: Tensor, vocab_size: int) -> Tensor:
    """Logits of a model that has `forward_logits(ids)`, or else `forward(ids)`. Shape: (B, T) -> (B, T, V).

    Raises: DataError when the model gives something else; a vocabulary padded beyond `vocab_size` is fine.
    """
    logits = getattr(model, "forward_logits", model)(ids)
    if not isinstance(logits, Tensor) or logits.shape[:-1] != ids.shape or logits.shape[-1] < vocab_size:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DataError(
            f"the model's forward_logits (or forward) must return logits of shape (batch, tokens, {vocab_size}); "
            f"got {found}"
        )
    return logits.float()


def trim(tokens: Tokens, seq_len: int, max_tokens: int | None = None) -> Tokens:
    """The first floor((n - 1) / seq_len) * seq_len + 1 tokens, of at most `max_tokens` scored ones.

    Raises: DataError when not one window is left.
    """
    n_scored = len(tokens) - 1 if max_tokens is None else min(len(tokens) - 1, max_tokens)
    n_windows = n_scored // seq_len
    if n_windows < 1:
        raise DataError(
            f"{len(tokens)} validation tokens are too few for one window of {seq_len}; "
            "give more text, a larger --max-tokens or a shorter --seq-len"
        )
    return tokens[: n_windows * seq_len + 1]


@dataclass
class _Sums:
    """Running fp64 sums over scored tokens."""

    nats: float = 0.0
    kl: float = 0.0


class TextEvaluator:
    """Measures tensors on one text; implements `pgpack.evaluate.Evaluator`.

    `build` turns a state dict into a module; `reference` (the fp32 tensors) turns the KL on.
    """

    def __init__(
        self,
        build: Build,
        tokens: Tokens,
        byte_tables: ByteTables,
        seq_len: int,
        *,
        tokenizer_sha256: str = "",
        reference: Tensors | None = None,
        device: str = "cpu",
        batch_tokens: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.build, self.seq_len, self.device = build, seq_len, torch.device(device)
        self.tokens = trim(tokens, seq_len, max_tokens)
        batch_tokens = batch_tokens or BATCH_TOKENS[self.device.type == "cuda"]
        self.batch_size = max(1, batch_tokens // seq_len)
        self.n_tokens = len(self.tokens) - 1
        self.n_text_bytes = byte_tables.count(self.tokens[:-1], self.tokens[1:])
        self.vocab_size = len(byte_tables.base_bytes)
        self._digest = _digest(self.tokens, seq_len, tokenizer_sha256, self.vocab_size)
        self._reference_model: nn.Module | None = None
        self._reference_logprobs: list[Tensor] | None = None
        if reference is not None:
            self._prepare_reference(reference)

    @property
    def digest(self) -> str:
        """sha256 hex over the tokens' digest, seq_len, the tokenizer's digest and the vocabulary size."""
        return self._digest

    def evaluate(self, tensors: Tensors) -> BitsPerByte:
        """Loss of the model that `build` makes of `tensors`.

        Raises: DataError when the loss is not a number or the model does not give logits.
        """
        model = self._module(tensors)
        return self.evaluate_module(model)

    @torch.inference_mode()
    def evaluate_module(self, model: nn.Module) -> BitsPerByte:
        """Loss of a module that already holds its weights."""
        started = time.perf_counter()
        sums = _Sums()
        for index, (ids, targets) in enumerate(self._batches()):
            logprobs = F.log_softmax(next_token_logits(model, ids, self.vocab_size), dim=-1)
            nats = -logprobs.gather(-1, targets[..., None])
            sums.nats += float(nats.sum(dtype=torch.float64))
            expected = self._reference_at(index, ids)
            if expected is not None:
                kl = (expected.exp() * (expected - logprobs)).sum(dtype=torch.float64)
                sums.kl += float(kl)
        nats_per_token = sums.nats / self.n_tokens
        if not math.isfinite(nats_per_token):
            raise DataError("the model's loss is not a finite number; its weights or its model code are broken")
        return BitsPerByte(
            nats=nats_per_token,
            bpb=sums.nats / math.log(2.0) / self.n_text_bytes,
            kl=max(sums.kl / self.n_tokens, 0.0) if self._has_reference else None,
            n_tokens=self.n_tokens,
            n_text_bytes=self.n_text_bytes,
            eval_s=time.perf_counter() - started,
        )

    @property
    def _has_reference(self) -> bool:
        return self._reference_model is not None or self._reference_logprobs is not None

    def _module(self, tensors: Tensors) -> nn.Module:
        state = {name: torch.from_numpy(_writable(array)).to(self.device) for name, array in tensors.items()}
        return self.build(state).to(self.device).eval()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        step = self.batch_size * self.seq_len
        for start in range(0, self.n_tokens, step):
            part = torch.from_numpy(self.tokens[start : start + step + 1].astype(np.int64)).to(self.device)
            yield part[:-1].view(-1, self.seq_len), part[1:].view(-1, self.seq_len)

    @torch.inference_mode()
    def _prepare_reference(self, reference: Tensors) -> None:
        model = self._module(reference)
        if self.n_tokens * self.vocab_size * 4 > REFERENCE_BYTES:
            self._reference_model = model
            return
        self._reference_logprobs = [
            F.log_softmax(next_token_logits(model, ids, self.vocab_size), dim=-1) for ids, _ in self._batches()
        ]

    def _reference_at(self, index: int, ids: Tensor) -> Tensor | None:
        if self._reference_logprobs is not None:
            return self._reference_logprobs[index]
        if self._reference_model is not None:
            return F.log_softmax(next_token_logits(self._reference_model, ids, self.vocab_size), dim=-1)
        return None


def _writable(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The array itself, or a copy where it is read-only: torch shares memory and warns about such arrays."""
    return array if array.flags.writeable and array.flags.c_contiguous else np.array(array, order="C")


def _digest(tokens: Tokens, seq_len: int, tokenizer_sha256: str, vocab_size: int) -> str:
    text = f"text-evaluation-1|{digest_tokens(tokens)}|{seq_len}|{tokenizer_sha256}|{vocab_size}"
    return hashlib.sha256(text.encode("ascii")).hexdigest()
