"""The bench of sizes runs to its end on small models; the law that is shipped is that of what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.budget_size import page
from experiments.budget_size.bench import main
from experiments.budget_size.measuring import Measuring, Packed, Plan, Row, Shape
from experiments.replication.pages import ROOT
from pgpack.fit.size_law import SizeLaw, advise, fit_law
from pgpack.text.text_folder import TextFolder
from pgtrain.model.tensor_table import count_parameters
from tests.commands.workshop import pgpack, succeed

RESULTS = ROOT / "results" / "budget-size.json"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """What was measured."""
    return [Row.read(each) for each in json.loads(RESULTS.read_text(encoding="utf-8"))]


def test_the_shipped_law_is_that_of_the_published_rows(rows: list[Row]) -> None:
    shipped = SizeLaw.load()
    law = fit_law(page.points_of(rows), shipped.form, n_replicates=0)
    sizes = np.geomspace(law.n_params.least, law.n_params.most, 20)
    for tokens in (law.n_tokens.least, law.n_tokens.most):
        assert np.allclose(shipped.loss(sizes, tokens, 2.0), law.loss(sizes, tokens, 2.0), rtol=1e-3)
    assert (shipped.n_params, shipped.n_tokens) == (law.n_params, law.n_tokens)


def test_the_published_sentences_are_those_of_the_shipped_law(rows: list[Row]) -> None:
    text = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    for budget in {each.budget for row in rows for each in row.packed}:
        assert advise(SizeLaw.load(), budget, page.most_sizes(rows)).sentence in text


def test_sizes_span_sixteen_times_and_three_budgets(rows: list[Row]) -> None:
    sizes = [row.n_params for row in rows]
    assert max(sizes) >= 16 * min(sizes)
    assert len({each.budget for row in rows for each in row.packed}) >= 3
    for row in rows:
        for each in row.packed:
            assert each.n_bytes <= each.budget
            assert each.bits == pytest.approx(8 * each.n_bytes / row.n_params)


def test_advise_says_it_and_where_it_is_from() -> None:
    found = succeed(pgpack("advise", "--budget", "50kB", "--tokens", "500k")).out
    assert "At 50 kB and 500,000 training tokens train" in found
    assert "models drawn again" in found
    assert "from " in found
    told = succeed(pgpack("advise", "--budget", "50kB", "--tokens", "500k", "--json")).json
    assert told["n_params"] * told["bits"] / 8 == pytest.approx(50_000, rel=0.01)
    assert told["bpb_interval"][0] < told["bpb"] < told["bpb_interval"][1]


def test_advise_refuses_what_is_far_from_what_was_measured() -> None:
    refused = pgpack("advise", "--budget", "16MB", "--tokens", "500k")
    assert refused.code == 1
    assert "times beyond the budgets that were measured" in refused.err
    assert "give " in refused.err


def test_advise_refuses_a_file_that_is_no_law(tmp_path: Path) -> None:
    (tmp_path / "law.json").write_text("[]")
    refused = pgpack("advise", "--budget", "50kB", "--tokens", "500k", "--law", tmp_path / "law.json")
    assert refused.code == 1
    assert "is no law of sizes" in refused.err


def told(measuring: Measuring, plan: Plan) -> Row:
    """A row as a law would have it, without training."""
    n = count_parameters(plan.shape.model(measuring.vocab_size))
    packed = []
    for budget in measuring.budgets:
        bits = 8 * budget / n
        bpb = 1 + (n * -np.expm1(-bits / 0.6)) ** -0.2 + plan.n_tokens**-0.2
        packed.append(Packed(budget, budget, bits, float(bpb), 0.0, 1e-3))
    return Row(plan.shape.layers, plan.shape.dim, n, plan.n_tokens, plan.seed, 1.0, tuple(packed))


def test_the_bench_goes_on_where_it_was_stopped(
    shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows at once, none measured twice; page, picture and law at the end."""
    planned: list[Plan] = []
    monkeypatch.setattr(Measuring, "row", lambda self, plan: planned.append(plan) or told(self, plan))
    monkeypatch.setattr(page, "FORMS", {"effective": page.FORMS["effective"]})
    monkeypatch.setattr(page, "REPLICATES", 3)
    monkeypatch.setattr(page, "LEAST_TOKENS", 0)
    given = [
        str(shard_folder),
        "--tokens",
        "512",
        "1024",
        "--budgets",
        "3000",
        "4500",
        "6000",
        "--batch-tokens",
        "256",
    ]
    given += [
        "--shapes",
        "1x16",
        "2x16",
        "4x16",
        "--seeds",
        "3",
        "1",
        "--work",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    given += ["--law", str(tmp_path / "law.json")]
    main(given)
    rows = json.loads((tmp_path / "out.json").read_text())
    assert len(rows) == len(planned) == 12
    assert [row["seed"] for row in rows] == [3] * 6 + [1] * 6
    kept = rows[:4]
    (tmp_path / "out.json").write_text(json.dumps(kept))
    planned.clear()
    main(given)
    assert json.loads((tmp_path / "out.json").read_text()) == rows
    assert len(planned) == 8
    assert (tmp_path / "out.svg").read_bytes().startswith(b"<?xml")
    text = (tmp_path / "out.md").read_text()
    assert "## The law" in text
    assert "## At fixed compute" in text
    law = SizeLaw.load(tmp_path / "law.json")
    assert (law.form, len(law.replicates)) == ("effective", 3)
    assert law.error < 0.01


@pytest.mark.timeout(300)
def test_a_model_is_trained_once_and_packed_to_every_budget(shard_folder: Path, tmp_path: Path) -> None:
    measuring = Measuring(TextFolder.open(shard_folder), 400, tmp_path, 256, (3000, 6000, 60_000_000), 512)
    plan = Plan(Shape(1, 16), 512, 1)
    row = measuring.row(plan)
    assert [each.budget for each in row.packed] == [3000, 6000]  # the third leaves more bits than are of use
    assert row.packed[0].n_bytes < row.packed[1].n_bytes <= 6000
    assert row.packed[0].kl > row.packed[1].kl >= 0
    (checkpoint,) = tmp_path.glob("*.safetensors")
    before = checkpoint.stat().st_mtime_ns
    assert measuring.row(plan) == row
    assert checkpoint.stat().st_mtime_ns == before
