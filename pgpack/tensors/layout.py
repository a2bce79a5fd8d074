"""What is known of an array before it is there: shape and dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SymbolLayout:
    """What a coder must return for one part. `dtype` is a numpy type string such as '|i1' or '<u2'."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize
