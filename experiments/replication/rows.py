"""What one part of the measuring finds on one seed, and rows of results as CSV, which figures and tables are made of.

Owns the file format: a header, floats with six digits, so that a rerun shows what really changed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgpack.errors import DataError

Value = str | int | float
Row = Mapping[str, Value]
Key = tuple[Value, ...]


@dataclass
class Found:
    """`values` go to measures.json, `rows` to results/<table>.csv."""

    seed: int
    values: dict[str, float] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def put(self, run: str, values: Mapping[str, float]) -> None:
        """Values under `run.name`."""
        self.values |= {f"{run}.{name}": value for name, value in values.items()}

    def add(self, table: str, /, **row: Value) -> None:
        """A row of a table, its columns in the order given."""
        self.rows.setdefault(table, []).append(row)


def by(rows: Iterable[Row], keys: Sequence[str], value: str) -> dict[Key, list[float]]:
    """The values of all seeds under each combination of keys, in the order of the file."""
    found: dict[Key, list[float]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(float(row[value]))
    return found


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Raises: DataError when there are none, or not all have the same columns."""
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise DataError(f"{path}: rows need the same columns, and there must be one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row.values()] for row in rows)


def read_rows(path: Path) -> list[dict[str, Value]]:
    """The rows that `write_rows` wrote; what looks like a number is one."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _read(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _read(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
