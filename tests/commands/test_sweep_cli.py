"""`pgpack sweep` and `pgpack demo`: what they leave behind, and that they go on where they stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgpack.study.study import Study
from tests.commands.workshop import pgpack, succeed

SPACE = ("--recipe", "role:control=cast; *=rtn(bits={3:5})|{zlib,rans}")
FILES = {"trials.jsonl", "frontier.csv", "frontier.svg", "frontier.png", "report.html", "best.pgpack", "anatomy.json"}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures and no page: they take longer than a small sweep."""
    monkeypatch.setattr("pgpack.bench.sweeping.write_outputs", lambda study, breakdown: ())


@pytest.fixture(scope="module")
def study(model: Path) -> Path:
    out = model.with_name("study")
    succeed(pgpack("sweep", model, *SPACE, "--budget", "10kB", "--out", out, "-q"))
    return out


def test_a_sweep_leaves_journal_table_pictures_page_and_the_best_artifact(model: Path, study: Path) -> None:
    assert {path.name for path in study.iterdir()} >= FILES
    read = Study.load(study)
    assert len(read.trials) == 6
    assert all(trial.ok and trial.kl is not None for trial in read.trials)
    assert read.meta.fp32_bpb is not None
    best = min((t for t in read.trials if (t.n_bytes or 0) <= 10_000), key=lambda t: (t.kl or 0, t.n_bytes))
    assert (study / "best.pgpack").stat().st_size == best.n_bytes
    flags = ("--checkpoint", model, "--budget", "10kB", "--eval", "-q")
    assert "as the manifest records" in succeed(pgpack("verify", study / "best.pgpack", *flags)).out


def test_codecs_on_one_quantizer_share_their_loss(study: Path) -> None:
    losses: dict[str | None, set[float | None]] = {}
    for trial in Study.load(study).trials:
        losses.setdefault(trial.weights_digest, set()).add(trial.bpb)
    assert len(losses) == 3
    assert all(len(each) == 1 for each in losses.values())


@pytest.mark.usefixtures("plain")
def test_a_second_run_measures_only_what_is_new(model: Path, study: Path) -> None:
    before = (study / "trials.jsonl").read_bytes()
    more = ("--recipe", "role:control=cast; *=rtn(bits={3:6})|{zlib,rans}")
    again = succeed(pgpack("sweep", model, *more, "--budget", "10kB", "--out", study, "--json", "-q")).json
    assert (again["n_new"], again["n_skipped"]) == (2, 6)
    assert (study / "trials.jsonl").read_bytes().startswith(before)
    idle = succeed(pgpack("sweep", model, *more, "--budget", "10kB", "--out", study)).err
    assert "8 recipes, 8 of them measured before, 0 to measure" in idle


