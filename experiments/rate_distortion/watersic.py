"""WaterSIC, the strongest published quantizer of linear layers at 1 to 4 bits, at its ideal size.

    H = L L^T    step of column j: c / L_jj (waterfilling)    c: entropy of the matrix's integers = the rate
    columns from the last to the first, each corrected by L for the errors of those before (successive cancellation)
    then rows t and columns g: least |(W - diag(t) Z diag(step g)) L|^2, in turn
    size: entropy of the integers, one table a matrix, + 2 bytes a row and a column

*Source* arXiv:2603.04956. Where we differ: H is that of the model as it is (without their drift, residual and
attention weighted terms), table and head are quantized as well, and no file is written, so its coder is taken to
reach the entropy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky

from .entquant import Coded, entropy_bytes

DAMPING = 1e-4  # of the mean second moment
DEAD = 1e-3  # of the median one: columns below it are zero
BLOCK = 128  # columns between two corrections of all that are left
TRIED_ROWS = 1024  # at most, on which c is searched
BISECTIONS = 14
LARGEST_OCTAVE = 12.0
ROUNDS, GAINED = 25, 3e-4  # of the rescalers: at most, and the relative gain below which they stop
CLIPPED = (-0.1, 1.5)  # of a column's rescaler
Float64 = NDArray[np.float64]


def watersic(weight: NDArray[np.floating], hessian: NDArray[np.floating], rate: float) -> Coded:
    """A matrix at a rate. Units: bits of entropy per weight. Shapes: (rows, cols), (cols, cols) or its diagonal."""
    moments = (np.diag(hessian) if hessian.ndim == 1 else hessian).astype(np.float64)
    variances = np.diag(moments)
    live = (variances >= DEAD * np.median(variances)) & (variances > 0)
    whole = np.zeros(weight.shape, np.float32)
    if not live.any():
        return Coded(whole, 0.0)
    used = moments[np.ix_(live, live)]
    used[np.diag_indices_from(used)] += DAMPING * np.mean(np.diag(used))
    factor, matrix = cholesky(used, lower=True), weight[:, live].astype(np.float64)
    spacing = 1 / np.diag(factor)
    spacing *= _scale(matrix, factor, spacing, rate * weight.size / matrix.size)
    symbols = cancelled(matrix, factor, spacing)
    t, g = rescaled(matrix, symbols * spacing, used)
    whole[:, live] = t[:, None] * symbols * (spacing * g)
    return Coded(whole, entropy_bytes(symbols) + 2 * sum(matrix.shape))


def cancelled(matrix: Float64, factor: Float64, spacing: Float64) -> Float64:
    """The integers of successive cancellation. Shapes: (rows, cols), lower triangle (cols, cols), (cols,)."""
    left, symbols = matrix.copy(), np.empty_like(matrix)
    for end in range(matrix.shape[1], 0, -BLOCK):
        start = max(0, end - BLOCK)
        errors = np.empty((len(matrix), end - start))
        for j in range(end - 1, start - 1, -1):
            target = left[:, j] + errors[:, j + 1 - start :] @ factor[j + 1 : end, j] / factor[j, j]
            symbols[:, j] = np.rint(target / spacing[j])
            errors[:, j - start] = matrix[:, j] - symbols[:, j] * spacing[j]
        left[:, :start] += errors @ (factor[start:end, :start] / np.diag(factor)[:start])
    return symbols


def _scale(matrix: Float64, factor: Float64, spacing: Float64, rate: float) -> float:
    """What the spacing is multiplied by for a rate, found on some of the rows."""
    tried = matrix[:: -(-len(matrix) // TRIED_ROWS)]
    spread = np.sqrt(np.square(tried @ factor).mean())  # what a step of 1 / L_jj costs is alike in each column
    low, high = -LARGEST_OCTAVE, LARGEST_OCTAVE / 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found = 8 * entropy_bytes(cancelled(tried, factor, spacing * spread * 2**middle)) / tried.size
        low, high = (middle, high) if found > rate else (low, middle)
    return float(spread * 2 ** ((low + high) / 2))


def rescaled(matrix: Float64, decoded: Float64, moments: Float64) -> tuple[Float64, Float64]:
    """(t, g) of least |(W - diag(t) D diag(g)) L|. Shapes: (rows, cols) twice, (cols, cols) -> (rows,), (cols,)."""
    wanted = matrix @ moments
    whole = float((wanted * matrix).sum())
    t, g = np.ones(len(matrix)), np.ones(len(moments))
    loss = np.inf
    for _ in range(ROUNDS):
        quadratic = moments * ((decoded * np.square(t)[:, None]).T @ decoded)
        quadratic[np.diag_indices_from(quadratic)] += max(1e-11, 1e-8 * np.abs(np.diag(quadratic)).mean())
        linear = (decoded * wanted * t[:, None]).sum(axis=0)
        new_g = np.clip(cho_solve(cho_factor(quadratic), linear), *CLIPPED)
        scaled = decoded * new_g
        power = ((scaled @ moments) * scaled).sum(axis=1)
        crossed = (scaled * wanted).sum(axis=1)
        new_t = np.divide(crossed, power, out=np.ones_like(t), where=power > 0)
        now = whole + float((np.square(new_t) * power - 2 * new_t * crossed).sum())
        if not now < loss:
            break
        t, g, gained = new_t, new_g, 1 - now / loss if np.isfinite(loss) else 1.0
        loss = now
        if gained < GAINED:
            break
    return t, g
