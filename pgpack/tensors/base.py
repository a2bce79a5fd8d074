"""What every grid is: symbols -> values, with parameters for the header and arrays for the side stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[Any]  # one integer dtype: int8, int16, uint8, uint16, uint32 ...


Weights = NDArray[np.float32]


Arrays = Mapping[str, NDArray[Any]]


class Grid(Protocol):
    """The dequantization law of one tensor."""

    kind: ClassVar[str]

    @property
    def params(self) -> dict[str, Any]:
        """JSON-able decoding parameters."""
        ...

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Side information by name, little-endian dtypes."""
        ...

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        """Values in the order of `symbols`; the caller gives them the tensor's shape."""
        ...