@pytest.mark.usefixtures("plain")
def test_a_failed_trial_is_a_row_and_is_not_repeated(model: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.txt"
    space.write_text("# two lines\nrole:control=cast; *=rtn|rans\n*=gptq|rans  # lacks Hessians of control tensors\n")
    for n_new in (2, 0):
        done = succeed(
            pgpack("sweep", model, "--space", space, "--strict", "--out", tmp_path / "out", "--json", "-q")
        ).json
        assert (done["n_trials"], done["n_failed"], done["n_new"]) == (2, 1, n_new)


@pytest.mark.usefixtures("plain")
def test_failed_trials_are_measured_again_on_request(model: Path, tmp_path: Path) -> None:
    sweep = ("sweep", model, "--recipe", "role:control=cast; *={rtn,gptq(clip=1)}|rans", "--out", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pgpack.quantizers.gptq.Gptq.quantize", lambda self, source: (_ for _ in ()).throw(MemoryError())
        )
        done = succeed(pgpack(*sweep, "--json", "-q")).json
    assert (done["n_trials"], done["n_failed"]) == (2, 1)
    assert "1 of those measured before failed; --retry-failed" in succeed(pgpack(*sweep)).err
    done = succeed(pgpack(*sweep, "--retry-failed", "--json", "-q")).json
    assert (done["n_trials"], done["n_failed"], done["n_new"]) == (2, 0, 1)
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 3


def test_resume_needs_a_study_and_says_what_it_reuses(model: Path, study: Path, tmp_path: Path) -> None:
    refused = pgpack("sweep", model, *SPACE, "--out", tmp_path, "--resume")
    assert refused.code == 2
    assert "holds no study; leave --resume out to begin one" in refused.err
    before = (study / "trials.jsonl").read_bytes()
    more = ("--recipe", "role:control=cast; *=rtn(bits={3:7})|{zlib,rans}", "--budget", "10kB", "--out", study)
    changed = pgpack("sweep", model, *more, "--resume", "--dry-run")
    assert changed.code == 2
    assert "--extend" in changed.err
    more = (*more, "--extend")
    said = succeed(pgpack("sweep", model, *more, "--resume", "--dry-run")).out
    n_rows = len(before.splitlines())
    assert f"going on with a study of {n_rows} trials" in said
    assert f"10 recipes, {n_rows} of them measured before, {10 - n_rows} to measure" in said
    assert "reused besides: the fp32 loss" in said
    account = succeed(pgpack("sweep", model, *more, "--resume", "--dry-run", "--json")).json
    assert (account["n_measured"], account["n_missing"]) == (n_rows, 10 - n_rows)
    assert (study / "trials.jsonl").read_bytes() == before


@pytest.mark.usefixtures("plain")
def test_a_budget_that_nothing_fits_exits_3_and_leaves_no_best(model: Path, tmp_path: Path) -> None:
    succeed(pgpack("sweep", model, *SPACE, "--out", tmp_path, "-q"))
    assert (tmp_path / "best.pgpack").exists()
    finished = pgpack("sweep", model, *SPACE, "--budget", "100B", "--out", tmp_path, "-q")
    assert finished.code == 3
    assert "too many" in finished.err
    assert not (tmp_path / "best.pgpack").exists()


def test_a_folder_of_another_model_is_refused_before_text_and_model_are_read(
    study: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpack.bench.sweeping.study_card", lambda *_: pytest.fail("the model was read"))
    from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors

    loaded = load_checkpoint(model)
    tensors = {name: 2 * array for name, array in loaded.items()}
    other = model.with_name("other.safetensors")
    save_tensors(other, tensors, loaded.metadata)
    finished = pgpack("sweep", other, *SPACE, "--out", study, "-q")
    assert finished.code == 1
    assert "is a study of checkpoint" in finished.err


@pytest.mark.usefixtures("plain")
def test_ctrl_c_exits_5_and_the_same_command_finishes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgpack.measure import Measurer

    pack, calls = Measurer.pack, []

    def interrupted(self: Measurer, recipe: Any) -> Any:
        calls.append(recipe)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pack(self, recipe)

    monkeypatch.setattr(Measurer, "pack", interrupted)
    stopped = pgpack("sweep", model, *SPACE, "--out", tmp_path, "-q")
    assert stopped.code == 5
    assert "repeat the same command" in stopped.err
    assert len(Study.load(tmp_path).trials) == 2
    done = succeed(pgpack("sweep", model, *SPACE, "--out", tmp_path, "-q", "--json")).json
    assert (done["n_skipped"], done["n_new"]) == (2, 4)


@pytest.mark.usefixtures("plain")
def test_a_preset_is_swept_over_its_own_dial(model: Path, tmp_path: Path) -> None:
    flags = ("--preset", "baseline-int8-zlib", "--passthrough", 100)
    done = succeed(pgpack("sweep", model, *flags, "--out", tmp_path, "--json", "-q")).json
    assert done["n_trials"] == 7
    assert done["n_failed"] == 0
    labels = {trial.label for trial in Study.load(tmp_path).trials}
    assert {"baseline-int8-zlib", "baseline-int8-zlib:4"} <= labels


def test_options_span_every_combination(model: Path, tmp_path: Path) -> None:
    flags = (
        "--bits",
        "4,6",
        "--clip-sigmas",
        "8:12:2",
        "--codec",
        "zlib:9,rans",
        "--prune",
        "0,0.2",
        "--passthrough",
        0,
    )
    printed = succeed(
        pgpack("sweep", model, *flags, "--codebook", "none,kmeans:16", "--out", tmp_path, "--dry-run")
    ).out
    n_recipes = int(printed.split()[0])
    gptq, kmeans = 2 * 3 * 2 * 2, 3 * 2 * 2  # bits do not matter to a codebook, the clip of the embedding does
    assert n_recipes == gptq + kmeans
    limit = succeed(pgpack("sweep", model, "--passthrough", "0,300", "--out", tmp_path, "--dry-run", "--json")).json
    assert any("numel<=300" in recipe for recipe in limit["recipes"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_ends_verified_and_repeats_at_once(tmp_path: Path) -> None:
    first = succeed(pgpack("demo", "--fast", "--out", tmp_path / "demo"))
    assert "pgtrain run --data" in first.err
    assert "verify ok" in first.out
    assert "are on the frontier" in first.out
    again = succeed(pgpack("demo", "--fast", "--out", tmp_path / "demo", "--json", "-q")).json
    assert again["sweep"]["n_new"] == 0
    assert again["verify"]["ok"]
    assert json.dumps(again)
