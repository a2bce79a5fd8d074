"""Laws of the exported table: every trial is in it once, with its own values, whatever the format."""

from __future__ import annotations

import csv
import dataclasses
import re
import sys
from pathlib import Path

import pytest

from pgpack.errors import StudyError, ToolMissing
from pgpack.study.comparison import half_width, paired_difference
from pgpack.study.export import COLUMNS, trials_csv, write_export
from pgpack.study.frontier import pareto
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from tests.synthetic_study import synthetic_meta, synthetic_trials

STUDIES = [
    (name, Study(Path(name), synthetic_meta(seed), synthetic_trials(seed, scale=1 - 0.1 * seed)))
    for seed, name in enumerate("ab")
]
WIDTHS = {f"{metric}_half_width": metric for metric in ("bpb", "kl")}
TRIALS = [trial for _, study in STUDIES for trial in study.trials]
READERS = {"int": int, "float": float, "str": str}
JOURNAL = Path(__file__).resolve().parents[2] / "pgpack" / "study" / "JOURNAL.md"


def test_csv_gives_back_every_trial_of_every_study() -> None:
    rows = list(csv.DictReader(trials_csv(STUDIES).splitlines()))
    assert [row.pop("study") for row in rows] == [name for name, study in STUDIES for _ in study.trials]
    frontier = {trial.key for trial in pareto(TRIALS)}
    assert {row["key"] for row in rows if row.pop("on_frontier") == "True"} == frontier
    kinds = dict(COLUMNS)
    required = {field.name for field in dataclasses.fields(Trial) if field.default is dataclasses.MISSING}
    for row, trial in zip(rows, TRIALS, strict=True):
        widths = [row.pop(name) for name in WIDTHS]
        assert [float(text) if text else None for text in widths] == [half_width(trial, m) for m in WIDTHS.values()]
        values = {
            name: None if text == "" and name not in {*required, "label"} else READERS[kinds[name]](text)
            for name, text in row.items()
        }
        assert Trial(**values) == trial


def test_parquet_holds_the_same_table_with_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_export(STUDIES, tmp_path / "trials.parquet")
    table = parquet.read_table(tmp_path / "trials.parquet")
    assert table.column_names == [name for name, _ in COLUMNS]
    arrow = {"str": "string", "int": "int64", "float": "double", "bool": "bool"}
    assert [str(field.type) for field in table.schema] == [arrow[kind] for _, kind in COLUMNS]
    rows = table.to_pylist()
    frontier = {trial.key for trial in pareto(TRIALS)}
    for row, trial in zip(rows, TRIALS, strict=True):
        assert row.pop("on_frontier") == (trial.key in frontier)
        row.pop("study")
        assert [row.pop(name) for name in WIDTHS] == [half_width(trial, metric) for metric in WIDTHS.values()]
        assert Trial(**row) == trial


def test_parquet_without_pyarrow_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ToolMissing, match=r"pip install 'pgpack\[parquet\]', or give a name that ends in \.csv"):
        write_export(STUDIES, tmp_path / "trials.parquet")
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"trials\.xls: trials are exported as \.csv or \.parquet, not '\.xls'"):
        write_export(STUDIES, tmp_path / "trials.xls")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_example_of_the_journal_page_finds_the_frontier(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library)
    (example,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", JOURNAL.read_text(encoding="utf-8"), re.S)
        if f"import {library}" in code
    ]
    folder = tmp_path / "study"
    folder.mkdir()
    trials = STUDIES[0][1].trials
    (folder / "trials.jsonl").write_text("".join(trial.to_json() + "\n" for trial in trials))
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    printed = capsys.readouterr().out
    best = [t for t in pareto(trials) if library == "pandas" or (t.n_bytes or 0) <= 16_000_000][-1]
    assert f"{best.n_bytes}" in printed


def test_the_example_of_the_journal_page_finds_the_paired_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", JOURNAL.read_text(encoding="utf-8"), re.S)
        if "import numpy" in code
    ]
    folder = tmp_path / "study"
    folder.mkdir()
    meta, trials = STUDIES[0][1].meta, STUDIES[0][1].trials
    (folder / "study.json").write_text(meta.to_json())
    (folder / "trials.jsonl").write_text("".join(trial.to_json() + "\n" for trial in trials))
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    found = [float(word) for word in re.findall(r"[-+]?\d+\.\d+", capsys.readouterr().out)]
    difference = paired_difference(trials[0], trials[1], meta.block_bytes)
    assert difference is not None
    assert found == pytest.approx([difference.value, difference.half_width()], rel=5e-3, abs=1e-5)
