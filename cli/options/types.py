"""What values of flags are: paths, folders, and sizes such as 16MB or 90%."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pgpack.sizes import Size, bytes_of, is_share, is_unit, parse_size


class NamedPath(click.Path):
    """A path by its name: `-`, which elsewhere means a pipe, would become a file of that name. Whether it can be read
    is told by who reads it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(readable=False, **attributes)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == "-":
            self.fail("- is no name: nothing goes through a pipe here; give a file's name (./- for one called -)")
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)
FILE = NamedPath(path_type=Path, exists=True, dir_okay=False)
FOLDER = NamedPath(path_type=Path, file_okay=False)


def size(text: str) -> int:
    """Bytes, read with `parse_size`."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def refuse_split_size(size: Size | None, paths: Sequence[Path]) -> None:
    """Raises: click.UsageError where a word that was taken for a file is the unit of a size before it."""
    for path in paths:
        if size is not None and is_unit(str(path)) and not path.exists():
            raise click.UsageError(f"{path}: no such file; a size is one word, such as --budget {size}{path}")


def budget(text: str) -> Size:
    """Bytes, or a share of the fp32 size as its text, to be resolved by `resolved` once the checkpoint is known."""
    try:
        n_bytes = parse_size(text, whole=10**12)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text if is_share(text) else n_bytes


def resolved(given: Size | None, whole: int | None) -> int | None:
    """A budget in bytes, of a model of `whole` bytes as fp32. Raises: click.UsageError for a share of nothing."""
    try:
        return None if given is None else bytes_of(given, whole)
    except ValueError as error:
        raise click.UsageError(f"--budget: {error}") from None


max_bytes_option = click.option(
    "--max-bytes",
    type=size,
    metavar="BYTES",
    help="The most that decoding may give and hold. By default 400 times the file (64 MiB at least), 4 GiB held.",
)


def require_there(*paths: Path) -> None:
    """Raises: CheckpointError for the first of these models that is neither a file nor a folder, before torch is
    loaded."""
    from pgpack.checkpoint.files import require_file

    for path in paths:
        if not path.exists():
            require_file(path)
