"""A group of flags that several commands share: a frozen dataclass whose fields are the flags' values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def flag(*names: str, **attributes: Any) -> Any:
    """A field with its flag: all that `click.option` takes but the name of the parameter, which is the field's."""
    absent = () if attributes.get("multiple") else False if attributes.get("is_flag") else None
    option = functools.partial(click.option, *names, **attributes)
    return dataclasses.field(
        default=attributes.get("default", absent), metadata={"flag": names[-1], "option": option}
    )


def option_of(field: dataclasses.Field[Any], parameter: str) -> Decorator:
    """The flag of one field by itself, under the name of a command's parameter."""
    decorator: Decorator = field.metadata["option"](parameter)
    return decorator


def flag_group(kind: type[Any], keyword: str, flags: Mapping[str, Any] | None = None) -> Decorator:
    """Decorator that adds the flags of `kind` to a command, which receives them as `keyword: kind`.

    `flags`: field -> flag of a `kind` from elsewhere, whose fields do not hold theirs.
    """
    if flags is None:
        flags = {field.name: field for field in dataclasses.fields(kind)}
    parameters = {name: f"{keyword}_{name}" for name in flags}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_flags(*args: Any, **options: Any) -> Any:
            values = {name: options.pop(parameter) for name, parameter in parameters.items()}
            return function(*args, **{keyword: kind(**values)}, **options)

        wrapped: Callable[..., Any] = with_flags
        for name, field in reversed(list(flags.items())):
            wrapped = option_of(field, parameters[name])(wrapped)
        return wrapped

    return decorate
