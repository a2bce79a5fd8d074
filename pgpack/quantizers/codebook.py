"""Codebooks: k-means per tensor, product k-means over neighbouring weights, and the fixed NF4 levels.

A learned table is fitted on a seeded sample, stored as fp16, sorted and free of duplicates; every weight then
gets the nearest entry of the *stored* table. Under a mask the table holds an exact 0 for each masked position.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import RecipeError
from pgpack.tensors.base import Symbols
from pgpack.tensors.grids import Codebook, QuantizedTensor

from .base import Quantizer, QuantizerInput
from .inputs import divisors, fp16_values, masked_weight, per_column
from .settings import GROUP, SEED, TABLE_SIZE, Allowed, setting
from .uniform import absmax_over

NO_SCALES: NDArray[np.float16] = np.zeros((0, 0), dtype=np.float16)
_FIT_ON = 1 << 20  # values; the centroids of 4 M weights move by less than fp16 resolves beyond that


def narrowest(indices: NDArray[Any], k: int) -> Symbols:
    """Codebook indices as uint8 or uint16."""
    return indices.astype(np.uint8 if k <= 256 else np.uint16)


def nearest_level(values: NDArray[np.float32], levels: NDArray[np.float16]) -> NDArray[np.intp]:
    """Index of the nearest of the sorted `levels`; a tie goes to the lower one."""
    wide = levels.astype(np.float32)
    found: NDArray[np.intp] = np.searchsorted((wide[1:] + wide[:-1]) / 2, values)
    return found


def sample(values: NDArray[np.float32], n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """At most n entries (along the first axis), drawn with replacement when there are more."""
    return values if len(values) <= n else values[rng.integers(0, len(values), n)]


def lloyd_levels(values: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """At most k levels that are the means of their own cells (Lloyd's fixed point in one dimension). Sorted.

    Starts at the asymptotically optimal density p^(1/3) (Panter and Dite 1951), estimated from quantile gaps.
    A pass works on prefix sums of the sorted values and costs k searches; a level whose cell is empty moves
    into the cell of largest squared error.
    """
    ordered = np.sort(values.astype(np.float64))
    distinct: NDArray[np.float64] = ordered[np.append(True, np.diff(ordered) > 0)[: len(ordered)]]
    if len(distinct) <= k:
        return distinct
    grid = np.quantile(ordered, np.linspace(0, 1, min(len(ordered), 16 * k)))
    mass = np.concatenate([[0.0], np.cumsum(np.diff(grid) ** (2 / 3))])
    levels: NDArray[np.float64] = np.interp((np.arange(k) + 0.5) / k * mass[-1], mass, grid)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    squares = np.concatenate([[0.0], np.cumsum(np.square(ordered))])
    tolerance = 1e-5 * ordered.std() / k
    for _ in range(200):
        edges = np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(ordered)]])
        bounds = bounds[np.append(True, np.diff(bounds) > 0)]
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / counts
        if len(means) < k:
            errors = np.maximum(np.diff(squares[bounds]) - counts * np.square(means), 0)
            worst = np.argsort(-errors, kind="stable")[: k - len(means)]
            levels = np.sort(np.append(means, means[worst] + np.sqrt(errors[worst] / counts[worst])))
            continue
        moved = np.abs(means - levels).max()
        levels = means
        if moved <= tolerance:
            break
    return levels


@dataclass(frozen=True)
class KMeans(Quantizer):
    """One table of at most k values for the whole tensor, at a minimum of the squared error.

    Use when: symbols are stored in a fixed width; before an entropy coder integer steps are smaller.

    Where we differ from general k-means: in one dimension cells are intervals, so assignment is exact by sorted
    boundaries. `seed` draws the fitting sample of tensors above a million weights.
    """

    k: int = setting(TABLE_SIZE, 256)
    seed: int = setting(SEED, 0)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        masked = source.keep is not None and not source.keep.all()
        values = weight[source.keep] if masked else weight.reshape(-1)
        levels = lloyd_levels(
            sample(values, _FIT_ON, np.random.default_rng(self.seed)), self.k - 1 if masked else self.k
        )
        if masked or not len(levels):
            levels = np.append(levels, 0.0)
        table = np.unique(fp16_values(source.name, levels))
        symbols = nearest_level(weight, table)
        grid = Codebook(table[:, None], NO_SCALES)
        return QuantizedTensor(narrowest(symbols, len(table)), grid, weight.shape)


def folded(values: NDArray[Any], dim: int, fill: float | bool) -> NDArray[Any]:
    """Groups of `dim` neighbours: (rows, cols / dim, dim), or the flat tensor as one row whose tail is `fill`."""
    rows, cols = values.shape
    if cols % dim == 0:
        return values.reshape(rows, cols // dim, dim)
    padding = np.full(-values.size % dim, fill, dtype=values.dtype)
    return np.concatenate([values.reshape(-1), padding]).reshape(1, -1, dim)


def nearest_vector(points: NDArray[Any], table: NDArray[Any]) -> NDArray[np.intp]:
    """Index of the nearest row of `table` for each row of `points`."""
    from scipy.spatial import cKDTree

    found: NDArray[np.intp] = cKDTree(table.astype(np.float64)).query(points)[1]
    return found


def lloyd_vectors(points: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """At most k centroids after 20 Lloyd passes over a sample, started at distinct random points of it.

    Shape: points (n, dim); result (<= k, dim). The sample holds 128 k points, within 2^14 .. 2^17 and never
    fewer than 8 k.
    """
    n = max(min(max(128 * k, 1 << 14), 1 << 17), 8 * k)
    fit = sample(points, n, rng).astype(np.float64)
    distinct = np.unique(fit, axis=0)
    if len(distinct) <= k:
        return distinct
    centroids = distinct[np.sort(rng.choice(len(distinct), k, replace=False))]
    for _ in range(20):
        cell = nearest_vector(fit, centroids)
        counts = np.bincount(cell, minlength=k)
        sums = np.stack([np.bincount(cell, column, minlength=k) for column in fit.T], axis=1)
        centroids = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centroids)
    return centroids


@dataclass(frozen=True)
class ProductKMeans(Quantizer):
    """One table of at most k vectors of `dim` neighbouring weights of a row.

    Use when: fewer than 2 bits per weight must be stored in a fixed width; the table costs bytes.

    When `dim` does not divide the columns, the flattened tensor is one row. Under a mask each pattern of masked
    positions gets its own share of the table, with exact zeros there.
    Source: Gersho and Gray 1992, ch. 11 (Lloyd's vector quantizer); product codes as in Jegou et al. 2011.
    """

    dim: int = setting(Allowed("2 or 4", {2, 4}.__contains__), 2)
    k: int = setting(TABLE_SIZE, 256)
    seed: int = setting(SEED, 0)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        vectors = folded(weight, self.dim, 0.0)
        points = vectors.reshape(-1, self.dim)
        keep = np.ones(weight.shape, dtype=np.bool_) if source.keep is None else source.keep
        patterns = folded(keep, self.dim, True).reshape(-1, self.dim) @ (1 << np.arange(self.dim))
        symbols = np.zeros(len(points), dtype=np.intp)
        tables = []
        filled = 0
        rng = np.random.default_rng(self.seed)
        for pattern, share in self._shares(patterns, source.name):
            chosen = patterns == pattern
            levels = fp16_values(source.name, lloyd_vectors(points[chosen], share, rng))
            table = np.unique(levels, axis=0)
            symbols[chosen] = filled + nearest_vector(points[chosen], table)
            filled += len(table)
            tables.append(table)
        table = np.concatenate(tables) if tables else np.zeros((1, self.dim), dtype=np.float16)
        grid = Codebook(table, NO_SCALES)
        return QuantizedTensor(narrowest(symbols.reshape(vectors.shape[:2]), len(table)), grid, weight.shape)

    def _shares(self, patterns: NDArray[np.intp], name: str) -> list[tuple[int, int]]:
        """(mask pattern, entries of the table): in proportion to use, at least one each."""
        present, counts = np.unique(patterns, return_counts=True)
        if len(present) > self.k:
            raise RecipeError(
                f"{name}: product_kmeans with k={self.k} cannot hold the {len(present)} mask patterns of the "
                f"pruned matrix; use k of at least {len(present)}"
            )
        counts = np.where(present == 0, 0, counts)  # all masked: the zero vector alone
        spare = (self.k - len(present)) * counts // max(int(counts.sum()), 1)
        return [(int(pattern), 1 + int(extra)) for pattern, extra in zip(present, spare, strict=True)]


def nf4_levels() -> NDArray[np.float16]:
    """The 16 NormalFloat levels in [-1, 1]: 7 negative and 8 positive normal quantiles and an exact 0.

    Source: Dettmers et al. 2023, arXiv:2305.14314, Eq. 4 and the offset of its released code.
    Where we differ: the table is stored in fp16 (error at most 2^-12), as every codebook here.
    """
    quantile = NormalDist().inv_cdf
    tail = 0.9677083  # mean of the two outermost probabilities 1 - 1/32 and 1 - 1/30 (arXiv:2305.14314, App. E)
    positive = [quantile(p) for p in np.linspace(tail, 0.5, 9)[:-1]]
    negative = [-quantile(p) for p in np.linspace(tail, 0.5, 8)[:-1]]
    levels = np.sort(np.array([*positive, 0.0, *negative]))
    unit: NDArray[np.float16] = (levels / levels.max()).astype(np.float16)
    return unit


@dataclass(frozen=True)
class Nf4(Quantizer):
    """The 16 levels of NormalFloat times an absmax scale per group of columns.

    Use when: 4-bit NormalFloat is to be compared with; calibrated quantizers of this table lose less.

    Source: Dettmers et al. 2023, arXiv:2305.14314. Where we differ: groups run along a row and end with it;
    scales are fp16 and not quantized again.
    """

    group: int = setting(GROUP, 64)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        levels = nf4_levels()
        scales = fp16_values(source.name, absmax_over(weight, self.group))
        symbols = nearest_level(weight / per_column(divisors(scales), self.group, weight.shape[1]), levels)
        grid = Codebook(levels[:, None], scales, self.group)
        return QuantizedTensor(narrowest(symbols, 16), grid, weight.shape)
