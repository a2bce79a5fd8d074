"""Names and values on the command line: a preset's name, FIELD=VALUE for the fields of a settings dataclass."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click


class PresetName(click.ParamType[str]):
    """The name of one of `presets`; a wrong one is answered with the nearest."""

    name = "NAME"

    def __init__(self, presets: Iterable[str]) -> None:
        self.presets = tuple(presets)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.presets:
            self.fail(f"{value!r} is not a preset{_nearest(value, self.presets)}; `pgtrain ls` shows all", param, ctx)
        return str(value)


def _nearest(wrong: str, known: Iterable[str]) -> str:
    """What may have been meant, as a part of a sentence."""
    found = difflib.get_close_matches(wrong, list(known), n=3)
    return f" (near it: {', '.join(found)})" if found else ""


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
    if not equals:
        raise click.UsageError(f"--set {text}: give FIELD=VALUE, such as {next(iter(known))}=...")
    if name not in known:
        raise click.UsageError(
            f"--set {text}: no field is called {name}{_nearest(name, known)}; `pgtrain ls demo --json` shows all"
        )
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
