"""The pickle inside a torch.save stream, opcode by opcode as CPython's own pickler writes it (protocol 2).

    dictionaries, lists, tuples, strings, bytes, whole numbers, `StoredTensor` --> a pickle, and the tensors by key

What was written before is referred to by its place in the memo, and "written before" means the same object, not an
equal one: two equal strings that are different objects are written twice. Sizes of the field's files depend on it.
Every tensor has a storage of its own; two of the same memory, as tied weights are, are one. Refuses every other type.
Source: CPython, Lib/pickle.py (opcodes, batches of 1000); torch, `Tensor.__reduce_ex__` (what a tensor becomes).
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Any

from .stored_tensor import StoredTensor

BATCH = 1000
STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
REBUILD_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
REBUILD_NEWER = ("torch._utils", "_rebuild_tensor_v3")  # of dtypes that have no storage class: its dtype comes last
UNTYPED = ("torch.storage", "UntypedStorage")
NEWER_DTYPES = ("float8_e4m3fn",)
ORDERED_DICT = ("collections", "OrderedDict")
ENCODE, BYTES = ("_codecs", "encode"), ("__builtin__", "bytes")
_TUPLES = {1: b"\x85", 2: b"\x86", 3: b"\x87"}


def pickled(value: Any) -> tuple[bytes, list[StoredTensor]]:
    """The pickle of `value`, and its tensors in the order of their storage keys "0", "1", ..."""
    pickler = _Pickler()
    pickler.save(value)
    return b"\x80\x02" + bytes(pickler.out) + b".", pickler.tensors


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """torch's strides of a dense tensor, in values; a length of 0 counts as 1."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


def _identity(value: Any) -> object:
    """The same for the same object, and for tensors of the same memory."""
    if isinstance(value, StoredTensor) and value.array.size:
        return value.dtype, value.shape, value.array.ctypes.data
    return id(value)


class _Pickler:
    """The bytes so far. `memo`: identity -> its place; the objects are kept so that no identity is used twice."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.tensors: list[StoredTensor] = []
        self.memo: dict[object, int] = {}
        self.kept: list[Any] = []

    def save(self, value: Any) -> None:
        if type(value) is int:
            self.save_int(value)
        elif type(value) is tuple and not value:
            self.out += b")"
        elif not self.recalled(_identity(value)):
            self.save_new(value)

    def save_new(self, value: Any) -> None:
        if type(value) is str:
            text = value.encode()
            self.out += b"X" + struct.pack("<I", len(text)) + text
            self.memoize(value)
        elif type(value) is bytes:
            self.save_bytes(value)
        elif type(value) is tuple:
            self.save_tuple(value)
        elif type(value) is dict:
            self.out += b"}"
            self.memoize(value)
            self.save_items(value)
        elif type(value) is list:
            self.out += b"]"
            self.memoize(value)
            self.save_elements(value)
        elif isinstance(value, StoredTensor):
            self.save_tensor(value)
        else:
            raise TypeError(f"a torch stream is written of tensors and plain values, found {type(value).__name__}")

    def recalled(self, key: object) -> bool:
        """Whether `key` is in the memo; if so, a reference to it has been written."""
        place = self.memo.get(key)
        if place is not None:
            self.out += b"h" + bytes([place]) if place < 256 else b"j" + struct.pack("<I", place)
        return place is not None

    def memoize(self, value: Any, key: object = None) -> None:
        place = len(self.memo)
        self.memo[id(value) if key is None else key] = place
        self.kept.append(value)
        self.out += b"q" + bytes([place]) if place < 256 else b"r" + struct.pack("<I", place)

    def save_int(self, value: int) -> None:
        if 0 <= value < 1 << 8:
            self.out += b"K" + bytes([value])
        elif 0 <= value < 1 << 16:
            self.out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out += b"\x8a" + bytes([len(digits)]) + digits

    def save_bytes(self, value: bytes) -> None:
        """A call of `_codecs.encode(text, "latin1")`, or of `bytes()`: protocol 2 has no bytes of its own."""
        self.save_global(ENCODE if value else BYTES)
        if value:
            self.save(str(value, "latin1"))
            self.save("latin1")
            self.out += b"\x86"
            self.memoize(object())
        else:
            self.out += b")"
        self.out += b"R"
        self.memoize(value)

    def save_tuple(self, value: tuple[Any, ...]) -> None:
        if len(value) not in _TUPLES:
            self.out += b"("
        for item in value:
            self.save(item)
        self.out += _TUPLES.get(len(value), b"t")
        self.memoize(value)

    def save_items(self, value: dict[Any, Any]) -> None:
        """A full last batch is followed by an empty one, as CPython's pickler does it."""
        if len(value) < 2:
            for pair in value.items():
                self.save_all(pair)
                self.out += b"s"
            return
        items, n = iter(value.items()), BATCH
        while n == BATCH:
            self.out += b"("
            batch = list(islice(items, BATCH))
            for pair in batch:
                self.save_all(pair)
            self.out += b"u"
            n = len(batch)

    def save_elements(self, value: list[Any]) -> None:
        if len(value) == 1:
            self.save(value[0])
            self.out += b"a"
            return
        for start in range(0, len(value), BATCH):
            self.out += b"("
            self.save_all(value[start : start + BATCH])
            self.out += b"e"

    def save_all(self, values: Any) -> None:
        for value in values:
            self.save(value)

    def save_global(self, name: tuple[str, str]) -> None:
        if not self.recalled(name):
            self.out += b"c" + "\n".join(name).encode() + b"\n"
            self.memoize(name, name)

    def save_tensor(self, tensor: StoredTensor) -> None:
        """_rebuild_tensor_v2(storage, offset 0, shape, strides, requires_grad False, hooks OrderedDict())."""
        shape, newer = tensor.shape, tensor.dtype in NEWER_DTYPES
        self.save_global(REBUILD_NEWER if newer else REBUILD_TENSOR)
        self.out += b"(("
        self.save("storage")
        self.save_global(UNTYPED if newer else ("torch", STORAGES[tensor.dtype]))
        self.save(str(len(self.tensors)))
        self.save("cpu")
        self.save(int(tensor.array.nbytes if newer else tensor.array.size))
        self.out += b"t"
        self.memoize(object())
        self.out += b"Q"
        self.save_all((0, shape, contiguous_strides(shape)))
        self.out += b"\x89"
        self.save_global(ORDERED_DICT)
        self.out += b")R"
        self.memoize(object())  # the hooks
        if newer:
            self.save_global(("torch", tensor.dtype))
        self.out += b"t"
        self.memoize(object())  # the arguments
        self.out += b"R"
        self.memoize(tensor, _identity(tensor))
        self.tensors.append(tensor)
