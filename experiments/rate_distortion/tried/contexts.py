"""Would neighbours help the entropy coder? Adaptive code lengths of the engine's symbols under richer contexts.

    python -m experiments.rate_distortion.contexts demo/model.safetensors > results/contexts.md

Every split of `rans_scaled`'s own contexts (class, superset) is charged with what an adaptive coder pays, learning
included: the Krichevsky-Trofimov code length. A gain here is an upper bound of what context modelling by this
neighbour can bring.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.rate_distortion.curves import ENGINES, dials, text_of
from experiments.rate_distortion.laboratory import open_laboratory
from pgpack.codecs.rans.scaled import RansScaled

LEVELS = 4  # of a neighbour's magnitude, relative to its class


def adaptive_bits(symbols: NDArray[np.int64], contexts: NDArray[np.int64]) -> float:
    """Krichevsky-Trofimov code length of all symbols, one count table per context."""
    from scipy.special import gammaln

    size = int(symbols.max()) + 1
    counts = np.zeros((int(contexts.max()) + 1, size))
    np.add.at(counts, (contexts, symbols), 1)
    half = 0.5
    total = gammaln(counts.sum(axis=1) + half * size) - gammaln(half * size)
    return float((total - (gammaln(counts + half) - gammaln(half)).sum(axis=1)).sum() / np.log(2))


def levels_of(magnitude: NDArray[np.float64]) -> NDArray[np.int64]:
    """Quartiles of a neighbour's magnitude. Shape: as given."""
    edges = np.quantile(magnitude, np.arange(1, LEVELS) / LEVELS)
    return np.searchsorted(edges, magnitude).astype(np.int64)


def neighbours(symbols: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Magnitudes that a decoder going down the rows already knows. Shape: (rows, cols) each."""
    magnitude = np.abs(symbols + 0.25).astype(np.float64)
    up = np.vstack([magnitude[:1], magnitude[:-1]])
    left = np.hstack([magnitude[:, :1], magnitude[:, :-1]])
    above = np.cumsum(magnitude, axis=0) - magnitude
    column = above / np.maximum(np.arange(len(magnitude)), 1)[:, None]
    return {
        "row before": up,
        "two rows before": up + np.vstack([up[:1], up[:-1]]),
        "column before": left,
        "column so far": column,
    }


def main() -> None:
    """Print the table."""
    laboratory = open_laboratory(Path(sys.argv[1]), "demo", Path("runs/rd/demo"), 16384)
    from pgpack.recipe.text import parse_recipe

    recipe = parse_recipe(text_of(ENGINES[1], dials(laboratory)[3])).without_idle_rules(laboratory.tensors)
    records = [r for r in laboratory.pack(recipe).records if r.name in laboratory.matrices]
    coder = RansScaled(64)
    model = coder._fit([record.parts[0].symbols for record in records])
    base, splits = 0.0, {}
    for matrix, contexts in zip(model.matrices, model.contexts, strict=True):
        symbols = matrix.astype(np.int64)
        shifted = symbols - symbols.min()
        own = contexts.astype(np.int64)
        base += adaptive_bits(shifted.reshape(-1), own.reshape(-1))
        for name, magnitude in neighbours(symbols).items():
            relative = magnitude / np.exp2(own / 4)
            split = own * LEVELS + levels_of(relative)
            splits[name] = splits.get(name, 0.0) + adaptive_bits(shifted.reshape(-1), split.reshape(-1))
    print("# Context modelling on top of rans_scaled\n")
    print("Written by `python -m experiments.rate_distortion.contexts`: the demo's model, 64 states, one point.")
    print("Bytes of an ideal adaptive coder that learns one table per context and matrix.\n")
    print("| contexts | bytes | against its own |\n|---|---:|---:|")
    print(f"| class and superset (rans_scaled's own) | {base / 8:,.0f} | |")
    for name, bits in splits.items():
        print(f"| and magnitude of: {name} | {bits / 8:,.0f} | {100 * (bits / base - 1):+.2f} % |")


if __name__ == "__main__":
    main()
