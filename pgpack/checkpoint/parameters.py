"""Which tensors of a checkpoint are where among the parameters of the module that was built from it.

    model.qo_bank (2 L, D, D)  -->  blocks.0.attn.c_q.weight, ...    a bank holds one matrix at every index
    experts.gate_up_proj       -->  experts.0.w1.weight, experts.0.w3.weight, experts.1.w1.weight, ...
    model.tok_emb.weight       -->  tok_emb.weight                   what a wrapper puts before a name is taken off

Owns names. Refuses torch, and guesses: a parameter that is nowhere in the checkpoint keeps its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from .dialects import bank_members

Shapes = Mapping[str, tuple[int, ...]]


def held_tensors(
    shapes: Shapes, stored: Collection[str] | None = None, told: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Parameter -> the checkpoint's names of what it holds: one, or several of one size that lie below each other.

    `shapes`: those of the module's parameters; `stored`: all names of the checkpoint, None when they are not known;
    `told`: what the module itself says (`told_names`).
    """
    told = told or {}
    known = None if stored is None else frozenset(stored)
    prefix = "" if known is None else _prefix(shapes, known)
    found = {}
    for parameter, shape in shapes.items():
        names = told.get(parameter, (parameter.removeprefix(prefix),))
        if len(names) > 1:
            found[parameter] = names
            continue
        (name,) = names
        members = () if known is not None and name in known else bank_members(name, shape)
        absent = known is not None and any(member not in known for member in members)
        found[parameter] = members if members and not absent else (name,)
    return found


def told_names(modules: Iterable[tuple[str, object]]) -> dict[str, tuple[str, ...]]:
    """Parameter -> what it holds, as modules say in `stored_names`; `modules`: as `named_modules` of torch gives
    them."""
    found = {}
    for path, module in modules:
        for place, names in getattr(module, "stored_names", {}).items():
            found[f"{path}.{place}" if path else place] = names
    return found


def _prefix(shapes: Shapes, stored: frozenset[str]) -> str:
    """What most parameters have before the name that they have in the checkpoint."""
    votes: Counter[str] = Counter()
    for parameter, shape in shapes.items():
        parts = parameter.split(".")
        for i in range(len(parts)):
            name = ".".join(parts[i:])
            if name in stored or any(member in stored for member in bank_members(name, shape)):
                votes[parameter.removesuffix(name)] += 1
                break
    return votes.most_common(1)[0][0] if votes else ""
