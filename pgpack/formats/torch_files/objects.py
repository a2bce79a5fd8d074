"""The pickle of a training script's checkpoint: as `pickle_reader`, and objects beside the tensors are stepped over.

    {"model": {...}, "args": Namespace(lr=0.1), "best": numpy.float64(1.5)} --> {"model": {...}, "args": Opaque, ...}

Nothing is looked up, imported or called here either: an object of whatever class, and what a few functions that only
make values would make, is `Opaque`. Refuses every other call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .newer_pickles import NEWER
from .pickle_reader import Global, Machine

NUMPY_SCALARS = frozenset({"numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"})
DICTIONARY = "collections.defaultdict"
VALUES = NUMPY_SCALARS | {
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
    *(f"__builtin__.{name}" for name in ("set", "frozenset", "complex", "slice", "xrange", "bytearray")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"pathlib.{kind}" for kind in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path")),
    "argparse.Namespace", "collections.Counter", "collections.deque", "copy_reg._reconstructor", "decimal.Decimal",
    *(f"builtins.{name}" for name in ("set", "frozenset", "complex", "slice", "range", "bytearray")),
    "copyreg._reconstructor", "numpy.dtype", "torch.device", "types.SimpleNamespace",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Opaque:
    """An object that was not built: what it calls itself, and everything that was put into it."""

    name: str
    inside: list[Any]


def unpickled_with_objects(pickle: bytes, contents: Mapping[str, memoryview], limit: int) -> Any:
    """As `pickle_reader.unpickled`, with `Opaque` where other objects are."""
    return ObjectMachine(pickle, contents, limit).value()


class ObjectMachine(Machine):
    """What is put into an object is kept in it; what it would do with that is never done."""

    def action(self, opcode: int) -> Callable[[Any], None] | None:
        return _OBJECTS.get(opcode) or NEWER.get(opcode) or super().action(opcode)

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        if function == DICTIONARY:  # what it would make of a key that it has not is never asked for
            return {}
        return Opaque(function, [*arguments]) if function in VALUES else super().call(function, arguments)

    def new_object(self) -> None:
        """cls.__new__(cls, *arguments), which nobody does here."""
        arguments, kind = self.pop(), self.pop()
        if type(kind) is not Global or type(arguments) is not tuple:
            self.refuse("an object of what is no class")
        self.stack.append(Opaque(str(kind), [*arguments]))

    def empty_set(self) -> None:
        self.stack.append(Opaque("builtins.set", []))

    def frozen_set(self) -> None:
        self.stack.append(Opaque("builtins.frozenset", self.pop_to_mark()))

    def build(self) -> None:
        if len(self.stack) > 1 and type(self.stack[-2]) is Opaque:
            attributes = self.pop()
            self.append([attributes])
        else:
            super().build()

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is Opaque:
            self.append(items)
        else:
            super().set_items(items)

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is Opaque:
            self.stack[-1].inside.extend(items)
        else:
            super().append(items)


_OBJECTS: dict[int, Callable[[Any], None]] = {
    0x81: ObjectMachine.new_object,
    0x8F: ObjectMachine.empty_set,
    0x90: lambda machine: machine.append(machine.pop_to_mark()),
    0x91: ObjectMachine.frozen_set,
}
