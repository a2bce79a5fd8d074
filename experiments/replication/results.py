"""The results of a study on disk: what its claims, tables and pictures are made of, and of nothing else.

Owns `measures.json`: a name and one value per seed, rounded to six digits, so that a rerun shows what really changed.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from pgpack.errors import DataError

from .plan import Study
from .rows import Value, read_rows


@dataclass(frozen=True)
class Measured:
    """Values of one quantity, one per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds, 0 for one value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def shown(self, digits: int, sign: str = "") -> str:
        """Mean ± standard deviation over seeds; `sign` "+" writes it before a gain too."""
        return f"{self.mean:{sign}.{digits}f} ± {self.std:.{digits}f}"


@dataclass
class Measures:
    """Name -> seed -> value. Names are `group.quantity`, such as `baseline.contribution_ratio`."""

    scale: str = "tiny"
    by_seed: dict[str, dict[int, float]] = field(default_factory=dict)

    def put(self, name: str, seed: int, value: float) -> None:
        self.by_seed.setdefault(name, {})[seed] = float(f"{value:.6g}")

    def __getitem__(self, name: str) -> Measured:
        """Raises: DataError for a name that was not measured."""
        if name not in self.by_seed:
            raise DataError(f"nothing was measured under the name {name!r}")
        return Measured(tuple(value for _, value in sorted(self.by_seed[name].items())))

    def __contains__(self, name: object) -> bool:
        return name in self.by_seed

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = {
            name: {str(seed): value for seed, value in sorted(seeds.items())} for name, seeds in self.by_seed.items()
        }
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows))
        path.write_text(f'{{\n  "scale": "{self.scale}",\n  "measures": {{\n{lines}\n  }}\n}}\n', encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Measures:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = document["measures"].items()
        return cls(document["scale"], {name: {int(s): v for s, v in seeds.items()} for name, seeds in rows})


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
