"""FIELD=VALUE on the command line for the fields of a settings dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click


def changed_fields(changes: Sequence[str], *defaults: Any) -> dict[str, Any]:
    """Field -> value of every `--set FIELD=VALUE`, in the type that the field has in one of `defaults` (dataclasses).

    Raises: click.UsageError for an unknown field or a value that is not of its type.
    """
    known: dict[str, Any] = {}
    for each in defaults:
        known |= {name: value for name, value in asdict(each).items() if isinstance(value, int | float | str)}
    return dict(_change(text, known) for text in changes)


def _change(text: str, known: Mapping[str, Any]) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or name not in known:
        raise click.UsageError(f"--set {text}: give FIELD=VALUE with one of {', '.join(known)}")
    kind = type(known[name])
    if kind is bool:
        if value not in ("true", "false"):
            raise click.UsageError(f"--set {text}: {name} is true or false")
        return name, value == "true"
    try:
        return name, kind(value)
    except ValueError as error:
        words = {"int": "a whole number", "float": "a number"}
        raise click.UsageError(f"--set {text}: {name} is {words[kind.__name__]}") from error
