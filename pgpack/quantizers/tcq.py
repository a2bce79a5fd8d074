"""Trellis-coded quantization inside GPTQ, with water-filled column steps.

    H --factor--> U_jj, F --mean--> f      step_ij = step * U_jj / sqrt(f) * (f_i / f)^(-rows / 2)
    G --factor--> what rows ask of rows    one Viterbi pass down the rows of each column

With error feedback a column's rounding error costs (dL) f * err^2 / U_jj^2, so steps proportional to U_jj / sqrt(f)
make every weight of every tensor cost the same loss and buy the same rate: reverse water-filling with one dial for
the whole model, the common `step`. What bits cost takes part in every decision (`Price`), so that at low rate
weights go to zero where they are worth less than their bits. Where calibration has G, the second moments of the
output gradients, rows correct each other too (`row_feedback`), and f is what is left of F when later rows follow.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CalibrationError
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.trellis import POLYNOMIALS, transitions
from pgpack.tensors.trellis_grid import TrellisGrid, octaves, walked_rows

from .base import Quantizer, QuantizerInput
from .feedback import Factor, factorize, feedback_blocks, ordered_transpose
from .inputs import checked_hessian, finite_weight, refuse_mask
from .row_feedback import RowFactor
from .settings import AT_LEAST_1, NOT_NEGATIVE, POSITIVE, UP_TO_1, Allowed, setting

Float32 = NDArray[np.float32]

EIGHTHS = 8  # the grid's resolution, in steps an octave
COLUMNS_PER_OCTAVE = 4
ROWS_PER_OCTAVE = 2
LEAST_POWER = 1e-6  # of a row, relative to the mean
ROWS_AT_ONCE = 2048  # bounds temporaries
NOISE = 0.25  # mean squared error of a trellis in units of its step, at high rate
TINY = 1e-30
LARGEST_LEVEL = 14_000  # of the 16,382 of `viterbi`, so that rounded exponents and error feedback have room
MOST_OCTAVES = 127 / EIGHTHS  # of a column's step above the common one
LEAST_STEP, MOST_STEP = 2.0**-100, 2.0**80  # with all exponents still numbers of float32
MOST_RIDGE = 1e30


@dataclass(frozen=True, eq=False)
class Price:
    """What large values cost in bits, as a quadratic term beside the loss: an entropy-constrained trellis.

    A Gaussian weight of variance s^2 pays v^2 / 2 s^2 nats for the value v, and the Lagrangian of the trellis is
    2 NOISE step^2 per nat, in units of (f / 2) e H e. With a = NOISE step^2 / f s^2 both together are a square again,

        (w - v) H (w - v) + a v v = (w' - v) (H + a I) (w' - v) + const,    w' = w H (H + a I)^-1

    so that `ridge` (a of the mean row) joins the Hessian and `target` takes the place of the weights; what a row's
    own a has beyond the mean's shrinks its columns one by one. At high rate a vanishes. `excess`: a of a row over
    the mean's, less 1. Shape: (rows,).
    """

    ridge: float
    excess: Float32

    @classmethod
    def of(cls, weight: Float32, row_factors: NDArray[np.floating[Any]], lagrangian: float) -> Price:
        """`lagrangian`: step^2 / f."""
        powers = np.square(weight).mean(axis=1) / np.square(row_factors) if weight.size else np.ones(len(weight))
        power = max(float(powers.mean()) if powers.size else 1.0, TINY)
        excess = power / np.maximum(powers, LEAST_POWER * power) - 1
        return cls(min(NOISE * lagrangian / power, MOST_RIDGE), excess.astype(np.float32))

    def target(self, W_T: Float32, factor: Factor) -> Float32:
        """w' of weights in the factor's order, in place. Shape: (cols, rows)."""
        for rows in range(0, W_T.shape[1], ROWS_AT_ONCE):
            part = W_T[:, rows : rows + ROWS_AT_ONCE]
            part -= np.float32(self.ridge) * factor.squared(part)
        return W_T


@dataclass(frozen=True, eq=False)
class Allocation:
    """Every step of a matrix, its error feedback to both sides, and what bits cost there. `rows`: None without G."""

    grid: TrellisGrid
    factor: Factor
    price: Price
    rows: RowFactor | None


@dataclass(frozen=True)
class Tcq(Quantizer):
    """GPTQ whose columns are quantized by the Viterbi algorithm on an Ungerboeck trellis.

    Use when: the file must be smallest: Hessians and Fisher weights are there, and `rans_scaled` codes the symbols.

    `step` is the square root of the Lagrangian: one weight's error costs about step^2 / 8 nats per token. `states`: 4
    to 256, or 1 for a scalar quantizer of twice the step. `rows`: how far row steps follow the rows' Fisher weights,
    step ~ f^(-rows / 2); `columns`: how far column steps follow U_jj; 1 would be the whole way. `group`: how many
    rows are decided together before the next are corrected, where calibration has G; 0: never. `row_damp` times its
    mean joins G's diagonal. `floor`: a row's Fisher weight counts as at least 2^-floor of their mean, which
    bounds how coarse rows get that calibration hardly saw (results/row-floor.md).
    Source: GPTQ as in `Gptq`; the column steps of WaterSIC (arXiv:2603.04956); TCQ as in `pgpack.tensors.trellis`.
    Where we differ: steps are stored to a quarter (columns) and half (rows) of an octave, and rows go half the way to
    their Fisher weights: on a challenge checkpoint of 0.5 M weights 12 % smaller at equal KL than rows = 0, while
    rows = 1 loses everything (KL 0.74 for 0.02: rare rows leave the range where second order holds) *(negative)*.
    Rows walk the trellis from fine to coarse, and `Price` counts bits: on the 2 M demo with 64 states together 6.9 %
    smaller at equal KL (columns shrunk one by one 1.7 %, then rows in order 5.6 %, then the ridge 6.9 %).
    """

    step: float = setting(POSITIVE)
    states: int = setting(Allowed(f"one of {', '.join(map(str, POLYNOMIALS))}", POLYNOMIALS.__contains__), 8)
    rows: float = setting(UP_TO_1, 0.5)
    columns: float = setting(UP_TO_1, 1.0)
    damp: float = setting(NOT_NEGATIVE, 0.01)
    block: int = setting(AT_LEAST_1, 128)
    group: int = setting(Allowed("a number of rows, or 0", lambda n: n >= 0), 0)
    row_damp: float = setting(POSITIVE, 0.1)
    floor: float = setting(Allowed("a number of octaves from 0 to 60", lambda x: 0 <= x <= 60), 12.0)
    needs_hessian: ClassVar[bool] = True

    @property
    def corrects_rows(self) -> bool:
        return self.group > 0

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        refuse_mask(source, "tcq has no 0 in half of its states and cannot follow pruning; use gptq instead")
        weight = finite_weight(source)
        allocation = self.allocation(source)
        if allocation.factor.V is None and allocation.rows is None:
            symbols = narrow(Walk(allocation, self.block).alone(weight))
        else:
            symbols = self._symbols(weight[allocation.grid.path], allocation)
        return QuantizedTensor(symbols, allocation.grid, weight.shape)

    def allocation(self, source: QuantizerInput) -> Allocation:
        """All that is settled from the calibration; no symbol is chosen yet."""
        weight = finite_weight(source)
        source, fisher = sensitivity(source)
        mean = max(float(fisher.mean()) if fisher.size else 1.0, TINY)
        corrected = bool(self.corrects_rows and source.outputs is not None and weight.size)
        if corrected:
            fisher = (fisher + self.row_damp * mean) / (1 + self.row_damp)
        exponents = self._row_exponents(fisher, mean)
        rows = self._row_factor(source, exponents) if corrected else None
        if rows is not None:
            squares = np.maximum(fisher[rows.path], TINY) ** -self.rows  # of the row steps
            mean *= float(rows.weights @ squares / (fisher[rows.path] @ squares)) if mean > TINY else 1.0
        relative = octaves(exponents, EIGHTHS) if exponents.size else np.ones(len(weight))
        source, scale = normalized(source)
        price = Price.of(weight, relative, self.step**2 / mean * scale)
        factor = factorize(source, "tcq", self.damp, act_order=True, ridge=price.ridge)
        return Allocation(self._grid(exponents, mean / scale, factor, weight), factor, price, rows)

    def _row_factor(self, source: QuantizerInput, exponents: NDArray[np.int8]) -> RowFactor:
        assert source.outputs is not None
        path = np.arange(len(source.weight))[walked_rows(exponents)]
        return RowFactor.of(source.name, source.outputs, path, self.row_damp, self.group)

    def _row_exponents(self, fisher: NDArray[np.float64], mean: float) -> NDArray[np.int8]:
        if not self.rows:
            return np.empty(0, np.int8)
        least = mean * 2.0**-self.floor
        return _exponents(-0.5 * self.rows * np.log2(np.maximum(fisher, least) / mean), ROWS_PER_OCTAVE)

    def _grid(self, rows: NDArray[np.int8], mean: float, factor: Factor, weight: Float32) -> TrellisGrid:
        if not factor.order.size:
            return TrellisGrid(np.empty(0, np.int8), rows, np.empty(0, np.int8), 1.0, self.states)
        wanted = np.empty(len(factor.order))
        wanted[factor.order] = self.step * factor.d / np.sqrt(mean)
        least = _least_steps(weight, rows, wanted if self.columns == 1 else np.zeros_like(wanted))
        wanted = np.maximum(wanted, least)
        middle = float(np.exp(np.mean(np.log(wanted))))
        octave = self.columns * np.log2(wanted / middle)
        if self.columns < 1:  # which may have led below the least again
            octave = np.maximum(octave, np.log2(np.maximum(least, TINY * middle) / middle))
        above = max(float(octave.max()) - MOST_OCTAVES, 0.0)  # too coarse is a loss, too fine only bytes
        step = min(max(middle * 2.0**above, LEAST_STEP), MOST_STEP)
        columns = _exponents(octave - above, COLUMNS_PER_OCTAVE)
        return TrellisGrid(columns, rows, np.empty(0, np.int8), float(np.float32(step)), self.states)

    def _symbols(self, weight: Float32, allocation: Allocation) -> NDArray[np.signedinteger]:
        """Shape: weight (rows, cols) in the order of the grid's path."""
        walk = Walk(allocation, self.block)
        levels = np.empty(weight.T.shape, np.int16)
        if allocation.rows is None:
            walk.decide(weight, slice(0, len(weight)), levels)
        else:
            errors = np.zeros_like(weight)
            for rows in allocation.rows.groups():
                target = weight[rows] - allocation.rows.shift(rows, errors)
                errors[rows] = walk.placed(walk.decide(target, rows, levels)) - weight[rows]
        return narrow(levels.T >> 1)


