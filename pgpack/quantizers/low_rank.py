"""Low rank: a matrix as a product of two, or a low-rank correction of its quantization error.

    svd    W ~ A B                      both factors go through the rest of the chain
    lqer   W ~ Q + A B,  A B ~ W - Q    Q is the rest of the chain, the factors have their own small grids

Neither can honour a mask, since A B is dense; both refuse to stand after pruning. Pruning may follow `lqer`
(sparse plus low rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import RecipeError
from pgpack.tensors.grids import QuantizedTensor, UniformGrid

from .base import Encoding, Inner, Matrix, QuantizerInput, Transform
from .inputs import divisors, finite_weight, fp16_values, refuse_mask, round_to_grid
from .settings import AT_LEAST_1, BITS, setting
from .uniform import Rtn, largest_symbol

FILLS_IN = "{} fills pruned weights in again and cannot follow pruning; put it first"


def plain_part(encoding: Encoding, source: QuantizerInput, stage: str) -> QuantizedTensor:
    """The only part of a plain encoding. Raises RecipeError when two low-rank forms are nested."""
    if encoding.form != "plain":
        raise RecipeError(f"{source.name}: {stage} cannot hold another low-rank transform; use one of them")
    return encoding.parts[0]


def leading_factors(M: Matrix, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(U S, V^T) of the `rank` largest singular values (fewer when a side is shorter), in falling order.

    Shape: (out, r) and (r, in). The largest entry of each row of V^T is positive, so signs are reproducible.
    From the eigenvectors of the smaller Gram matrix in float64: exact to about 1e-8 of the largest singular
    value, at a cost of the smaller side squared times the larger.
    """
    from scipy.linalg import eigh

    rows, cols = M.shape
    r = min(rank, rows, cols)
    if r == 0:
        return np.zeros((rows, 0)), np.zeros((0, cols))
    wide = M.astype(np.float64)
    n = min(rows, cols)
    gram = wide @ wide.T if rows < cols else wide.T @ wide
    vectors = eigh(gram, subset_by_index=(n - r, n - 1), overwrite_a=True)[1][:, ::-1]
    if rows < cols:
        right = vectors.T @ wide
        S = np.linalg.norm(right, axis=1)
        US, V_T = vectors * S, right / np.where(S > 0, S, 1.0)[:, None]
    else:
        US, V_T = wide @ vectors, vectors.T.copy()
    peak = np.abs(V_T).argmax(axis=1)
    sign = np.where(V_T[np.arange(r), peak] < 0, -1.0, 1.0)
    return US * sign, V_T * sign[:, None]


