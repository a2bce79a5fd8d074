"""A group of flags that several commands share: a frozen dataclass whose fields are the flags' values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

Flag = tuple[tuple[str, ...], Mapping[str, Any]]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def flag(*names: str, **attributes: Any) -> Flag:
    """A flag as `click.option` takes it, less the name of its parameter: that is its field's."""
    return names, attributes


def flag_group(kind: type[Any], keyword: str, flags: Mapping[str, Flag]) -> Decorator:
    """Decorator that adds `flags` (field of `kind` -> flag) to a command, which receives them as `keyword: kind`;
    fields without a flag keep their defaults."""
    parameters = {field.name: f"{keyword}_{field.name}" for field in dataclasses.fields(kind) if field.name in flags}
    assert flags.keys() == parameters.keys()

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_flags(*args: Any, **options: Any) -> Any:
            values = {name: options.pop(parameter) for name, parameter in parameters.items()}
            return function(*args, **{keyword: kind(**values)}, **options)

        wrapped: Callable[..., Any] = with_flags
        for name, (names, attributes) in reversed(list(flags.items())):
            wrapped = click.option(*names, parameters[name], **attributes)(wrapped)
        return wrapped

    return decorate
