"""Rows that correct each other: the output side of error feedback.

    G = mean d d^T, d = dL/dy     loss = 1/2 tr(G E H E^T)     G = R R^T, R upper triangular

Taken by groups g of rows, the loss is a sum of 1/2 |R_gg^T (E_g + S_g) H^(1/2)|^2 with S_g = R_gg^-T R_<g,g^T E_<g:
what the groups decided before ask of this one, a shift of its target. The rows of one group are quantized together
and taken as independent, each with the conditional weight diag(R_gg R_gg^T) that is left when all later rows follow.
Source: the feedback from both sides of Tseng et al. 2025, arXiv:2505.22988 (YAQA). Where we differ: groups of rows,
so that a trellis can run down them; the input side stays `pgpack.quantizers.feedback`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CalibrationError

from .base import Matrix

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RowFactor:
    """R of a matrix's rows in the order `path` in which they are decided, `group` at a time.

    Shape: R (rows, rows), path (rows,).
    """

    R: Float64
    path: NDArray[np.intp]
    group: int

    @classmethod
    def of(cls, name: str, outputs: Matrix, path: NDArray[np.intp], damp: float, group: int) -> RowFactor:
        """The factor of (G + damp * mean(diag G) I) / (1 + damp), G = `outputs`, with rows in the order `path`.

        Raises: CalibrationError when G is not finite or not positive definite.
        """
        if outputs.shape != (len(path), len(path)) or not np.isfinite(outputs).all():
            raise CalibrationError(
                f"{name}: the second moments of output gradients are {outputs.shape} or not finite, expected "
                f"{(len(path), len(path))} finite numbers; calibrate again"
            )
        G = outputs[np.ix_(path[::-1], path[::-1])].astype(np.float64)
        diagonal = np.diag(G).copy()
        G[np.diag_indices_from(G)] += damp * diagonal.mean() if diagonal.any() else 1.0
        G /= 1 + damp
        try:
            L = np.linalg.cholesky(G)
        except np.linalg.LinAlgError:
            raise CalibrationError(
                f"{name}: the second moments of output gradients are not positive definite with row_damp={damp:g}; "
                "raise row_damp or calibrate on more tokens"
            ) from None
        return cls(np.ascontiguousarray(L[::-1, ::-1]), path, group)

    def groups(self) -> Iterator[slice]:
        for start in range(0, len(self.R), self.group):
            yield slice(start, min(start + self.group, len(self.R)))

    @property
    def weights(self) -> Float64:
        """The conditional weight of every row. Shape: (rows,)."""
        return np.concatenate([np.square(self.R[rows, rows]).sum(axis=1) for rows in self.groups()])

    def shift(self, rows: slice, errors: Matrix) -> Matrix:
        """S of the group `rows`. Shape: errors (all rows, cols), decided up to `rows.start`; result (group, cols)."""
        from scipy.linalg import solve_triangular

        mixing = solve_triangular(self.R[rows, rows], self.R[: rows.start, rows].T, trans="T", check_finite=False)
        found: Matrix = mixing.astype(np.float32) @ errors[: rows.start]
        return found
