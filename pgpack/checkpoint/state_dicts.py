"""Which of the things in a torch file is the state dict: the only one, or the one that is named.

    {"model": {...}, "ema": {...}, "optimizer": {...}} --candidates--> model, ema --key--> tensors by name

Owns what counts as a state dict. Refuses to choose: a file that holds several different ones is answered with their
names and sizes. What a metric keeps counts only where there is nothing else, and what an optimizer, a scheduler or a
random generator keeps only where it is named.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pgpack.errors import CheckpointError
from pgpack.formats.torch_files.objects import NUMPY_SCALARS, Opaque
from pgpack.formats.torch_files.pickle_reader import Global

from .scales import refuse_packed

MAX_DEPTH = 6  # of containers in containers
MAX_CONTAINERS = 1 << 16
ALL = "*"  # at the end of a key: all that lies below it, as one
ITSELF = "."  # the key of what a file holds, as a whole
SHOWN = 8  # candidates in a refusal
QUANTIZED = "_packed_params"  # in names of what quantized modules keep
EXTRA = "_extra_state"  # what modules keep beside their tensors (`get_extra_state`)
NOT_MODELS = re.compile(
    r"optimi[sz]er|\boptim\b|optim_state|scheduler|\bscaler\b|grad_scaler|(\b|_)rng(\b|_)", re.IGNORECASE
)
OPTIMIZER = frozenset({"state", "param_groups"})
DEVICE = "torch.device"
PLAIN = (np.generic, int, float, complex, str, bytes, Global)
PACKED = ("float8", "float4", "q", "int", "uint")  # beginnings of names of dtypes that take a scale to read
FLOATS = ("float", "bfloat", "complex", "q")  # beginnings of names of dtypes


@dataclass(frozen=True, eq=False)
class StateDict:
    """The tensors of one state dict. `key`: where in the file it is, such as `model.module`; `others`: names of what
    in it is no tensor, `beside`: of what lies beside it in the file; both are left out."""

    key: str
    tensors: Mapping[str, Any]
    others: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def notes(self, file: str) -> tuple[str, ...]:
        """What a user should hear about it, a line each."""
        left_out = f"{file}: {', '.join(self.others)}: no tensor, left out"
        beside = f"{file}: read {self.key}; left out what is beside it: {_listed(self.beside)}"
        return tuple(note for note, names in ((left_out, self.others), (beside, self.beside)) if names)


def state_dict_in(value: Any, tensor: type, path: Path, key: str | None) -> StateDict:
    """The state dict in `value`, what the torch file `path` holds: that under `key`, or the only one.

    `tensor`: the type of tensors. What was chosen by its key may hold whatever else beside its tensors.
    Raises: CheckpointError when there is none, or none under `key`; when there are several; when what it holds is not
    tensors by name.
    """
    found = list(_candidates(value, tensor))
    if not any(each.may_be for each in found):
        found = list(_candidates(value, tensor, in_lists=True))
    if not found:
        raise CheckpointError(f"{path}: {_nothing(value)}")
    if key is None and not any(each.may_be for each in found):
        raise CheckpointError(
            f"{path} holds what an optimizer or the like keeps and no weights; give the file of the model, or say "
            f"with --key NAME which of these is meant all the same: {_listed(found)}"
        )
    chosen = _with_lists(_only(found, path) if key is None else _named(found, key, path, tensor), tensor, path)
    others = {name: item for name, item in _by_name(chosen.value, path).items() if not isinstance(item, tensor)}
    mixed = [name for name, item in others.items() if _holds_some(item, tensor) and QUANTIZED not in name]
    if mixed:
        raise CheckpointError(
            f"{path}: {mixed[0]!r} is a list that holds more than tensors of floats; save model.state_dict() alone"
        )
    aside = _is_plain if not chosen.place or chosen.is_of_modules else _is_nothing
    strange = next((n for n, item in others.items() if not (_is_extra(n, item) or aside(item))), None)
    if strange is not None and key is None:
        what = "is not a tensor; save model.state_dict() alone"
        if isinstance(item := others[strange], Opaque) and item.name.startswith("numpy"):
            what = "is not a tensor but an array of numpy's; store it as one, torch.from_numpy(...)"
        if QUANTIZED in strange:
            what = "is of a module that torch quantized; save the state_dict of the model before that"
        raise CheckpointError(f"{path}: {strange!r} {what}")
    return StateDict(chosen.key, chosen.tensors, tuple(others), tuple(_beside(value, chosen.place, path)))


def _beside(value: Any, place: Sequence[str], path: Path) -> Iterator[str]:
    """What else lies in the dictionaries on the way to `place`."""
    for part in place:
        inner = _by_name(value.inside if isinstance(value, Opaque) else value, path)
        yield from (name for name in inner if name != part)
        value = inner[part]


def _by_name(value: Any, path: Path) -> dict[str, Any]:
    """What a container holds by its keys as text. Raises: CheckpointError where two of them are one name."""
    found: dict[str, Any] = {}
    for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
        if str(key) in found:
            raise CheckpointError(f"{path}: two of its keys are one name as text, {str(key)!r}; rename one of them")
        found[str(key)] = each
    return found


def _nothing(value: Any) -> str:
    if isinstance(value, dict) and "module" in value and value["module"] is None:  # DeepSpeed's, of pipelines
        return "its module is left out; the weights lie in the files beside it, one a layer"
    if isinstance(value, dict) and value:
        first = next(iter(value.values()))
        if isinstance(first, Opaque) and first.name.startswith("numpy") and first.name not in NUMPY_SCALARS:
            return f"{next(iter(value))!r} is an array of numpy's; store them by name with numpy.savez"
        return f"{next(iter(value))!r} is not a tensor; save model.state_dict() alone"
    if isinstance(value, Opaque):
        found = value.name
    else:
        found = "an empty one" if value == {} else "a tensor" if hasattr(value, "dtype") else type(value).__name__
    return f"expected a dictionary of tensors, found {found}; save model.state_dict() alone"


def _is_extra(name: str, item: Any) -> bool:
    """Whether an entry of a state dict is what modules keep beside their tensors, or a number of numpy's."""
    if isinstance(item, Opaque):
        return name.endswith(EXTRA) or item.name in (*NUMPY_SCALARS, DEVICE)
    return name.endswith(EXTRA) or isinstance(item, np.generic)


