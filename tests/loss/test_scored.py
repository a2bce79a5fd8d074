"""Slices of tokens, and a reference that is kept, change no loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pgpack.loss import bpb, head
from pgpack.loss.bpb import TextEvaluator
from pgpack.loss.evaluator import BitsPerByte
from pgpack.text.tokenizer import TokenizedText

V, D, SEQ = 50, 6, 16
TOKENS = np.random.default_rng(1).integers(0, V, 20 * SEQ + 1).astype(np.uint16)


class Small(nn.Module):
    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.table = nn.Parameter(state["table"])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table[ids].cumsum(1) / 4
        return 2 * torch.tanh(nn.functional.linear(x, self.table) / 2)


def measured(**options: int) -> BitsPerByte:
    rng = np.random.default_rng(0)
    tensors = [{"table": rng.normal(size=(V, D)).astype(np.float32)} for _ in range(2)]
    text = TokenizedText(TOKENS, np.full(len(TOKENS), 3, np.uint8))
    made = TextEvaluator(Small, text, V, SEQ, reference=tensors[0], **options)
    assert made.evaluate(tensors[0]).kl == 0
    return made.evaluate(tensors[1])


@pytest.mark.parametrize("options", [{}, {"stride": 4}, {"batch_tokens": 2 * SEQ}])
@pytest.mark.parametrize("reference_bytes", [0, 2**30])
def test_slices_and_what_is_kept_of_the_reference_change_no_loss(
    options: dict[str, int], reference_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(**options)
    monkeypatch.setattr(bpb, "REFERENCE_BYTES", reference_bytes)
    monkeypatch.setattr(head, "SLICE_BYTES", 3 * V * 4)
    sliced = measured(**options)
    assert (sliced.nats, sliced.kl, sliced.block_excess) == (whole.nats, whole.kl, whole.block_excess)
    monkeypatch.setattr(head, "WHOLE_BYTES", 0)
    apart = measured(**options)
    assert apart.nats == pytest.approx(whole.nats, rel=1e-6)
    assert apart.kl == pytest.approx(whole.kl, rel=1e-5)
    np.testing.assert_allclose(apart.block_excess, whole.block_excess, rtol=1e-4, atol=1e-4)
