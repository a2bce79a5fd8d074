"""The pickle inside a torch.save stream, read as data: no object is built that the stream could choose.

    opcodes --a stack machine of its own--> dictionaries, lists, tuples, strings, numbers, `StoredTensor`

Knows the opcodes and the few functions that torch.save needs for state dicts (protocol 2): dense tensors and
parameters of any stride over shared storages, OrderedDict (read as a dictionary, its attributes dropped), torch.Size,
bytes (written as text in latin1) and names of dtypes. Nothing else is looked up, imported or called.
Refuses everything else, more than `MAX_OPCODES`, numbers beyond 64 bits, keys that are no plain values, and tensors
that leave their storage or together exceed the limit. Nothing here recurses, so nesting cannot exhaust the stack.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pgpack.errors import CorruptArtifact, FormatError

from .pickle_writer import NEWER_DTYPES, STORAGES
from .stored_tensor import ARRAY_DTYPES, StoredTensor

MAX_OPCODES = 1 << 19  # a tensor takes about 30
MAX_DIMENSIONS = 32
_DTYPES = {storage: dtype for dtype, storage in STORAGES.items()}
_UNTYPED = {"torch.storage.UntypedStorage": "uint8"}
_PLAIN = (str, int, float, bool, type(None))
_NAME_LEN = 200  # of a module and of a name
_MARK = object()


@dataclass(frozen=True)
class Global:
    """What a pickle calls `module.name`; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, eq=False)
class _Storage:
    """`n` values of `dtype`."""

    dtype: str
    contents: memoryview
    n: int


def unpickled(pickle: bytes, contents: Mapping[str, memoryview], limit: int) -> Any:
    """The value of a pickle whose storages are `contents` by key; tensors are views of those.

    Raises CorruptArtifact, or FormatError when the tensors hold more than `limit` bytes in all.
    """
    return Machine(pickle, contents, limit).value()


