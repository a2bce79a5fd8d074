"""Round to nearest on a uniform grid: four laws for the step, one for the rounding.

Every step is stored in fp16, and every quantizer here but `rtn_percentile` rounds with the *stored* step, so the
decoder's grid is the one that was rounded to. A step that rounds to 0 in fp16 gives symbols 0. A step too large
for fp16 is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.tensors.grids import QuantizedTensor, UniformGrid

from .base import Matrix, Quantizer, QuantizerInput
from .inputs import by_group, divisors, finite_weight, fp16_values, group_starts, masked_weight, round_to_grid
from .settings import BITS, DEVIATIONS, GROUP, Allowed, setting


def largest_symbol(bits: int) -> int:
    """R = 2^(bits-1) - 1: symmetric grids use symbols -R..R."""
    return int(2 ** (bits - 1)) - 1


def absmax_over(weight: Matrix, group: int) -> NDArray[np.float32]:
    """Largest |w| of each row and group. Shape: (out, n_groups)."""
    return by_group(weight, group, lambda columns, _: np.abs(columns).max(axis=1, initial=0.0))


def absmax_scales(weight: Matrix, bits: int, group: int) -> NDArray[np.float32]:
    """Steps with which the largest weight of each row and group is the largest symbol. Shape: (out, n_groups)."""
    return absmax_over(weight, group) / np.float32(largest_symbol(bits))


def std_scales(weight: Matrix, bits: int, clip: float, group: int) -> NDArray[np.float32]:
    """Steps clip * std / R, at least 1e-10, std unbiased over each row and group. Shape: (out, n_groups).

    Where we differ: a row that is constant (or a single weight) has no spread to measure and takes the absmax
    step, where the field's packers store a step of 0 and lose the row.
    """
    R = np.float32(largest_symbol(bits))

    def step_of(columns: Matrix, _: slice) -> NDArray[np.float32]:
        if columns.shape[1] > 1:
            std = columns.std(axis=1, ddof=1, dtype=np.float64).astype(np.float32)
        else:
            std = np.zeros(len(columns), dtype=np.float32)
        step = np.maximum(np.float32(clip) * std / R, np.float32(1e-10))
        spread = np.abs(columns).max(axis=1, initial=0.0) / R
        steps: NDArray[np.float32] = np.where(std > 0, step, spread)
        return steps

    return by_group(weight, group, step_of)


@dataclass(frozen=True)
class Rtn(Quantizer):
    """Round to nearest with an absmax step per row, or per `group` columns of a row.

    Use when: nothing is known of the inputs and symbols are cheap: 8 bits cost hardly any loss without calibration.
    """

    bits: int = setting(BITS, 8)
    group: int = setting(GROUP, 0)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        R = largest_symbol(self.bits)
        scales = fp16_values(source.name, absmax_scales(weight, self.bits, self.group))
        return round_to_grid(weight, scales, self.group, (-R, R), source.keep)


@dataclass(frozen=True)
class SdClip(Quantizer):
    """Round to nearest with the step clip * std(row) / R.

    Use when: nothing is calibrated and an entropy coder follows: the clip is the dial, in standard deviations.

    The clip in standard deviations sets the rate: a Gaussian row costs about 2.047 - log2(clip / R) bits per
    weight after entropy coding, whatever `bits` is. A mask does not change the step.
    Source: openai/parameter-golf PR #1394 (there inside GPTQ).
    """

    bits: int = setting(BITS, 6)
    clip: float = setting(DEVIATIONS, 12.85)
    group: int = setting(GROUP, 0)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = finite_weight(source)
        R = largest_symbol(self.bits)
        scales = fp16_values(source.name, std_scales(weight, self.bits, self.clip, self.group))
        return round_to_grid(weight, scales, self.group, (-R, R), source.keep)


@dataclass(frozen=True)
class RtnPercentile(Quantizer):
    """The challenge baseline's quantizer: clip each row at a percentile of |w|, then round.

    Use when: the challenge baseline's own symbols and steps are wanted, bit for bit.

    Symbols and stored scales agree with the baseline bit for bit at bits=8 and the default settings. Unlike the
    other quantizers it rounds with the fp32 step and stores it as fp16, as the baseline does. `scale_floor`
    keeps the baseline's lower limit of 1/R on the step, which at fewer bits coarsens every row with a clip
    below 1.
    Source: openai/parameter-golf train_gpt.py, quantize_float_tensor.
    """

    bits: int = setting(BITS, 8)
    percentile: float = setting(Allowed("above 0 and at most 100", lambda x: 0 < x <= 100), 99.99984)
    scale_floor: bool = True

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        R = largest_symbol(self.bits)
        clip = row_quantile(np.abs(weight), self.percentile / 100.0)[:, None]
        step = clip / np.float32(R)
        if self.scale_floor:
            step = np.maximum(step, np.float32(1.0 / R))
        clipped = np.clip(weight, -clip, clip)
        scales = fp16_values(source.name, step)
        wide = np.where(step > 0, step, np.float32(np.inf))
        symbols = np.clip(np.rint(clipped / wide), -R, R).astype(np.int8)
        if source.keep is not None:
            symbols[~source.keep] = 0
        return QuantizedTensor(symbols, UniformGrid(scales), weight.shape)


def row_quantile(magnitudes: Matrix, q: float) -> NDArray[np.float32]:
    """Quantile q of each row, linear between neighbours, in float32 arithmetic. Shape: (rows,).

    The rank, the fraction and the blend are rounded as in torch.quantile (rank q * (n - 1) in float32, one
    fused multiply-add), because the baseline's steps depend on the last bit.
    """
    rows, cols = magnitudes.shape
    if cols == 0:
        return np.zeros(rows, dtype=np.float32)
    rank = np.float32(q) * np.float32(cols - 1)
    below, above = int(np.floor(rank)), int(np.ceil(rank))
    fraction = np.float32(rank - np.float32(below))
    ordered = np.partition(magnitudes, (below, above), axis=1)
    low, high = ordered[:, below], ordered[:, above]
    base, weight = (low, fraction) if fraction < 0.5 else (high, fraction - np.float32(1))
    # float64 holds the product of two float32 exactly: together with the sum this is one rounding
    blend = base.astype(np.float64) + np.float64(weight) * (high - low).astype(np.float64)
    return blend.astype(np.float32)


@dataclass(frozen=True)
class RtnMse(Quantizer):
    """Round to nearest with the step, among `grid` shrunk absmax steps, that has the least squared error.

    Use when: bits are few (at most 5), nothing is calibrated, and no entropy coder follows.

    Candidates are absmax * (1 - 0.8 i / grid), i = 0..grid-1, per row and group, so the error never exceeds
    that of `rtn`.
    Source: the `mse` option of the GPTQ reference implementation, there with |error|^2.4.
    """

    bits: int = setting(BITS, 6)
    group: int = setting(GROUP, 0)
    grid: int = setting(Allowed("an integer from 1 to 1000", lambda n: 1 <= n <= 1000), 80)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        R = largest_symbol(self.bits)
        absmax = absmax_scales(weight, self.bits, self.group)
        fp16_values(source.name, absmax)  # refuses overflow before the search
        best = np.zeros(absmax.shape, dtype=np.float16)
        for g, (start, stop) in enumerate(group_starts(weight.shape[1], self.group)):
            for top in range(0, len(weight), 256):  # blocks of rows keep the temporaries in cache
                rows = slice(top, top + 256)
                best[rows, g] = self._search(weight[rows, start:stop], absmax[rows, g], R)
        return round_to_grid(weight, best, self.group, (-R, R), source.keep)

    def _search(self, columns: Matrix, absmax: NDArray[np.float32], R: int) -> NDArray[np.float16]:
        best = absmax.astype(np.float16)
        best_error = np.full(len(columns), np.inf, dtype=np.float64)
        for i in range(self.grid):
            scale = (absmax * np.float32(1 - 0.8 * i / self.grid)).astype(np.float16)
            values = columns / divisors(scale)[:, None]
            np.rint(values, out=values)
            np.clip(values, -R, R, out=values)
            values *= scale.astype(np.float32)[:, None]
            values -= columns
            error = np.einsum("ij,ij->i", values, values, dtype=np.float64)
            better = error < best_error
            best_error[better] = error[better]
            best[better] = scale[better]
        return best
