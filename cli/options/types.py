"""What values of flags are: paths, folders, and sizes such as 16MB."""

from __future__ import annotations

from pathlib import Path

import click

from pgpack.sizes import parse_size

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


def size(text: str) -> int:
    """Bytes, read with `parse_size`."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


max_bytes_option = click.option(
    "--max-bytes",
    type=size,
    metavar="BYTES",
    help="The most that decoding may give and hold. By default 400 times the file (64 MiB at least), 4 GiB held.",
)