def _is_nothing(item: Any) -> bool:
    return item is None


def _is_plain(item: Any) -> bool:
    """Whether something is a number, a word, nothing, or a container of such."""
    if isinstance(item, dict):
        return all(map(_is_plain, item.values()))
    if isinstance(item, (list, tuple, set, frozenset)):
        return all(map(_is_plain, item))
    return item is None or isinstance(item, PLAIN)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A dictionary that holds tensors itself. `may_be`: whether a model's may be where it is; `within`: the object
    that it is an attribute of, '' for none."""

    place: tuple[str, ...]
    value: Mapping[Any, Any]
    tensors: Mapping[str, Any]
    may_be: bool
    within: str

    @property
    def key(self) -> str:
        return ".".join(self.place) or ITSELF

    @cached_property
    def weights(self) -> list[str]:
        """What may be a model's: matrices, and vectors of more than one value that float."""
        return [name for name, tensor in self.tensors.items() if _is_weight(tensor)]

    @property
    def is_model(self) -> bool:
        return self.may_be and bool(self.weights)

    @property
    def has_matrix(self) -> bool:
        return any(len(_shape(self.tensors[name])) > 1 for name in self.weights)

    @property
    def is_of_modules(self) -> bool:
        """Whether it holds floats by names with dots. Words beside other tensors say how these are packed."""
        plain = (not _dtype(self.tensors[name]).startswith(PACKED) for name in self.weights)
        return any("." in name for name in self.weights) and all(plain)

    def lies_in(self, other: _Candidate) -> bool:
        return other is not self and self.place[: len(other.place)] == other.place

    def same(self, other: _Candidate) -> bool:
        """Whether both hold the same values under the same names."""
        return self.tensors.keys() == other.tensors.keys() and all(
            _equal(tensor, other.tensors[name]) for name, tensor in self.tensors.items()
        )

    def __str__(self) -> str:
        n_values = sum(math.prod(_shape(tensor)) for tensor in self.tensors.values())
        return f"{self.key} ({len(self.tensors)} tensors, {n_values:,} values)"


