"""Every study: its claims follow from its results, its pages from its claims, and its full scale can be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.replication.claims import UNTESTED, read_claims
from experiments.replication.measures import Measures
from experiments.replication.pages import EXPERIMENTS, STUDIES, block, summary_table, verdict_table
from experiments.replication.plan import SCALES, Study
from pgtrain.model.tensor_table import count_parameters

FOLDERS = [EXPERIMENTS / name for name in STUDIES if (EXPERIMENTS / name / "claims.toml").is_file()]
study_folders = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@study_folders
def test_verdicts_follow_from_the_results(folder: Path) -> None:
    measures = Measures.load(folder / "results" / "measures.json")
    for claim in read_claims(folder / "claims.toml"):
        written = {key: claim.entry[key] for key in ("ours", "std", "seeds", "verdict") if key in claim.entry}
        assert written == claim.judge(measures), claim.id


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
