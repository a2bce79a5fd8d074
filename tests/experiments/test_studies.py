"""Every study: its claims follow from its results, its pages from its claims, and its full scale can be built."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments.replication import figures
from experiments.replication.claims import UNTESTED, read_claims
from experiments.replication.command import Replication
from experiments.replication.pages import EXPERIMENTS, STUDIES, block, summary_table, verdict_table
from experiments.replication.plan import SCALES, Study
from experiments.replication.results import Measures, Results
from pgpack.picture import figure_bytes
from pgtrain.model.tensor_table import count_parameters

FOLDERS = [EXPERIMENTS / name for name in STUDIES if (EXPERIMENTS / name / "claims.toml").is_file()]
NUMBER = re.compile(r"(?<![\w#])(-?\d+\.\d+)")


def parts_of(folder: Path) -> Replication:
    """What the study adds to the steps that all have in common."""
    parts: Replication = importlib.import_module(f"experiments.{folder.name}.run").STUDY
    return parts


def named(part: Path | str) -> str:
    return part.name if isinstance(part, Path) else part


def laid_out(figure: Figure, suffix: str, dpi: int) -> bytes:
    """The figure as SVG; for a PNG only its layout, from which that of the SVG goes on."""
    if suffix == ".svg":
        return figure_bytes(figure, suffix)
    before = figure.dpi
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    figure.set_dpi(before)
    return b""


study_folders = pytest.mark.parametrize("folder", FOLDERS, ids=named)


@study_folders
def test_verdicts_follow_from_the_results(folder: Path) -> None:
    measures = Measures.load(folder / "results" / "measures.json")
    for claim in read_claims(folder / "claims.toml"):
        written = {key: claim.entry[key] for key in ("ours", "std", "seeds", "verdict") if key in claim.entry}
        assert written == claim.judge(measures), claim.id


@pytest.mark.parametrize(("study", "table"), [(s, name) for s in FOLDERS for name in parts_of(s).tables], ids=named)
def test_the_tables_of_the_page_are_those_of_the_results(study: Path, table: str) -> None:
    results = Results.load(Study.load(study))
    assert block(study / "README.md", table) == parts_of(study).tables[table](results)


@study_folders
def test_the_pictures_are_those_of_the_results(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as six digits of the rows tell: to a hundredth of a point."""
    results = Results.load(Study.load(folder))
    for table in results.folder.glob("*.csv"):
        shutil.copy(table, tmp_path)
    monkeypatch.setattr(figures, "figure_bytes", laid_out)
    parts_of(folder).draw(dataclasses.replace(results, folder=tmp_path))
    published = sorted(path.name for path in results.folder.glob("*.svg"))
    assert published == sorted(path.name for path in tmp_path.glob("*.svg"))
    assert published == sorted(path.with_suffix(".svg").name for path in results.folder.glob("*.png"))
    for name in published:
        drawn, kept = (
            NUMBER.split((where / name).read_text(encoding="utf-8")) for where in (tmp_path, results.folder)
        )
        assert drawn[::2] == kept[::2], name
        assert [float(n) for n in drawn[1::2]] == pytest.approx([float(n) for n in kept[1::2]], abs=0.01), name


@study_folders
def test_the_page_shows_the_claims_as_they_are(folder: Path) -> None:
    assert block(folder / "README.md", "verdicts") == verdict_table(read_claims(folder / "claims.toml"))


def test_the_summary_shows_every_study() -> None:
    assert block(EXPERIMENTS / "README.md", "summary") == summary_table()


@study_folders
def test_a_claim_is_measured_on_three_seeds_or_says_what_it_needs(folder: Path) -> None:
    for claim in read_claims(folder / "claims.toml"):
        if claim.entry["verdict"] == UNTESTED:
            assert "--scale full" in claim.entry["needs"], claim.id
        else:
            assert claim.entry["seeds"] >= 3, claim.id


@study_folders
@pytest.mark.parametrize("scale", SCALES)
def test_every_run_is_a_model(folder: Path, scale: str) -> None:
    study = Study.load(folder)
    assert len(study.seeds) >= 3
    for run in study.runs(scale):
        assert count_parameters(run.model) > 0


@study_folders
def test_the_pictures_of_the_page_exist(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    names = [part.partition(")")[0] for part in text.split("](")[1:]]
    pictures = [name for name in names if name.endswith((".png", ".svg"))]
    assert pictures
    assert all((folder / name).is_file() for name in pictures)
