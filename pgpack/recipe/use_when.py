"""Which stage or preset to choose when, as a table: what each says of itself behind `Use when:` in its docstring."""

from __future__ import annotations

from typing import NamedTuple

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.quantizers import QUANTIZERS, TRANSFORMS

from .presets import PRESETS

_MARK = "Use when: "
_KINDS = {
    "quantizer": QUANTIZERS,
    "transform": TRANSFORMS,
    "symbol transform": SYMBOL_TRANSFORMS,
    "coder": CODERS,
    "byte codec": BYTE_CODECS,
}


class UseWhen(NamedTuple):
    """A row of the table. `kind`: quantizer, transform, symbol transform, coder, byte codec or preset."""

    kind: str
    name: str
    line: str


def use_when() -> list[UseWhen]:
    """A row of every stage and preset, in the order of their tables; `line` is empty where one says nothing."""
    stages = [UseWhen(kind, name, _line(cls)) for kind, table in _KINDS.items() for name, cls in table.items()]
    return stages + [UseWhen("preset", name, found.use_when) for name, found in PRESETS.items()]


def _line(cls: type[object]) -> str:
    """What follows the mark in the docstring, without its full stop."""
    lines = [line.strip() for line in (cls.__doc__ or "").splitlines()]
    return next((line.removeprefix(_MARK).rstrip(".") for line in lines if line.startswith(_MARK)), "")
