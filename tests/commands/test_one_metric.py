"""One loss, chosen once: the choice, the table, the CSV, the JSON, the export and the page all go by it."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pgpack_cli.pgpack_app import app

from pgpack.report.page import render_report
from pgpack.study.card import StudyMeta
from pgpack.study.export import trials_csv
from pgpack.study.frontier import Metric, loss_of, pareto
from pgpack.study.study import Study
from tests.commands.workshop import pgpack, succeed
from tests.synthetic_study import write_study

METRICS: tuple[Metric, ...] = ("kl", "bpb", "nats")


def chosen(folder: Path, metric: Metric) -> Study:
    """A study whose metric was chosen, and in which one poor recipe is lucky in bits per byte and nats."""
    study = write_study(folder)
    poor = next(trial for trial in study.trials if trial.ok and (trial.n_bytes or 0) < 16_000_000)
    least = min(trial.bpb or 9.0 for trial in study.trials if trial.ok)
    lucky = dataclasses.replace(poor, bpb=least - 0.01, nats=0.001, key="lucky", label="lucky")
    card = dataclasses.replace(study.meta, metric=metric)
    (folder / "study.json").write_text(card.to_json())
    with (folder / "trials.jsonl").open("a") as journal:
        journal.write(lucky.to_json() + "\n")
    return Study.load(folder)


@pytest.mark.parametrize("metric", METRICS)
def test_choice_table_csv_json_export_and_page_go_by_the_metric_of_the_study(tmp_path: Path, metric: Metric) -> None:
    study = chosen(tmp_path / "study", metric)
    view = study.frontier()
    assert view.metric == metric
    assert list(view.points) == pareto(study.trials, metric)
    best = view.best
    assert best is not None
    assert (best.label == "lucky") == (metric != "kl")
    within = [trial for trial in study.trials if trial.ok and (trial.n_bytes or 0) <= (study.meta.budget or 0)]
    assert loss_of(best, metric) == min(loss_of(trial, metric) for trial in within)  # type: ignore[type-var]
    (starred,) = [line for line in view.table().splitlines() if line.startswith("*")]
    assert f"{best.n_bytes:,}" in starred
    assert len(view.table().splitlines()) == 1 + len(view.points)
    rows = list(csv.DictReader(view.to_csv().splitlines()))
    assert [row["n_bytes"] for row in rows] == [str(trial.n_bytes) for trial in view.points]
    result = CliRunner().invoke(app, ["frontier", str(study.directory), "--json"])
    document = json.loads(result.stdout)
    assert document["metric"] == metric
    assert document["best"]["recipe_digest"] == best.recipe_digest
    assert document["best_loss"] == loss_of(best, metric)
    exported = csv.DictReader(trials_csv([("study", study)]).splitlines())
    assert sum(row["on_frontier"] == "True" for row in exported) == len(view.points)
    page = render_report(study)
    assert f"Best point: {best.bpb:.4f} bits per byte" in page


def test_a_flag_shows_another_metric_and_every_table_says_which(tmp_path: Path) -> None:
    folder = chosen(tmp_path / "study", "bpb").directory
    for metric, words in (("kl", "KL to the fp32 model"), ("nats", "nats per token"), ("bpb", "bits per byte")):
        shown = CliRunner().invoke(app, ["frontier", str(folder), "--metric", metric]).stdout
        caption = next(line for line in shown.splitlines() if line.startswith("study: "))
        assert "model.safetensors" in caption
        assert words in caption


def test_a_search_goes_on_by_the_metric_of_its_study_whoever_forgets_the_flag(model: Path, tmp_path: Path) -> None:
    space = ("--recipe", "role:control=cast; tok*=rtn(bits={3:8})|rans; *=rtn(bits={3:8})|{zlib,rans}")
    search = ("--search", "surrogate", "--trials", 14, "--max-tokens", 512, "--jobs", 1, "-q", "--json")
    sweep = ("sweep", model, *space, *search, "-o", tmp_path)
    assert succeed(pgpack(*sweep, "--metric", "bpb")).json["n_new"] == 14
    assert succeed(pgpack(*sweep)).json["n_new"] == 0
    assert succeed(pgpack(*sweep)).json["metric"] == "bpb"


def test_pack_fits_a_budget_by_the_metric_asked_for_and_says_where_it_cannot(model: Path, tmp_path: Path) -> None:
    pack = ("pack", model, "--max-tokens", 512, "-o", tmp_path / "m.pgpack", "-q", "--force")
    for metric in ("kl", "bpb"):
        assert succeed(pgpack(*pack, "--budget", "9kB", "--metric", metric, "--json")).json["n_bytes"] <= 9000
    assert "bpb" not in succeed(pgpack(*pack, "--budget", "9kB", "--metric", "error", "--json")).json
    lost = pgpack(*pack, "--recipe", "role:control=cast; *=rtn|rans", "--metric", "kl")
    assert lost.code == 2
    assert "--metric" in lost.err


def test_a_card_without_a_choice_names_none_and_another_word_is_refused(tmp_path: Path) -> None:
    meta = write_study(tmp_path / "study").meta
    assert json.loads(meta.to_json())["metric"] is None
    given = dataclasses.replace(meta, metric="nats")
    assert StudyMeta.from_json(given.to_json()) == given
    assert json.loads(given.to_json())["v"] == 7
    with pytest.raises(Exception, match="metric is 'loss'; expected kl, bpb, nats, error"):
        dataclasses.replace(meta, metric="loss")  # type: ignore[arg-type]


def test_sweep_keeps_the_metric_and_refuses_one_that_it_cannot_measure(model: Path, tmp_path: Path) -> None:
    space = ("--recipe", "role:control=cast; *=rtn(bits={4,6})|rans", "--max-tokens", 512, "-q")
    refused = pgpack("sweep", model, *space, "--metric", "error", "--out", tmp_path / "none")
    assert refused.code == 2
    assert "--metric error is of sweeps without text" in refused.err
    assert not (tmp_path / "none").exists()
    document = json.loads(
        succeed(pgpack("sweep", model, *space, "--metric", "nats", "--out", tmp_path / "study", "--json")).out
    )
    assert document["metric"] == "nats"
    assert Study.load(tmp_path / "study").meta.metric == "nats"
    again = succeed(pgpack("sweep", model, *space, "--out", tmp_path / "study"))
    assert "compared by nats per token" in again.out