def balanced_factors(M: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """(U sqrt(S), sqrt(S) V^T) in float32: both factors carry half of each singular value."""
    US, V_T = leading_factors(M, rank)
    root = np.sqrt(np.linalg.norm(US, axis=0))
    A = US / np.where(root > 0, root, 1.0)
    return A.astype(np.float32), (V_T * root[:, None]).astype(np.float32)


def one_scale(name: str, values: Matrix, denominator: float, limits: tuple[int, int]) -> QuantizedTensor:
    """A factor on a uniform grid with a single step |values|max / denominator."""
    largest = np.abs(values).max(initial=0.0) / np.float32(denominator)
    scales = fp16_values(name, np.full((1, 1), largest, dtype=np.float32))
    return round_to_grid(values, scales, 0, limits)


@dataclass(frozen=True)
class Svd(Transform):
    """W ~ A B with A = U sqrt(S) and B = sqrt(S) V^T of the given rank, each quantized by the rest of the chain.

    Use when: a matrix has low rank, as its spectrum (`pgpack analyze`) shows; trained tables seldom have.

    B sees the layer's own inputs and Hessian H; A sees B x, hence B H B^T with B as it will be decoded, and the
    output's Fisher weights. A rank above the shorter side is lowered to it.
    """

    rank: int = setting(AT_LEAST_1, 64)

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        refuse_mask(source, FILLS_IN.format("svd"))
        A, B = balanced_factors(finite_weight(source), self.rank)
        right = plain_part(inner(replace(source, weight=B, fisher=None)), source, "svd")
        hessian = None
        H = source.hessian
        if H is not None and H.shape in ((B.shape[1],) * 2, (B.shape[1],)):
            decoded = right.dequantize().astype(np.float64)
            hessian = ((decoded * H if H.ndim == 1 else decoded @ H) @ decoded.T).astype(np.float32)
        left = plain_part(inner(replace(source, weight=A, hessian=hessian)), source, "svd")
        return Encoding("factored", (left, right))


def residual(source: QuantizerInput, inner: Inner, stage: str) -> tuple[QuantizedTensor, Matrix, float]:
    """(Q, W - Q, its Frobenius norm) of the rest of the chain."""
    refuse_mask(source, FILLS_IN.format(stage))
    weight = finite_weight(source)
    Q = plain_part(inner(source), source, stage)
    E: Matrix = weight - Q.dequantize()
    return Q, E, float(np.linalg.norm(E.astype(np.float64)))


@dataclass(frozen=True)
class Lqer(Transform):
    """W ~ Q + A B, the best rank-r correction of the quantization error, its factors rounded to `bits`.

    Use when: quantization at few bits leaves an error with a few large directions.

    Source: Zhang et al. 2024, arXiv:2402.02446, Eq. 6 to 8 (LQER without activation scaling).
    Where we differ: singular values are split evenly over both factors; B has a step per row, A one step (its
    columns are of like size, and a step per row would cost more than the row's symbols).
    """

    rank: int = setting(AT_LEAST_1, 8)
    bits: int = setting(BITS, 8)

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        Q, E, norm = residual(source, inner, "lqer")
        A, B = balanced_factors(E, self.rank)
        R = largest_symbol(self.bits)
        left = one_scale(source.name, A, R, (-R, R))
        right = Rtn(self.bits).quantize(QuantizerInput(source.name, B))
        return Encoding("corrected", (Q, left, right), norm)


@dataclass(frozen=True)
class LqerAsym(Transform):
    """W ~ Q + A B with A = U S on one asymmetric grid and B = V^T on another with a step per `group` values.

    Use when: a handful of the worst tensors should get a correction of 2 to 4 bits a value, as the field does.

    b bits mean symbols -2^(b-1) .. 2^(b-1) - 1 and the step |max| / (2^(b-1) - 1/2): int2 in [-2, 1] with
    |A|max / 1.5, int4 in [-8, 7] with |B|max / 7.5 over flattened groups. `top` is how many tensors of a recipe
    keep their correction; `select_corrections` applies it.
    Source: openai/parameter-golf PR #1797. Where we differ: the sign of each singular pair, free there, is the
    one that loses less on A's lopsided grid; a last group may be short.
    """

    rank: int = setting(AT_LEAST_1, 4)
    a_bits: int = setting(BITS, 2)
    b_bits: int = setting(BITS, 4)
    group: int = setting(AT_LEAST_1, 64)
    top: int = setting(AT_LEAST_1, 3)

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        Q, E, norm = residual(source, inner, "lqer_asym")
        US, V_T = leading_factors(E, self.rank)
        sign = self._signs(US.astype(np.float32), source.name)
        left = self._left((US * sign).astype(np.float32), source.name)
        return Encoding("corrected", (Q, left, self._right((V_T * sign[:, None]).astype(np.float32))), norm)

    def _left(self, A: Matrix, name: str) -> QuantizedTensor:
        half = 2 ** (self.a_bits - 1)
        return one_scale(name, A, half - 0.5, (-half, half - 1))

    def _signs(self, A: Matrix, name: str) -> NDArray[np.float64]:
        """+1 or -1 per column of A: the one with the smaller rounding error. Shape: (rank,)."""
        error = [np.square(self._left(s * A, name).dequantize() - s * A).sum(axis=0) for s in (1, -1)]
        return np.where(error[1] < error[0], -1.0, 1.0)

    def _right(self, B: Matrix) -> QuantizedTensor:
        half = 2 ** (self.b_bits - 1)
        groups = np.append(B.reshape(-1), np.zeros(-B.size % self.group, np.float32)).reshape(-1, self.group)
        scales = (np.abs(groups).max(axis=1, keepdims=True, initial=0.0) / np.float32(half - 0.5)).astype(np.float16)
        symbols = np.clip(np.rint(groups / divisors(scales)), -half, half - 1).astype(np.int8)
        return QuantizedTensor(symbols, UniformGrid(scales), B.shape)


def select_corrections(encodings: Mapping[str, Encoding], top: int) -> dict[str, Encoding]:
    """The same encodings, with low-rank corrections only on the `top` tensors of largest residual norm.

    The others become plain and keep their norm. Encodings that are not 'corrected' pass through and do not
    count. Equal norms: the first in the mapping's order wins.
    """
    corrected = [name for name, encoding in encodings.items() if encoding.form == "corrected"]
    chosen = set(sorted(corrected, key=lambda name: -(encodings[name].residual_norm or 0.0))[:top])
    return {
        name: encoding
        if encoding.form != "corrected" or name in chosen
        else Encoding("plain", encoding.parts[:1], encoding.residual_norm)
        for name, encoding in encodings.items()
    }
