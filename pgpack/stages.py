"""A stage is a frozen dataclass whose fields are its whole configuration; this module gives it a text form.

    name(key=value, key=value)          text -> stage by `parse_stage`; stage -> text by `stage_text`

Numbers print shortest (12.85, 20, 1e-05), booleans as true/false. Tables of names live with their kinds
(`pgpack.quantizers`, `pgpack.codecs`, `pgpack.artifact.containers`); there is no registration at a distance.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from .errors import RecipeError

Table = Mapping[str, type[Any]]
_STAGE = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(?:\((.*)\))?\s*\Z", re.S)


class Fault(RecipeError):
    """A recipe error with the position of its fault inside the parsed text."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def stage_name(stage: Any, tables: Mapping[str, Table] | Table) -> str:
    """The name under which the class of `stage` is registered."""
    for key, value in tables.items():
        if isinstance(value, type):
            if value is type(stage):
                return key
        elif (found := {cls: name for name, cls in value.items()}.get(type(stage))) is not None:
            return found
    raise RecipeError(f"{type(stage).__name__} is not a registered stage")


def value_text(value: Any) -> str:
    """Shortest text that parses back to `value`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def stage_text(name: str, stage: Any, *, full: bool = False, omit: frozenset[str] = frozenset()) -> str:
    """`name(key=value,...)`; fields at their default are left out unless `full`; those in `omit` always."""
    shown = [
        f"{field.name}={value_text(getattr(stage, field.name))}"
        for field in dataclasses.fields(stage)
        if field.name not in omit and (full or getattr(stage, field.name) != field.default)
    ]
    return f"{name}({','.join(shown)})" if shown else name


def default_example(name: str, cls: type[Any]) -> str:
    """The stage with all its defaults written out, for error messages."""
    parts = []
    for field in dataclasses.fields(cls):
        known = field.default is not dataclasses.MISSING
        parts.append(f"{field.name}={value_text(field.default) if known else '...'}")
    return f"{name}({','.join(parts)})" if parts else name


def parse_value(text: str, annotation: str, position: int) -> Any:
    """A value of the field's annotated type ('int', 'float', 'bool', 'str')."""
    kind = str(annotation)
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise Fault(f"{text!r} is not a value of type {kind}", position) from None


def parse_stage(text: str, table: Table, position: int = 0) -> Any:
    """The stage that `text` names, from `table`. Raises Fault (a RecipeError) pointing into the text."""
    match = _STAGE.match(text)
    start = position + len(text) - len(text.lstrip())
    if match is None:
        raise Fault(f"expected name(key=value,...), found {text.strip()!r}", start)
    name, arguments = match.group(1), match.group(2)
    if name not in table:
        raise Fault(f"unknown stage {name!r}; known here: {', '.join(sorted(table))}", start)
    cls = table[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    offset = position + (match.start(2) if arguments is not None else 0)
    for part in arguments.split(",") if arguments and arguments.strip() else []:
        key, equals, value = part.partition("=")
        if not equals or key.strip() not in fields or key.strip() in values:
            raise Fault(
                f"{name} has no setting {part.strip()!r}; all of them: {default_example(name, cls)}",
                offset + len(part) - len(part.lstrip()),
            )
        value_at = offset + part.index("=") + 1
        values[key.strip()] = parse_value(value.strip(), str(fields[key.strip()].type), value_at)
        offset += len(part) + 1
    try:
        return cls(**values)
    except TypeError:
        raise Fault(f"{name} lacks a setting: {default_example(name, cls)}", start) from None
    except RecipeError as error:
        raise Fault(str(error), start) from None
