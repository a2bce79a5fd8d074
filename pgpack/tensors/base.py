"""What every grid is: symbols -> values, with parameters for the header and arrays for the side stream."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[Any]  # one integer dtype: int8, int16, uint8, uint16, uint32 ...
Arrays = Mapping[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Grid(ABC):
    """The dequantization law of one tensor; its fields are all that is stored of it."""

    kind: ClassVar[str]

    @property
    def params(self) -> dict[str, Any]:
        """JSON-able decoding parameters: the fields that are no arrays, those at their default left out."""
        fields = [(each, getattr(self, each.name)) for each in dataclasses.fields(self)]
        return {f.name: value for f, value in fields if not isinstance(value, np.ndarray) and value != f.default}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Side information by name, little-endian dtypes."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    @abstractmethod
    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        """Values in the order of `symbols`; the caller gives them the tensor's shape."""
