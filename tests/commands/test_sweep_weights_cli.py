"""`pgpack sweep` without text: sizes against the error of the weights, resumable, and never called a loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pgpack.bench.sweeping import study_of
from pgpack.bench.workpiece import Workpiece
from pgpack.calibration.calibration import from_arrays, save_calibration
from pgpack.calibration.distortion import relative_error
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint, save_tensors
from pgpack.errors import StudyError
from pgpack.recipe.spaces import default_space
from pgpack.study.frontier import pareto
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from pgpack.sweep.space import Space, without_hessians
from pgpack.unpack import unpack
from tests.commands.workshop import pgpack, succeed

SHAPES = {"enc.w1": (24, 16), "enc.w2": (16, 24), "scale": (16,)}
SPACE = ("--recipe", "ndim<=1=cast|raw; *=rtn(bits={3,5,8})|rans")


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    """A checkpoint of no known dialect, without text."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype("f4") for name, shape in SHAPES.items()}
    save_tensors(tmp_path / "model.safetensors", tensors, {})
    return tmp_path / "model.safetensors"


def test_sizes_and_errors_are_those_of_real_artifacts_and_the_note_says_what_is_missing(
    unknown: Path, tmp_path: Path
) -> None:
    swept = succeed(pgpack("sweep", unknown, *SPACE, "--out", tmp_path / "s", "--json", "--no-cache"))
    assert "no loss is measured" in swept.err
    assert "--val GLOB" in swept.err
    assert (swept.json["measured"], swept.json["n_points"], swept.json["n_new"]) == ("weights", 3, 3)
    errors = [point["relative_error"] for point in swept.json["frontier"]]
    assert errors == sorted(errors, reverse=True)
    best = tmp_path / "s" / "best.pgpack"
    records = unpack(best.read_bytes()).records
    checkpoint = from_tensors(dict(_tensors(unknown)))
    assert best.stat().st_size == swept.json["best"]["n_bytes"]
    assert relative_error(checkpoint, records) == pytest.approx(swept.json["best"]["relative_error"])
    table = (tmp_path / "s" / "distortion.csv").read_text().splitlines()
    assert table[0] == "n_bytes,relative_error,expected_loss,label,recipe"
    assert len(table) == 4
    page = (tmp_path / "s" / "report.html").read_text()
    assert "no text is known, so no loss was measured" in page
    assert '"order":["error"]' in page  # the same chart as of a study with text, for readers with scripts
    assert "<noscript>\n<figure" in page  # and for those without
    assert "better in error of the weights" in page
    assert "in bits per byte" not in page
    assert (
        "error of the weights</text>" in page or "error of the weights" in (tmp_path / "s/frontier.svg").read_text()
    )
    assert {f"{name}{suffix}" for name in ("frontier", "kinds") for suffix in (".svg", ".png")} <= {
        Path(path).name for path in swept.json["files"]
    }


def _tensors(path: Path):
    from pgpack.checkpoint.checkpoint import load_checkpoint

    return load_checkpoint(path).items()


def test_hessians_rank_by_the_loss_they_predict(unknown: Path, tmp_path: Path) -> None:
    statistics = {f"{name}.hessian": np.eye(shape[1], dtype="f4") for name, shape in SHAPES.items() if len(shape) > 1}
    save_calibration(tmp_path / "h.safetensors", from_arrays(statistics, "tokens", 10))
    flags = ("--recipe", "ndim<=1=cast|raw; *=gptq(bits={4,8})|rans", "--calibration", tmp_path / "h.safetensors")
    found = succeed(pgpack("sweep", unknown, *flags, "--out", tmp_path / "s", "--json", "-q", "--no-cache")).json
    assert found["n_failed"] == 0
    losses = [point["expected_loss"] for point in found["frontier"]]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] > 0


