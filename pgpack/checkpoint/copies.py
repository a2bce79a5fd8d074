"""Two models side by side in one state dict, under names that begin differently: said, and either can be asked for.

    online_model.*, ema_model.* --key ema_model--> the names behind `ema_model.`

    model.fc.weight, model_ema.fcweight, fc.weight_ema     averages as their scripts name them

Owns how such a pair looks: two beginnings that hold nearly all values and equal shapes, or names that say of what
they are a copy. Towers of one model look so, too, so that nothing is refused.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pgpack.errors import CheckpointError
from pgpack.tensors.masks import BUFFER

from .stored import Stored

LEAST = 4  # tensors of each: less are projections of one layer
SHARE = 0.9  # of the values that the pair holds
COPY = re.compile(
    r"(?<![a-z])(ema|swa|averaged?|shadow|momentum|teacher|student|target|online)(?![a-z])", re.IGNORECASE
)


def of_pairs(shapes: Mapping[str, tuple[int, ...]], file: str) -> tuple[str, ...]:
    """A sentence on a pair of models in one state dict; none where there is none.

    Names that say that they are of a copy need no more than equal shapes: the other model may lie below no name, or
    beside what has no copy.
    """
    tensors = {  # others count, or decay, or are what modules keep: a queue of keys beside two encoders
        name: shape for name, shape in shapes.items() if math.prod(shape) > 1 and BUFFER.search(name) is None
    }
    start = _common_beginning(tensors)
    below: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, shape in tensors.items():
        beginning, _, rest = name.removeprefix(start).partition(".")
        below[beginning if rest else ""][rest or beginning] = shape
    named = [beginning for beginning in below if beginning and not beginning.isdecimal()]  # numbers are of layers
    one, other = _largest_pair(below, named) or _copy(below, named)
    if other:
        order = ["", *below]
        one, other = (f"{start}{each}" if each else each for each in sorted((one, other), key=order.index))
        keys = " or ".join(f"--key {each}" for each in (one, other) if each)
        where = f"below {one} and below {other}" if one and other else f"one of them below {one or other}"
        return (
            f"{file} holds the same shapes twice, {where}, and both are packed; should they be two models, as with "
            f"an average of weights, say which one: {keys}",
        )
    return _of_suffixes(tensors, file)


def _common_beginning(names: Iterable[str]) -> str:
    """What all names begin with, up to a dot: `module.`; '' for nothing."""
    parts = [name.split(".")[:-1] for name in names]
    same = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False))
    return "".join(f"{each[0]}." for each in same)


def _largest_pair(below: Mapping[str, Mapping[str, tuple[int, ...]]], named: Sequence[str]) -> tuple[str, str] | None:
    """The two beginnings of most values, where they hold equal shapes and nearly all of a file."""
    sizes = {beginning: sum(map(math.prod, below[beginning].values())) for beginning in named}
    one, other, *_ = *sorted(sizes, key=lambda beginning: -sizes[beginning]), "", ""
    n_values = sum(math.prod(shape) for held in below.values() for shape in held.values())
    if not other or len(below[one]) < LEAST or sizes[one] + sizes[other] < SHARE * n_values:
        return None
    alike = sorted(below[one].values()) == sorted(below[other].values())
    return (one, other) if alike else None


def _copy(below: Mapping[str, Mapping[str, tuple[int, ...]]], named: Sequence[str]) -> tuple[str, str]:
    """A beginning that says that it is of a copy, and what it is a copy of, under the same names or under names
    without dots; two times '' where there is none."""
    for copy in filter(COPY.search, named):
        copied = _plain(below[copy])
        others = {other: _plain(held) for other, held in below.items() if other not in ("", copy)}
        rest = {f"{at}.{each}": shape for at, held in below.items() if at != copy for each, shape in held.items()}
        for other, held in {**others, "": _plain(rest)}.items():
            if copied.items() <= held.items():
                return other, copy
    return "", ""


def _of_suffixes(shapes: Mapping[str, tuple[int, ...]], file: str) -> tuple[str, ...]:
    """A sentence on copies beside the tensors that they are of: NAME and NAME_ema."""
    copies = [(name, of) for name in shapes if (of := _without_suffix(name)) and shapes.get(of) == shapes[name]]
    if 2 * len(copies) < SHARE * len(shapes) or not copies:
        return ()
    name, of = copies[0]
    return (
        f"{file} holds copies beside its tensors ({name} of {of} and {len(copies) - 1} more), and both are packed; "
        "should they be an average of weights, store one of the two alone",
    )


def _without_suffix(name: str) -> str:
    """`NAME` of `NAME_ema` and the like; '' where no such word stands at the end."""
    found = re.fullmatch(r"(.+)[._](\w+?)", name)
    return found[1] if found is not None and COPY.fullmatch(found[2]) else ""


def _plain(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes by letters and digits of names: averages keep names without dots, or with others in their place."""
    return {re.sub(r"[^0-9a-z]", "", name.lower()): shape for name, shape in shapes.items()}


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
