"""State dicts of the public training scripts: which dialect it is, and one name per matrix whatever it is.

    qo_bank (2 L, D, D)      c_q of layer i at i, attn.proj at L + i      --> blocks.i.attn.c_q.weight, ...
    kv_bank (2 L, KV, D)     c_k, c_v likewise
    mlp_up_bank (L, H, D)    mlp.fc;  mlp_down_bank (L, D, H)  mlp.proj

The scripts' own artifacts hold the names without banks, and so do ours: a bank is not a matrix, and no Hessian
belongs to it. Prefixes that wrappers put before every name are taken off. `banked` leads back. Refuses arithmetic: no
value changes. Source: openai/parameter-golf #549 and its descendants (#1019, #1089, #1179, #1546, #1855), each of
which has the same four banks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]


class Shaped(Protocol):
    """An array of numpy or torch."""

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, index: Any, /) -> Any: ...


Array = TypeVar("Array", bound=Shaped)
BANKS: dict[str, tuple[str, ...]] = {
    "qo_bank": ("attn.c_q.weight", "attn.proj.weight"),
    "kv_bank": ("attn.c_k.weight", "attn.c_v.weight"),
    "mlp_up_bank": ("mlp.fc.weight",),
    "mlp_down_bank": ("mlp.proj.weight",),
}
INNER = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # before the names of any module
PREFIXES = ("module.", "_forward_module.", *INNER)  # of DistributedDataParallel, Fabric, torch.compile, FSDP, ...
TABLE = "tok_emb.weight"  # what every public script calls its embedding
_SIGNS = (  # the first that occurs among the names, in this order
    ("virtual_attn_scales", "PRISM"),
    ("shared_blocks.", "EBLS"),
    ("ve_shared.", "value embeddings"),
    ("bigram_hash.", "bigram hash"),
    ("bigram.", "bigram hash"),
    ("embed_proj.", "decoupled embedding"),
    ("blocks.0.attn.c_q.", "unbanked"),
)


def dialect_of(shapes: Shapes, model_type: object = None) -> str:
    """The dialect of a state dict for people, such as 'unbanked', 'banked, value embeddings', 'PRISM', 'unknown'.

    `model_type`: what a config.json beside it says.
    """
    shapes = {plain: shapes[stored] for stored, plain in unwrapped(shapes).items()}
    banked = "banked" if any(name in shapes for name in BANKS) else ""
    kind = next((word for sign, word in _SIGNS if any(name.startswith(sign) for name in shapes)), "")
    named = f"transformers, {model_type}" if model_type else ""
    return ", ".join(word for word in (banked, kind) if word) or named or "unknown"


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Name -> the same without what wrappers put before it, and before the names of modules inside it.

    Names of the public scripts also lose what a trainer puts before all of them (`model.`). Where two would become
    one, all stay as they are.
    """
    stored = list(names)
    found = _without(stored, common_prefix(stored))
    inner = [reduce(lambda name, each: name.replace(f".{each}", "."), INNER, name) for name in found]
    found = inner if len(set(inner)) == len(inner) else found
    if owner := next((name.removesuffix(TABLE) for name in found if name.endswith(f".{TABLE}")), ""):
        found = _without(found, owner if all(name.startswith(owner) for name in found) else "")
    return dict(zip(stored, found, strict=True))


def common_prefix(names: Sequence[str]) -> str:
    """What wrappers put before every name, '' when nothing."""
    found = ""
    while names:
        prefix = next((p for p in PREFIXES if all(name.startswith(found + p) for name in names)), None)
        if prefix is None or len({*_without(names, found + prefix)} - {""}) < len(names):
            return found
        found += prefix
    return found


