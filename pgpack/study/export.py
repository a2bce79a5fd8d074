"""All trials of studies as one table for other programs: CSV text, or Parquet through pyarrow (extra `parquet`).

Owns the columns: `study`, every field of `Trial` in its order, `bpb_half_width`, `kl_half_width`, `on_frontier`.
JOURNAL.md says what they mean.
Refuses other suffixes. Unknown values are empty cells in CSV and nulls in Parquet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgpack.errors import StudyError, ToolMissing
from pgpack.tables import csv_text

from .comparison import half_widths
from .files import replace_study_file
from .frontier import Front
from .study import Study, metric_of
from .trial import Trial, by_size

EXPORT_SUFFIXES = (".csv", ".parquet")
_FIELDS = tuple((field.name, str(field.type).split(" ")[0]) for field in dataclasses.fields(Trial))
_WIDTHS = tuple((f"{metric}_half_width", "float") for metric in ("bpb", "kl"))
COLUMNS: tuple[tuple[str, str], ...] = (("study", "str"), *_FIELDS, *_WIDTHS, ("on_frontier", "bool"))
"""(name, kind) of every column; a kind is str, int, float or bool."""


def rows_of(studies: Sequence[tuple[str, Study]]) -> list[tuple[Any, ...]]:
    """A row for every trial of the named studies, in `COLUMNS`. `on_frontier`: no trial of any of them is both
    smaller and better in the metric of the studies."""
    tables = [(name, by_size(study.trials)) for name, study in studies]
    trials = tuple(trial for _, rows in tables for trial in rows)
    metric = metric_of([study for _, study in studies], trials)
    frontier = {id(trial) for trial in Front(trials, metric).points}
    return [
        (name, *(getattr(trial, field) for field, _ in _FIELDS), *half_widths(trial), id(trial) in frontier)
        for name, rows in tables
        for trial in rows
    ]


def trials_csv(studies: Sequence[tuple[str, Study]]) -> str:
    """The table as CSV text with a header; numbers in full precision, True and False, empty where unknown."""
    return csv_text([name for name, _ in COLUMNS], rows_of(studies))


def trials_parquet(studies: Sequence[tuple[str, Study]]) -> bytes:
    """The table as a Parquet file with typed columns. Raises: ToolMissing without pyarrow."""
    require_parquet()
    import pyarrow
    from pyarrow import parquet

    kinds = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    rows = rows_of(studies)
    arrays = [pyarrow.array([row[i] for row in rows], kinds[kind]) for i, (_, kind) in enumerate(COLUMNS)]
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(arrays, names=[name for name, _ in COLUMNS]), sink, compression="zstd")
    written: bytes = sink.getvalue().to_pybytes()
    return written


def require_parquet() -> None:
    """Raises: ToolMissing, saying what to install, when pyarrow is not there."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ToolMissing(
            "Parquet is written through pyarrow, which is not installed: pip install 'pgpack[parquet]', "
            "or give a name that ends in .csv"
        ) from None


def write_export(studies: Sequence[tuple[str, Study]], path: Path) -> None:
    """Write the table as CSV or Parquet by the suffix of `path`.

    Raises: StudyError for another suffix or an unwritable file; ToolMissing for Parquet without pyarrow.
    """
    if path.suffix not in EXPORT_SUFFIXES:
        raise StudyError(f"{path}: trials are exported as .csv or .parquet, not {path.suffix or 'without suffix'!r}")
    replace_study_file(path, trials_parquet(studies) if path.suffix == ".parquet" else trials_csv(studies).encode())
