"""What one part of the measuring finds on one seed: named values, and rows for figures and tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.replication.rows import Row


@dataclass
class Found:
    """`values` go to measures.json, `rows` to results/<name>.csv."""

    values: dict[str, float] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def row(self, file: str, row: Row) -> None:
        self.rows.setdefault(file, []).append(row)
