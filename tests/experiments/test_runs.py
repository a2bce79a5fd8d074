"""Every study runs: its own runs trained for a few steps, all that it measures measured, its pages written."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import shutil
from pathlib import Path

import pytest

from experiments.rate_distortion import one_seed
from experiments.replication import packing, pages
from experiments.replication.claims import CONFOUNDED, NOT_REPRODUCED, REPRODUCED, UNTESTED, read_claims
from experiments.replication.command import Replication
from experiments.replication.pages import EXPERIMENTS, STUDIES
from experiments.replication.plan import Study
from experiments.replication.results import Measures
from experiments.replication.training import Trained, train_runs
from pgpack.text.corpus import Document, write_text_folder
from pgpack.text.text_folder import TextFolder

STEPS = 4
VERDICTS = {REPRODUCED, NOT_REPRODUCED, CONFOUNDED, UNTESTED}
CALIBRATED = "@calib=tokens(count=512)"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, corpus: list[Document]) -> TextFolder:
    """About 1,000 tokens of validation text, 8,000 of training text."""
    folder = tmp_path_factory.mktemp("study-text")
    write_text_folder([d for d in corpus if len(d.text) < 1500][:40], folder, None, 400, 0.1)
    return TextFolder.open(folder)


def shrunk(study: Study, folder: Path) -> Study:
    """One seed (two where seeds are compared), a few steps, short windows, few pieces; in a folder of its own."""
    sheet = copy.deepcopy(dict(study.sheet)) | {"seeds": [1, 2] if study.name == "ebls" else [1]}
    model = {"vocab_size": 400, "seq_len": 32}
    training = {"steps": STEPS, "warmup_steps": 0, "warmdown_steps": 3, "batch_tokens": 128}
    if study.name == "rate_distortion":
        model |= {"num_layers": 2, "model_dim": 32}
    for part in (sheet["tiny"], *(run.get("tiny", {}) for run in sheet["runs"].values())):
        part["model"] = part.get("model", {}) | model
        part["training"] = part.get("training", {}) | training
        if "snapshots" in part:
            part["snapshots"] = [2, STEPS]
        if "seq_curriculum" in part["training"]:
            part["training"]["seq_curriculum"] = [[0.0, 8], [0.5, 32]]
    return Study(folder, sheet)


@pytest.mark.slow  # a dozen models each
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs(name: str, text: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables, claims and pictures come out with the names that are published."""
    monkeypatch.setattr(packing, "CALIBRATION", CALIBRATED)
    monkeypatch.setattr(one_seed, "CALIBRATED", CALIBRATED)
    monkeypatch.setattr(one_seed, "MAX_TOKENS", 1024)
    published = EXPERIMENTS / name
    parts: Replication = importlib.import_module(f"experiments.{name}.run").STUDY
    study = shrunk(Study.load(published), tmp_path)
    runs = study.runs("tiny")
    paths = train_runs(runs, text, tmp_path / "checkpoints", 1)
    by_name = {(run.name, run.seed): path for run, path in zip(runs, paths, strict=True)}
    results = parts.measure(Trained(study, "tiny", by_name, text, tmp_path / "results"))
    assert {path.name for path in results.folder.iterdir()} == {p.name for p in (published / "results").iterdir()}
    assert set(results.measures.by_seed) == set(Measures.load(published / "results" / "measures.json").by_seed)
    for page in ("README.md", "claims.toml"):
        shutil.copy(published / page, tmp_path)
    (tmp_path / "all").mkdir()
    shutil.copy(EXPERIMENTS / "README.md", tmp_path / "all")
    monkeypatch.setattr(pages, "EXPERIMENTS", tmp_path / "all")
    dataclasses.replace(parts, folder=tmp_path).publish(results)
    assert {c.entry["verdict"] for c in read_claims(tmp_path / "claims.toml")} <= VERDICTS
