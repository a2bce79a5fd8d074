"""The type of flags that take a size, such as 16MB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgpack.sizes import parse_size

if TYPE_CHECKING:
    _IntType = click.ParamType[int]
else:
    _IntType = click.ParamType  # not yet generic in click 8.1


class SizeParam(_IntType):
    """A click option type that reads sizes with `parse_size`."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SIZE = SizeParam()
