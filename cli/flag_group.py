"""A group of flags that several commands share: a frozen dataclass whose fields are the flags' values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def flag(*names: str, **attributes: Any) -> Callable[[str], Decorator]:
    """`click.option` that waits for the name of its parameter, which is its field's."""
    return functools.partial(click.option, *names, **attributes)


def flag_group(kind: type[Any], keyword: str, flags: Mapping[str, Callable[[str], Decorator]]) -> Decorator:
    """Decorator that adds `flags` (field of `kind` -> flag) to a command, which receives them as `keyword: kind`."""
    parameters = {field.name: f"{keyword}_{field.name}" for field in dataclasses.fields(kind)}
    assert flags.keys() == parameters.keys()

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_flags(*args: Any, **options: Any) -> Any:
            values = {name: options.pop(parameter) for name, parameter in parameters.items()}
            return function(*args, **{keyword: kind(**values)}, **options)

        wrapped: Callable[..., Any] = with_flags
        for name in reversed(list(flags)):
            wrapped = flags[name](parameters[name])(wrapped)
        return wrapped

    return decorate
