"""The loss of a batch as training sees it: plain, or with some weights replaced (QAT), compiled or not.

Owns the two callables. They are compiled apart, and replaced weights are arguments of theirs: switching QAT on late
calls the other one, so that no compiler can have folded the switch away, as happened in openai/parameter-golf #212
(finding 2b: QAT that was never on).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from pgpack.errors import DataError
from pgtrain.model.gpt import GPT

PlainLoss = Callable[[Tensor, Tensor], Tensor]
ReplacedLoss = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]


class LossFunction:
    """Mean loss in nats per token of a batch, with the model's penalties in training mode.

    Raises: DataError for a backend that torch.compile does not know.
    """

    def __init__(self, model: GPT, compile_backend: str = "") -> None:
        def with_weights(weights: Mapping[str, Tensor], ids: Tensor, targets: Tensor) -> Tensor:
            loss: Tensor = functional_call(model, dict(weights), (ids, targets))
            return loss

        self._plain: PlainLoss = model
        self._replaced: ReplacedLoss = with_weights
        if compile_backend:
            if compile_backend not in torch.compiler.list_backends(None):
                known = ", ".join(torch.compiler.list_backends())
                raise DataError(f"torch.compile has no backend {compile_backend!r}; known: {known}")
            self._plain = torch.compile(model, backend=compile_backend)
            self._replaced = torch.compile(with_weights, backend=compile_backend)

    def __call__(self, ids: Tensor, targets: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Loss with `weights` in place of the parameters of the same names; None: with the parameters."""
        return self._plain(ids, targets) if weights is None else self._replaced(weights, ids, targets)
