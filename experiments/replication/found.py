"""What one part of the measuring finds on one seed: named values, and rows for tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .rows import Row, Value


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
