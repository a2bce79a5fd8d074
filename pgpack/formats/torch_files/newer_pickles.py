"""The opcodes that pickles of protocols 3 to 5 have beside those of 2: `torch.save(..., pickle_protocol=4)`.

They write the same values in fewer bytes. Frames are stepped over: where a value ends is told by its opcodes alone.
"""

from __future__ import annotations

from collections.abc import Callable

from .pickle_reader import Global, Machine

PROTOCOLS = range(2, 6)
LONGEST = 1 << 24  # bytes of a string


def _protocol(machine: Machine) -> None:
    if machine.take(1)[0] not in PROTOCOLS:
        machine.refuse("its protocol is none of 2 to 5")


def _text(machine: Machine, layout: str) -> None:
    machine.stack.append(str(machine.take(_length(machine, layout)), "utf-8"))


def _bytes(machine: Machine, layout: str) -> None:
    machine.stack.append(machine.take(_length(machine, layout)))


def _length(machine: Machine, layout: str) -> int:
    length = machine.number(layout)
    if length > LONGEST:
        machine.refuse(f"a string has more than {LONGEST:,} bytes")
    return length


def _global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if type(name) is not str or type(module) is not str:
        machine.refuse("a name that is no text")
    machine.stack.append(Global(module, name))


NEWER: dict[int, Callable[[Machine], None]] = {
    0x80: _protocol,
    0x95: lambda m: m.skip(8),
    0x8C: lambda m: _text(m, "<B"),
    0x8D: lambda m: _text(m, "<Q"),
    ord("C"): lambda m: _bytes(m, "<B"),
    ord("B"): lambda m: _bytes(m, "<I"),
    0x8E: lambda m: _bytes(m, "<Q"),
    0x93: _global,
    0x94: lambda m: m.memoize(len(m.memo)),
}
