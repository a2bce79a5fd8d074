"""Two models side by side in one state dict, under names that begin differently: said, and either can be asked for.

    online_model.*, ema_model.* --key ema_model--> the names behind `ema_model.`

Owns how such a pair looks: two beginnings that hold nearly all values and equal shapes. Towers of one model look so,
too, so that nothing is refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pgpack.errors import CheckpointError

from .stored import Stored

LEAST = 4  # tensors of each: less are projections of one layer
SHARE = 0.9  # of the values that the pair holds


def of_pairs(shapes: Mapping[str, tuple[int, ...]], file: str) -> tuple[str, ...]:
    """A sentence on a pair of models in one state dict; none where there is none."""
    below: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for name, shape in shapes.items():
        below[name.partition(".")[0] if "." in name else ""].append(shape)
    named = (beginning for beginning in below if beginning and not beginning.isdecimal())  # numbers are of layers
    sizes = {beginning: sum(map(math.prod, below[beginning])) for beginning in named}
    one, other, *_ = *sorted(sizes, key=lambda beginning: -sizes[beginning]), "", ""
    n_values = sum(map(math.prod, shapes.values()))
    alike = bool(other) and sorted(below[one]) == sorted(below[other])
    if not alike or len(below[one]) < LEAST or sizes[one] + sizes[other] < SHARE * n_values:
        return ()
    one, other = sorted((one, other), key=list(below).index)
    return (
        f"{file} holds the same shapes twice, below {one} and below {other}, and both are packed; should they be two "
        f"models, as with an average of weights, say which one: --key {one} or --key {other}",
    )


def below_key(stored: Stored, key: str, path: Path) -> Stored:
    """What is named `KEY.NAME`, as NAME. Raises: CheckpointError where nothing is."""
    start = f"{key}."
    full = {name.removeprefix(start): name for name in stored.shapes if name.startswith(start)}
    if not full:
        raise CheckpointError(f"{path} holds one checkpoint under no name; leave out the key {key!r}")
    tied = {
        name.removeprefix(start): each.removeprefix(start)
        for name, each in stored.tied.items()
        if name.startswith(start) and each.startswith(start)
    }
    return stored.renamed(full, tied)