def _candidates(value: Any, tensor: type, in_lists: bool = False) -> Iterator[_Candidate]:
    """Every dictionary that holds tensors, in the order of the file; each once. `in_lists`: or lists of them."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any, bool, str]] = [((), value, True, "")]
    while waiting and len(seen) < MAX_CONTAINERS:
        place, item, may_be, within = waiting.pop()
        if not isinstance(item, dict | list | tuple | Opaque) or id(item) in seen or len(place) > MAX_DEPTH:
            continue
        seen.add(id(item))
        if isinstance(item, Opaque):
            within, item = within or f"{'.'.join(place) or 'what it holds'} ({item.name})", item.inside
        pairs = list(item.items() if isinstance(item, dict) else enumerate(item))
        may_be = may_be and not {key for key, _ in pairs} >= OPTIMIZER
        waiting += [
            ((*place, str(key)), each, may_be and not NOT_MODELS.search(str(key)), within)
            for key, each in reversed(pairs)
            if not str(key).endswith(EXTRA)
        ]
        tensors = {str(key): each for key, each in pairs if isinstance(each, tensor)}
        tensors |= {name: each for key, row in pairs if in_lists for name, each in _in_list(str(key), row, tensor)}
        if tensors and isinstance(item, dict):
            yield _Candidate(place, item, tensors, may_be, within)


def _in_list(key: str, item: Any, tensor: type) -> list[tuple[str, Any]]:
    """(name, tensor) of a list of nothing but tensors, named as modules name theirs: `blocks.0`; else none. Integers
    in one may be weights that take a scale to read."""
    if not isinstance(item, list | tuple) or not item or key.endswith((QUANTIZED, EXTRA)):
        return []
    if not all(isinstance(each, tensor) and not _dtype(each).startswith(PACKED) for each in item):
        return []
    return [(f"{key}.{i}", each) for i, each in enumerate(item)]


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _holds_some(item: Any, tensor: type) -> bool:
    return isinstance(item, list | tuple) and any(isinstance(each, tensor) for each in item)


def _with_lists(chosen: _Candidate, tensor: type, path: Path) -> _Candidate:
    """The same, with what its lists of tensors hold in their place. Raises CheckpointError for two of one name."""
    value: dict[str, Any] = {}
    for key, item in _by_name(chosen.value, path).items():
        row = _in_list(key, item, tensor) or [(key, item)]
        if twice := next((name for name, _ in row if name in value), None):
            raise CheckpointError(f"{path}: two of its tensors are {twice!r} as text; rename one of them")
        value |= dict(row)
    return replace(chosen, value=value, tensors={n: item for n, item in value.items() if isinstance(item, tensor)})


def _only(found: Sequence[_Candidate], path: Path) -> _Candidate:
    """The one that can be meant. What holds others is meant itself only where it has matrices of its own."""
    models = [each for each in found if each.is_model] or [each for each in found if each.may_be] or found
    if whole := next((each.within for each in models if each.within), ""):
        raise CheckpointError(f"{path}: {whole} is an object with tensors in it; save model.state_dict() alone")
    inner = [each for each in models if each.has_matrix or not any(other.lies_in(each) for other in models)]
    first, *others = inner
    if different := [other for other in others if not other.same(first)]:
        keys = Counter(each.key for each in (first, *different))
        if keys and (twice := keys.most_common(1)[0])[1] > 1:
            raise CheckpointError(f"{path}: two of its keys are one name as text, {twice[0]!r}; rename one of them")
        _refuse_packed_modules([first, *different], path)
        raise CheckpointError(
            f"{path} holds {1 + len(different)} state dicts: {_listed([first, *different])}; say which one with "
            f"--key NAME{_as_one([first, *different])}"
        )
    return first


def _refuse_packed_modules(found: Sequence[_Candidate], path: Path) -> None:
    """Raises CheckpointError where state dicts of single modules hold weights that were quantized (HQQ)."""
    for each in found:
        if not any("." in name for name in each.tensors):
            named = {f"{each.key}.{name}": tensor for name, tensor in each.tensors.items()}
            dtypes = {name: _dtype(tensor) for name, tensor in named.items()}
            refuse_packed({name: _shape(tensor) for name, tensor in named.items()}, dtypes, str(path))


def _as_one(found: Sequence[_Candidate]) -> str:
    """How to ask for all of them, where no two hold the same names and shapes and they may be parts of one model."""
    held = Counter(frozenset((name, _shape(tensor)) for name, tensor in each.tensors.items()) for each in found)
    if max(held.values()) > 1:
        return ""
    levels = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*(each.place for each in found)))  # noqa: B905
    return f", or --key '{'.'.join((*(parts[0] for parts in levels), ALL))}' for all of them as one"


def _named(found: Sequence[_Candidate], key: str, path: Path, tensor: type) -> _Candidate:
    """The one under `key`, or the only one further in. Raises CheckpointError when there is none."""
    exactly = [each for each in found if each.key == key]
    if len(exactly) > 1:
        raise CheckpointError(f"{path}: two of its keys are {key!r} as text; rename one of them")
    if not exactly and key.rpartition(".")[2] == ALL:
        return _joined(found, key, path, tensor)
    if inside := exactly or [each for each in found if each.key.startswith(f"{key}.")]:
        return _only(inside, path)
    if (within := [part for each in found if (part := _part(each, key)).tensors]) and len(within) == 1:
        return within[0]
    raise CheckpointError(f"{path} holds no state dict {key!r}; it holds {_listed(found)}")


def _part(whole: _Candidate, key: str) -> _Candidate:
    """What of a state dict is named `KEY.NAME`, as NAME."""
    start = f"{key}.".removeprefix(".".join((*whole.place, "")))
    held = {name.removeprefix(start): each for name, each in whole.tensors.items() if name.startswith(start)}
    return replace(whole, value=held, tensors=held)


def _joined(found: Sequence[_Candidate], key: str, path: Path, tensor: type) -> _Candidate:
    """What lies below a key that ends in ALL, under names with dots. Raises CheckpointError when there is nothing."""
    place = tuple(key.split(".")[:-1])
    below = [each for each in found if each.place[: len(place)] == place]
    models = [each for each in below if each.may_be] or below
    if not models:
        raise CheckpointError(f"{path} holds no state dict {key!r}; it holds {_listed(found)}")
    if within := next((each.within for each in models if each.within), ""):
        raise CheckpointError(f"{path}: {within} is an object with tensors in it; save model.state_dict() alone")
    tensors: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for each in (_with_lists(each, tensor, path) for each in models):
        named = {".".join((*each.place[len(place) :], name)): tensor for name, tensor in each.tensors.items()}
        if twice := tensors.keys() & named.keys():
            raise CheckpointError(f"{path}: two of its tensors are {min(twice)!r} as text; rename one of them")
        tensors |= named
        plain = {
            name: item
            for name, item in each.value.items()
            if _holds_some(item, tensor) or not isinstance(item, dict | list | tuple | Opaque)
        }
        others |= {".".join((*each.place[len(place) :], str(name))): item for name, item in plain.items()}
    return _Candidate(place, others | tensors, tensors, True, "")


def _listed(found: Sequence[object]) -> str:
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(map(str, found[:SHOWN])) + more


def _is_weight(tensor: Any) -> bool:
    floats = _dtype(tensor).startswith(FLOATS)
    return math.prod(_shape(tensor)) > 1 and (floats or len(_shape(tensor)) > 1)


def _shape(tensor: Any) -> tuple[int, ...]:
    """() of tensors that have no shape: nested ones."""
    try:
        return tuple(int(n) for n in tensor.shape)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return ()


def _equal(one: Any, other: Any) -> bool:
    """Whether two tensors of one file hold the same values: `StoredTensor`s, or torch's."""
    if one is other:
        return True
    if one.dtype != other.dtype or _shape(one) != _shape(other):
        return False
    try:
        return bool(one.equal(other)) if hasattr(one, "equal") else np.array_equal(one.array, other.array)
    except (RuntimeError, NotImplementedError):  # of tensors without plain values
        return False
