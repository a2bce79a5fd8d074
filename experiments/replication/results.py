"""The results of a study on disk: what its tables and pictures are made of, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .measures import Measures
from .plan import Study
from .rows import Value, read_rows


@dataclass(frozen=True)
class Results:
    """`folder` holds measures.json and one CSV per table of rows."""

    study: Study
    folder: Path
    measures: Measures

    @classmethod
    def load(cls, study: Study) -> Results:
        """What is published of a study."""
        folder = study.folder / "results"
        return cls(study, folder, Measures.load(folder / "measures.json"))

    def rows(self, table: str) -> list[dict[str, Value]]:
        """The rows of <table>.csv."""
        return read_rows(self.folder / f"{table}.csv")

    def shown(self, digits: int, *names: str, sign: str = "") -> list[str]:
        """Mean ± standard deviation of measures over seeds, as cells of a table."""
        return [self.measures[name].shown(digits, sign) for name in names]