def _without(names: Sequence[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names]


def normalised(
    shapes: Shapes, load: Callable[[str], Array], source: str
) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Array]]:
    """(shapes, load) under one name per matrix; the matrices of a bank stand where the bank stood.

    Raises CheckpointError when a bank cannot be one.
    """
    plain = unwrapped(shapes)
    origins: dict[str, tuple[str, int | None]] = {}
    found: dict[str, tuple[int, ...]] = {}
    for stored, shape in shapes.items():
        name = plain[stored]
        members = _members(name, shape, source)
        for at, member in enumerate(members):
            found[member], origins[member] = shape[1:], (stored, at)
        if not members:
            found[name], origins[name] = shape, (stored, None)
    if len(found) < sum(max(1, len(_members(plain[n], s, source))) for n, s in shapes.items()):
        raise CheckpointError(f"{source}: holds a matrix both in a bank and by its own name; keep one of them")

    def load_one(name: str) -> Array:
        stored, at = origins[name]
        whole = load(stored)
        part: Array = whole if at is None else whole[at]
        return part

    return found, load_one


def _members(name: str, shape: tuple[int, ...], source: str) -> tuple[str, ...]:
    """As `bank_members`. Raises CheckpointError for a bank's name with a shape that no bank has."""
    members = bank_members(name, shape)
    if name in BANKS and not members and (len(shape) != 3 or shape[0]):
        raise CheckpointError(
            f"{source}: {name} has shape {shape}; a bank has {len(BANKS[name])} matrices for every layer, "
            "three dimensions"
        )
    return members


def bank_members(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a bank's matrices in order; none for what is no bank."""
    kinds = BANKS.get(name, ())
    if not kinds or len(shape) != 3 or shape[0] % len(kinds):
        return ()
    return tuple(f"blocks.{i}.{kind}" for kind in kinds for i in range(shape[0] // len(kinds)))


def banks_of(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """Bank -> the names of its matrices in order. Raises CheckpointError when a layer lacks one."""
    layers = 0
    while any(f"blocks.{layers}.{kind}" in names for kinds in BANKS.values() for kind in kinds):
        layers += 1
    found = {bank: [f"blocks.{i}.{kind}" for kind in kinds for i in range(layers)] for bank, kinds in BANKS.items()}
    missing = [name for members in found.values() for name in members if name not in names]
    if missing or not layers:
        what = f"{missing[0]} is missing" if missing else "there are no blocks.0.attn and blocks.0.mlp"
        raise CheckpointError(f"the tensors cannot be put into banks: {what}")
    return found


def banked(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The state dict that a banked script loads: banks first, then everything else. Raises CheckpointError."""
    banks = banks_of(tensors)
    inside = {name for members in banks.values() for name in members}
    stacked = {}
    for bank, members in banks.items():
        shapes = {tensors[name].shape for name in members}
        if len(shapes) > 1:
            raise CheckpointError(f"the tensors cannot be put into banks: {bank} would hold shapes {sorted(shapes)}")
        stacked[bank] = np.stack([tensors[name] for name in members])
    return stacked | {name: array for name, array in tensors.items() if name not in inside}


def is_banked(names: Mapping[str, Any]) -> bool:
    """Whether the matrices of all layers are stacked in banks."""
    return any(name in BANKS for name in names)


def unbanked(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """One matrix per tensor, of numpy or torch; a state dict without banks comes back as it is.

    Raises: CheckpointError when a bank is missing or the banks disagree about the number of layers.
    """
    found, load = _whole({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)
    return {name: load(name) for name in found}


def unbanked_shapes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """As `unbanked`, of names and shapes alone."""
    return _whole(shapes, lambda name: np.empty(0))[0]


def _whole(shapes: Shapes, load: Callable[[str], Array]) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Array]]:
    if not is_banked(shapes):
        return dict(shapes), load
    missing = [name for name in BANKS if name not in shapes]
    if missing:
        raise CheckpointError(f"the banks {', '.join(missing)} are missing; the state dict is not whole")
    lengths = [shapes[name][0] for name in BANKS]
    if lengths != [len(kinds) * lengths[-1] for kinds in BANKS.values()]:
        raise CheckpointError(f"banks of {lengths} matrices; expected 2 L, 2 L, L, L of one number of layers L")
    return normalised(shapes, load, "the state dict")