def test_a_second_run_measures_only_what_is_new_and_a_torn_line_is_measured_again(
    unknown: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    succeed(pgpack("sweep", unknown, *SPACE, "--out", out, "-q", "--no-cache"))
    file = out / "trials.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    again = succeed(pgpack("sweep", unknown, *SPACE, "--resume", "--out", out, "--json", "-q", "--no-cache")).json
    assert (again["n_points"], again["n_new"]) == (3, 1)
    assert len(Study.load(out).trials) == 3
    file.write_text("{}\n")
    with pytest.raises(StudyError, match=r"line 1: .* the same `pgpack sweep` puts it aside and measures it again"):
        Study.load(out)


def test_a_budget_that_nothing_fits_and_recipes_that_need_hessians_are_said(unknown: Path, tmp_path: Path) -> None:
    refused = pgpack("sweep", unknown, *SPACE, "--budget", 100, "--out", tmp_path / "a", "-q", "--no-cache")
    assert (refused.code, "the smallest artifact takes" in refused.err) == (3, True)
    flags = ("--recipe", "ndim<=1=cast|raw; *=gptq(bits=4)|rans", "--out", tmp_path / "b", "-q", "--no-cache")
    strict = pgpack("sweep", unknown, *flags, "--strict")
    assert (strict.code, "wants a Hessian" in strict.err) == (2, True)


def test_a_library_call_is_the_command_and_goes_on_with_its_study(unknown: Path, tmp_path: Path) -> None:
    succeed(pgpack("sweep", unknown, *SPACE, "--out", tmp_path / "s", "-q", "--no-cache"))
    before = Study.load(tmp_path / "s").trials
    bench = Workpiece(unknown, load_checkpoint(unknown))
    study = study_of(bench, tmp_path / "s", Space(template=SPACE[1], text=SPACE[1]))
    assert study.trials == before
    assert [trial.relative_error for trial in study.frontier().points] == [each.relative_error for each in before]


def test_the_default_space_without_hessians_needs_none_and_keeps_the_steps() -> None:
    tensors = {name: (512, 512) if len(shape) > 1 else shape for name, shape in SHAPES.items()}
    whole = default_space(tensors)
    found = without_hessians(whole)
    assert 5 < len(found) < len(whole)
    assert not any(rule.policy.needs_hessian for each in found for rule in each.recipe.rules)
    assert any("sdclip" in str(each.recipe) for each in found)


def test_the_frontier_is_of_bytes_and_distortion() -> None:
    def point(n_bytes, error, loss=None, status="ok"):
        digests = dict.fromkeys(("recipe_digest", "checkpoint_digest", "evaluator_digest", "created"), "")
        figures = {"n_bytes": n_bytes, "relative_error": error, "expected_loss": loss}
        return Trial(key=str(n_bytes), recipe="r", status=status, **digests, **figures)

    a, b, c = point(10, 0.5), point(20, 0.6), point(30, 0.1)
    assert pareto([c, b, a, point(None, None, status="failed")]) == [a, c]
    assert pareto([point(10, 0.1, 2.0), point(20, 0.5, 1.0)])[-1].n_bytes == 20
    assert pareto([]) == []


def test_the_default_space_and_a_budget_need_no_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tensors = {"emb.weight": (256, 32), "up.weight": (96, 32), "down.weight": (32, 96), "pos": (1, 40, 32)}
    arrays = {name: (0.1 * rng.standard_normal(shape)).astype("f4") for name, shape in tensors.items()}
    arrays["mask"] = np.triu(np.full((40, 40), -np.inf, "f4"), 1)
    save_tensors(tmp_path / "m.safetensors", arrays, {})
    bench = Workpiece(tmp_path / "m.safetensors", load_checkpoint(tmp_path / "m.safetensors"))
    study = study_of(bench, tmp_path / "s", budget=6_000)
    assert [trial.error for trial in study.trials if not trial.ok] == []
    assert sum("tcq" in trial.recipe for trial in study.trials) == 9
    best = study.frontier(budget=6_000).best
    assert best is not None
    assert best.label == "tuned to a budget of 6000"
    assert 5_900 < best.n_bytes <= 6_000
    rounding = [t for t in study.trials if "tcq" not in t.recipe and t.n_bytes <= best.n_bytes]
    assert all(trial.relative_error > best.relative_error for trial in rounding)
    assert "tcq" in unpack_recipe(tmp_path / "s" / "best.pgpack.json")


def unpack_recipe(path: Path) -> str:
    import json

    return str(json.loads(path.read_text())["recipe"])
