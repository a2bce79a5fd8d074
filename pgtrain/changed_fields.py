"""FIELD=VALUE, as people give it for the fields of a settings dataclass."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pgpack.errors import SettingError


def changed_fields(changes: Sequence[str], *defaults: Any) -> dict[str, Any]:
    """Field -> value of every FIELD=VALUE, in the type that the field has in one of `defaults` (dataclasses).

    Raises: SettingError for an unknown field or a value that is not of its type.
    """
    known: dict[str, Any] = {}
    for each in defaults:
        known |= {name: value for name, value in asdict(each).items() if isinstance(value, int | float | str)}
    return dict(_change(text, known) for text in changes)


def _change(text: str, known: Mapping[str, Any]) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingError(f"--set {text}: give FIELD=VALUE, such as {next(iter(known))}=...")
    if name not in known:
        raise SettingError(
            f"--set {text}: no field is called {name}{nearest(name, known)}; `pgtrain ls demo --json` shows all"
        )
    kind = type(known[name])
    if kind is bool:
        if value not in ("true", "false"):
            raise SettingError(f"--set {text}: {name} is true or false")
        return name, value == "true"
    try:
        return name, kind(value)
    except ValueError as error:
        words = {"int": "a whole number", "float": "a number"}
        raise SettingError(f"--set {text}: {name} is {words[kind.__name__]}") from error


def nearest(wrong: str, known: Iterable[str]) -> str:
    """What may have been meant, as a part of a sentence."""
    found = difflib.get_close_matches(wrong, list(known), n=3)
    return f" (near it: {', '.join(found)})" if found else ""
