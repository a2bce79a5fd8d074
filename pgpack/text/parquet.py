"""Texts of Parquet files, read by pyarrow (extra `parquet`), a few rows at a time."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgpack.errors import DataError, ToolMissing

from .compressed import PACKED, opened, refuse_pointer

ROWS = 64


def parquet_texts(path: Path, field: str) -> Iterator[str]:
    """The strings of one column, or what its bytes spell in UTF-8; rows without one count as empty.

    Raises: DataError when it is no Parquet file with such a column, ToolMissing without pyarrow.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ToolMissing(f"{path} is read by pyarrow; install it with: pip install 'pgpack[parquet]'") from error
    refuse_pointer(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(parquet.ParquetFile(_seekable(path, stack)))
            names = list(file.schema_arrow.names)
            if field not in names:
                raise DataError(f"{path} has no column {field}; it has {', '.join(names)}: name one as --field")
            for batch in file.iter_batches(batch_size=ROWS, columns=[field]):
                for value in batch.column(0).to_pylist():
                    yield _text(value, f"{path}: column {field} holds")
        except (ArrowException, OSError) as error:
            raise DataError(f"{path} is not a complete .parquet file: {error}") from None


def _text(value: Any, holds: str) -> str:
    """The string that a row holds, or its bytes spell: columns that other tools wrote do not say that they are text.

    Raises: DataError for anything else.
    """
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{holds} bytes that are no UTF-8 text ({error.reason}); save it as strings") from None
    if value is not None and not isinstance(value, str):
        raise DataError(f"{holds} {type(value).__name__}, expected strings")
    return value or ""


def _seekable(path: Path, stack: contextlib.ExitStack) -> Any:
    """The file itself, or where it is compressed its contents in a file without a name."""
    if path.suffix.lower() not in PACKED:
        return path
    aside = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    with opened(path) as stream:
        shutil.copyfileobj(stream, aside)
    return aside
