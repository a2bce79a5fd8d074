"""Rows of a result as CSV: what figures and tables of a study are drawn from.

Owns the file format: a header, floats with six digits, so that a rerun shows what really changed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgpack.errors import DataError

Value = str | int | float
Row = Mapping[str, Value]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Raises: DataError when there are none, or not all have the same columns."""
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise DataError(f"{path}: rows need the same columns, and there must be one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_written(value) for value in row.values()] for row in rows)


def read_rows(path: Path) -> list[dict[str, Value]]:
    """The rows that `write_rows` wrote; what looks like a number is one."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _read(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _written(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