def narrow(symbols: NDArray[np.int16]) -> NDArray[np.signedinteger]:
    """The same symbols as int8 where that holds them."""
    small = symbols.astype(np.int8)
    return small if np.array_equal(small, symbols) else np.ascontiguousarray(symbols)


class Walk:
    """The paths of all columns down the rows, some rows at a time.

    Shape: steps, d2 and states (where each column's path stands) in the factor's order.
    """

    def __init__(self, allocation: Allocation, block: int) -> None:
        from .viterbi import predecessors

        grid, price, factor = allocation.grid, allocation.price, allocation.factor
        self.factor, self.price, self.block, self.path = factor, price, block, grid.path
        self.steps = (np.float32(grid.step) * octaves(grid.columns, EIGHTHS))[factor.order]
        self.d2 = np.square(factor.d).astype(np.float32)
        self.states = np.zeros(len(factor.order), np.int64)
        n_rows = len(price.excess)
        self.row_steps = octaves(grid.rows[grid.path], EIGHTHS) if grid.rows.size else np.ones(n_rows, np.float32)
        self.excess = price.excess[grid.path] * np.float32(price.ridge)
        self.branches = predecessors(transitions(grid.states))

    def alone(self, weight: Float32) -> NDArray[np.int16]:
        """All symbols where columns do not correct each other, some columns at a time. Shape: weight (rows, cols) in
        the tensor's order, the result's rows in that of the grid's path."""
        from .viterbi import decide_columns

        symbols, order = np.empty(weight.shape, np.int16), self.factor.order
        kept = np.eye(self.block, dtype=np.float32)
        for start in range(0, len(order), self.block):
            cols = slice(start, start + self.block)
            W_T = np.ascontiguousarray(weight[:, order[cols]][self.path].T)
            W_T[self.factor.dead[order[cols]]] = 0.0
            W_T -= np.float32(self.price.ridge) * (self.d2[cols, None] * W_T)
            levels, decoded = np.empty(W_T.shape, np.int16), np.empty_like(W_T)
            decide_columns(
                W_T,
                kept[: len(W_T), : len(W_T)],
                self.steps[cols],
                self.row_steps,
                self.d2[cols],
                self.excess,
                self.branches,
                self.states[cols],
                np.zeros_like(W_T),
                levels,
                decoded,
            )
            symbols[:, order[cols]] = levels.T >> 1
        return symbols

    def decide(self, target: Float32, rows: slice, levels_: NDArray[np.int16]) -> Float32:
        """The decoded weights of some rows, in the factor's order.

        Shape: target (rows, cols); result (cols, rows); levels_ (cols, all rows).
        """
        from .viterbi import decide_columns

        W_T = self.price.target(ordered_transpose(target, self.factor, slice(None)), self.factor)
        levels, decoded = np.empty(W_T.shape, np.int16), np.empty_like(W_T)
        for block in feedback_blocks(W_T, self.factor, self.block):
            cols = slice(block.start, block.stop)
            decide_columns(
                block.weights,
                block.V,
                self.steps[cols],
                self.row_steps[rows],
                self.d2[cols],
                self.excess[rows],
                self.branches,
                self.states[cols],
                block.errors,
                levels[cols],
                decoded[cols],
            )
        levels_[self.factor.order, rows] = levels
        return decoded

    def placed(self, decoded: Float32) -> Float32:
        """What was decoded in the factor's order as rows of the matrix. Shape: (cols, rows) -> (rows, cols)."""
        found = np.empty(decoded.shape[::-1], np.float32)
        found[:, self.factor.order] = decoded.T
        return found