class Machine:
    """The stack, the marks on it, the memo, and how many bytes of tensors are still allowed."""

    def __init__(self, pickle: bytes, contents: Mapping[str, memoryview], limit: int) -> None:
        self.pickle, self.contents = pickle, contents
        self.limit = self.left = limit
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def refuse(self, reason: str) -> NoReturn:
        raise CorruptArtifact(f"the pickle of a torch stream is refused at byte {self.position}: {reason}") from None

    def value(self) -> Any:
        """What the pickle holds. Raises: as `unpickled`."""
        try:
            return self.run()
        except (IndexError, struct.error):
            self.refuse("it ends early or takes more than it has put")
        except UnicodeDecodeError:
            self.refuse("a string is not UTF-8")

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            opcode = self.pickle[self.position]
            self.position += 1
            if opcode == ord("."):
                break
            action = self.action(opcode)
            if action is None:
                self.refuse(f"opcode 0x{opcode:02x} is none that torch.save writes for tensors and plain values")
            action(self)
        else:
            self.refuse(f"it has more than {MAX_OPCODES:,} opcodes")
        if self.position != len(self.pickle) or len(self.stack) != 1 or self.stack[0] is _MARK:
            self.refuse("it does not end with one value")
        return self.stack[0]

    def action(self, opcode: int) -> Callable[[Any], None] | None:
        """What an opcode does; None where it is not known."""
        return _ACTIONS.get(opcode)

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """What a function of the pickle gives."""
        build = _FUNCTIONS.get(function)
        if build is None:
            self.refuse(f"it calls {function}; only plain tensors and values are read, other calls could run code")
        return build(self, arguments)

    def take(self, n: int) -> bytes:
        found = self.pickle[self.position : self.position + n]
        if len(found) < n:
            raise IndexError
        self.position += n
        return found

    def skip(self, n: int) -> None:
        self.take(n)

    def line(self) -> str:
        end = self.pickle.find(b"\n", self.position, self.position + _NAME_LEN)
        if end < 0:
            self.refuse("a name is not ended")
        return str(self.take(end + 1 - self.position)[:-1], "utf-8")

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise IndexError
        return value

    def pop_to_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                found = self.stack[i + 1 :]
                del self.stack[i:]
                return found
        raise IndexError

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            self.refuse(f"found {type(value).__name__}, expected {kind.__name__}")
        return value

    def recall(self, place: int) -> None:
        if place not in self.memo:
            self.refuse(f"place {place} of its memo is empty")
        self.stack.append(self.memo[place])

    def memoize(self, place: int) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[place] = value

    def long(self) -> None:
        length = self.take(1)[0]
        if length > 9:
            self.refuse("a number has more than 64 bits")
        self.stack.append(int.from_bytes(self.take(length), "little", signed=True))

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            self.refuse("a key has no value")
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _PLAIN):
                self.refuse(f"a key is of type {type(key).__name__}")
            target[key] = value

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def build(self) -> None:
        """Attributes of an OrderedDict (`_metadata` of a state dict) say nothing about tensors."""
        if type(self.pop()) is not dict:
            self.refuse("attributes that are no dictionary")
        self.top(dict)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Global or type(arguments) is not tuple:
            self.refuse("a call of what is no function")
        self.stack.append(self.call(str(function), arguments))

    def storage(self) -> None:
        """('storage', torch.FloatStorage, key, location, number of values); the location is ignored."""
        what = self.pop()
        if type(what) is not tuple or len(what) != 5 or what[0] != "storage" or type(what[1]) is not Global:
            self.refuse("a reference to what is no storage")
        _, kind, key, _, n = what
        dtype = _DTYPES.get(kind.name) if kind.module == "torch" else _UNTYPED.get(str(kind))
        if dtype is None:
            self.refuse(f"a storage of {kind}; known are {', '.join(_DTYPES)}")
        if type(key) is not str or key not in self.contents:
            self.refuse("a storage whose contents are not in the file")
        contents = self.contents[key]
        if type(n) is not int or not 0 <= n * np.dtype(ARRAY_DTYPES[dtype]).itemsize <= len(contents):
            self.refuse(f"storage {key[:20]} has {len(contents)} bytes, fewer than its values need")
        self.stack.append(_Storage(dtype, contents, n))

    def tensor(self, arguments: tuple[Any, ...]) -> StoredTensor:
        """(storage, offset, shape, strides, requires_grad, hooks, ...). Units: offset and strides in values."""
        if len(arguments) < 4 or type(arguments[0]) is not _Storage:
            self.refuse("a tensor without a storage, shape and strides")
        if len(arguments) > 6 and type(arguments[6]) is dict and any(arguments[6].values()):
            self.refuse("a tensor whose values are the conjugates or negatives of its storage's")
        storage, offset, shape, strides = arguments[:4]
        whole = (offset, *shape, *strides) if type(shape) is tuple and type(strides) is tuple else (None,)
        if any(type(n) is not int or not 0 <= n < 1 << 62 for n in whole):
            self.refuse("the shape, strides or offset of a tensor are no whole numbers from 0 on")
        if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
            self.refuse(f"a tensor of {len(shape)} dimensions with {len(strides)} strides")
        dtype = np.dtype(ARRAY_DTYPES[storage.dtype])
        n_values = 1
        for length in shape:  # at most 32 factors below 2^62
            n_values *= length
        self.left -= n_values * dtype.itemsize
        if self.left < 0:
            raise FormatError(f"the tensors need more than the limit of {self.limit:,} bytes")
        last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
        if (n_values and last >= storage.n) or offset > storage.n:
            self.refuse(f"a tensor of shape {shape} leaves its storage of {storage.n} values")
        if not n_values:
            return StoredTensor(storage.dtype, self.empty(shape, dtype))
        bounds = tuple(
            step * dtype.itemsize if length > 1 else 0 for length, step in zip(shape, strides, strict=True)
        )
        view = np.ndarray(shape, dtype, storage.contents, offset * dtype.itemsize, bounds)
        return StoredTensor(storage.dtype, view)

    def newer_tensor(self, arguments: tuple[Any, ...]) -> StoredTensor:
        """As `tensor`, of a dtype without a storage class: a storage of bytes, and the dtype as the last argument."""
        if len(arguments) < 7 or type(arguments[0]) is not _Storage or type(arguments[6]) is not Global:
            self.refuse("a tensor without a storage, shape, strides and dtype")
        name = arguments[6].name if arguments[6].module == "torch" else ""
        if name not in NEWER_DTYPES or arguments[0].dtype != "uint8":
            self.refuse(f"a tensor of {arguments[6]} over {arguments[0].dtype}; known are {', '.join(NEWER_DTYPES)}")
        storage = _Storage(name, arguments[0].contents, arguments[0].n)  # one byte a value
        return self.tensor((storage, *arguments[1:]))

    def encoded(self, arguments: tuple[Any, ...]) -> bytes:
        """Bytes as protocol 2 writes them: text and its encoding."""
        if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
            self.refuse("bytes that are not text in latin1")
        try:
            return str(arguments[0]).encode("latin1")
        except UnicodeEncodeError:
            self.refuse("bytes above 255")

    def no_bytes(self, arguments: tuple[Any, ...]) -> bytes:
        if arguments:
            self.refuse("bytes made of arguments")
        return b""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        try:
            return np.empty(shape, dtype)
        except ValueError:
            self.refuse(f"an empty tensor of shape {shape}")

    def parameter(self, arguments: tuple[Any, ...]) -> StoredTensor:
        if not arguments or type(arguments[0]) is not StoredTensor:
            self.refuse("a parameter without a tensor")
        return arguments[0]

    def ordered_dict(self, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        if arguments:
            self.refuse("an OrderedDict with arguments")
        return {}

    def size(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(arguments) != 1 or type(arguments[0]) is not tuple:
            self.refuse("a torch.Size of what is no tuple")
        return arguments[0]

    def tuple_of(self, n: int) -> None:
        items = [self.pop() for _ in range(n)]
        self.stack.append(tuple(reversed(items)))


_FUNCTIONS: dict[str, Callable[[Machine, tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor_v2": Machine.tensor,
    "torch._utils._rebuild_tensor_v3": Machine.newer_tensor,
    "torch._utils._rebuild_parameter": Machine.parameter,
    "_codecs.encode": Machine.encoded,
    "__builtin__.bytes": Machine.no_bytes,
    "collections.OrderedDict": Machine.ordered_dict,
    "torch.Size": Machine.size,
}


def _protocol(machine: Machine) -> None:
    if machine.take(1)[0] != 2:
        machine.refuse("its protocol is not 2")


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


_ACTIONS: dict[int, Callable[[Machine], None]] = {
    ord(opcode): action
    for opcode, action in {
        "\x80": _protocol,
        "(": lambda m: m.stack.append(_MARK),
        "N": lambda m: m.stack.append(None),
        "\x88": lambda m: m.stack.append(True),
        "\x89": lambda m: m.stack.append(False),
        "}": lambda m: m.stack.append({}),
        "]": lambda m: m.stack.append([]),
        ")": lambda m: m.stack.append(()),
        "K": lambda m: m.stack.append(m.number("<B")),
        "M": lambda m: m.stack.append(m.number("<H")),
        "J": lambda m: m.stack.append(m.number("<i")),
        "\x8a": Machine.long,
        "G": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
        "X": lambda m: m.stack.append(str(m.take(m.number("<I")), "utf-8")),
        "c": lambda m: m.stack.append(Global(m.line(), m.line())),
        "t": lambda m: m.stack.append(tuple(m.pop_to_mark())),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "q": lambda m: m.memoize(m.number("<B")),
        "r": lambda m: m.memoize(m.number("<I")),
        "h": lambda m: m.recall(m.number("<B")),
        "j": lambda m: m.recall(m.number("<I")),
        "s": _set_item,
        "u": lambda m: m.set_items(m.pop_to_mark()),
        "a": lambda m: m.append([m.pop()]),
        "e": lambda m: m.append(m.pop_to_mark()),
        "b": lambda m: m.build(),
        "R": Machine.reduce,
        "Q": Machine.storage,
    }.items()
}
