"""What an optimizer keeps, under names of its own among a model's tensors: said; alone it is no model.

    model.fc.weight  optimizer.exp_avg.fc.weight      opt/0/mu/fc/kernel (optax)      state.fc.weight.m, .v (MLX)

Dictionaries in torch files are told apart by `state_dicts`; here are files whose names are all there is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from pgpack.errors import CheckpointError

KEPT = re.compile(
    r"(^|[./])(optimi[sz]ers?|optim|opt|opt(im|imi[sz]er)?_states?|exp_avg|exp_avg_sq|exp_inf|max_exp_avg_sqs?"
    r"|momentum_buffers?)([./]|$)"
)
PAIR = (".m", ".v")  # ends of the names of both moments of a tensor


def of_optimizers(shapes: Mapping[str, tuple[int, ...]], path: Path, named: bool) -> tuple[str, ...]:
    """A sentence on what an optimizer keeps; none where there is nothing of it. `named`: whether a key says what is
    meant. Raises CheckpointError where there is nothing else."""
    tensors = {name: shape for name, shape in shapes.items() if math.prod(shape) > 1}
    found = [name for name in tensors if KEPT.search(name) or _is_of_pair(name, tensors)]
    if not found or named:
        return ()
    if len(found) == len(tensors):
        raise CheckpointError(
            f"{path}: what an optimizer keeps and no weights (first: {found[0]}); give the file of the model"
        )
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"{path.name}: {found[0]}{more} are what an optimizer keeps by their names, and are packed beside the "
        "weights; store the model's alone",
    )


def _is_of_pair(name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether both moments of a tensor are there, of one shape."""
    stem = name.removesuffix(PAIR[0]) if name.endswith(PAIR[0]) else name.removesuffix(PAIR[1])
    both = [shapes.get(stem + end) for end in PAIR]
    return stem != name and both[0] is not None and both[0] == both[1]
