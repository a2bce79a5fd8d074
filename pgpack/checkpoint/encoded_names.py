"""Names of tensors that are pickles in base64, as OLMo writes them into safetensors: read, with nothing unpickled.

    gASVJwAA... --base64, pickle--> (("transformer.wte.weight",), False) --> transformer.wte.weight

A name is the way to a tensor through dictionaries, and whether its bytes are a pickle of something else. Refuses what
lies deeper and what is pickled: an optimizer's states. Source: allenai/OLMo, olmo/safetensors_util.py.
"""

from __future__ import annotations

import base64
import pickletools
from pathlib import Path

from pgpack.errors import CheckpointError

from .stored import Stored

BEGINS = ("gAN", "gAR", "gAS")  # of a pickle of protocol 3 or 4
NO_VALUES = frozenset(("PROTO", "FRAME", "MEMOIZE", "BINPUT"))


def with_plain_names(stored: Stored, path: Path) -> Stored:
    """The same under plain names; as it is where a name is no pickle.

    Raises: CheckpointError where that is what an optimizer keeps.
    """
    if not stored.shapes or not all(name.startswith(BEGINS) for name in stored.shapes):
        return stored
    found: dict[str, str] = {}
    for name in stored.shapes:
        if (plain := _plain(name)) is None:
            raise CheckpointError(
                f"{path}: its names are pickles, as OLMo writes them, and not those of plain weights; give the "
                "model.safetensors or model.pt of that checkpoint"
            )
        found[plain] = name
    if len(found) < len(stored.shapes):
        raise CheckpointError(f"{path}: two of its keys are one name as text; rename one of them")
    return stored.renamed(found, stored.tied)


def _plain(name: str) -> str | None:
    """The one key in a name; None for a name that says more, or is another pickle."""
    try:
        codes = [(code.name, argument) for code, argument, _ in pickletools.genops(base64.urlsafe_b64decode(name))]
    except ValueError:
        return None
    made = [(code, argument) for code, argument in codes if code not in NO_VALUES]
    if [code for code, _ in made[1:]] != ["TUPLE1", "NEWFALSE", "TUPLE2", "STOP"] or "UNICODE" not in made[0][0]:
        return None
    return str(made[0][1])