def _least_steps(weight: Float32, rows: NDArray[np.int8], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step of every column below which a weight would need a level beyond LARGEST_LEVEL, which no coder has room
    for: an input far larger than all others asks for steps that fine. Shape: (cols,)."""
    if not weight.size:
        return np.zeros_like(wanted)
    factors = octaves(rows, EIGHTHS) if rows.size else np.ones(len(weight), np.float32)
    largest = np.maximum(weight.max(axis=0), -weight.min(axis=0)) / np.float64(factors.min())
    if (largest <= LARGEST_LEVEL * wanted).all():
        return np.zeros_like(wanted)
    for at in range(0, len(weight), ROWS_AT_ONCE):
        part = np.abs(weight[at : at + ROWS_AT_ONCE]) / factors[at : at + ROWS_AT_ONCE, None]
        largest = part.max(axis=0) if not at else np.maximum(largest, part.max(axis=0))
    least: NDArray[np.float64] = largest.astype(np.float64) / LARGEST_LEVEL
    return least


def _exponents(octave: NDArray[np.float64], per_octave: int) -> NDArray[np.int8]:
    """Whole eighths of octaves, rounded to `per_octave` values an octave."""
    eighths = np.rint(octave * per_octave) * (EIGHTHS // per_octave)
    exponents: NDArray[np.int8] = np.clip(eighths, -128, 127).astype(np.int8)
    return exponents


def normalized(source: QuantizerInput) -> tuple[QuantizerInput, float]:
    """`source` with its Hessian in units where columns that fire have a mean second moment of about 1, and the unit.

    A column that never fires counts as 1 (`factorize`), and takes part in what the others are damped by. The unit is
    a power of 4, which changes no other bit of what follows.
    """
    H = checked_hessian(source, "tcq")
    diagonal = H if H.ndim == 1 else H.diagonal()
    mean = float(diagonal[diagonal > 0].mean(dtype=np.float64)) if (diagonal > 0).any() else 1.0
    scale = 4.0 ** -round(math.log(mean, 4))
    return dataclasses.replace(source, hessian=np.ldexp(H, round(math.log2(scale)))), scale


def sensitivity(source: QuantizerInput) -> tuple[QuantizerInput, NDArray[np.float64]]:
    """`source` with one Hessian, and one weight per row, for all that an error of the matrix does.

    A tied table acts twice: an error e of row v costs f_v e H e through the products and p_v e G e through the
    look-ups. That is taken as w_v e (F H + P G) e with F and P the sums of f and p and w_v sharing them out by trace.
    Raises CalibrationError without Fisher weights.
    """
    if source.fisher is None or len(source.fisher) != len(source.weight) or not np.isfinite(source.fisher).all():
        raise CalibrationError(f"{source.name}: tcq needs a Fisher weight per row; calibrate with pgpack calibrate")
    fisher = source.fisher.astype(np.float64)
    if source.lookup_hessian is None or source.lookup_fisher is None or source.hessian is None:
        return source, fisher
    H, G, shares = source.hessian, source.lookup_hessian, source.lookup_fisher.astype(np.float64)
    F, P = float(fisher.sum()), float(shares.sum())
    trace_H, trace_G = float(np.trace(H)), float(np.trace(G))
    joined = (F * H + P * G).astype(np.float32)
    weights = (fisher * trace_H + shares * trace_G) / max(F * trace_H + P * trace_G, 1e-30)
    return dataclasses.replace(source, hessian=joined, outputs=None), weights
