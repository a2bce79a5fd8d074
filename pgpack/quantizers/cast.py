"""Lossless or half-width passthrough: the weights' own bit patterns as symbols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pgpack.errors import CheckpointError
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.raw_values import RawValues

from .base import Quantizer, QuantizerInput
from .inputs import FP16_MAX, masked_weight
from .settings import Allowed, setting

_LARGEST = {"fp32": float(np.finfo(np.float32).max), "bf16": 3.3895313892515355e38, "fp16": FP16_MAX}


@dataclass(frozen=True)
class Cast(Quantizer):
    """Weights rounded to `dtype` (fp32, bf16 or fp16) and stored as they are.

    Use when: a tensor is small or delicate (gains, gates, norms), or the weights must come back bit for bit.

    Raises: CheckpointError on a weight that `dtype` cannot hold: a cast never saturates silently.
    """

    dtype: str = setting(Allowed("fp32, bf16 or fp16", _LARGEST.__contains__), "fp16")

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        largest = float(np.abs(weight).max(initial=0.0))
        if largest > _LARGEST[self.dtype]:
            raise CheckpointError(
                f"{source.name}: a weight of {largest:.6g} exceeds {self.dtype} ({_LARGEST[self.dtype]:.6g}); "
                "store this tensor with cast(dtype=fp32)"
            )
        grid = RawValues(self.dtype)
        return QuantizedTensor(grid.symbols_of(weight), grid, weight.shape)
