"""`pgpack sweep A B C`: seeds of one training under the same recipes, in one study."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from pgpack.bench.benches import Benches
from pgpack.bench.blueprint import blueprint_of
from pgpack.bench.options import BenchOptions
from pgpack.bench.workpiece import Workpiece
from pgpack.cache.options import CacheOptions
from pgpack.cache.store import Cache
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.study.seeds import across
from pgpack.study.study import Study
from tests.commands.workshop import pgpack, succeed

SPACE = ("--recipe", "role:control=cast; *={rtn,gptq}(bits={3:5})|rans")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures and no page: they take longer than a small sweep."""
    monkeypatch.setattr("pgpack.bench.sweeping.write_outputs", lambda study, breakdown: ())


@pytest.fixture(scope="module")
def trained(model: Path) -> list[Path]:
    """The model and two like it, in its folder because they name the same text."""
    found = [model]
    with safe_open(model, "np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for seed in (1, 2):
        noise = np.random.default_rng(seed)
        path = model.with_name(f"seed{seed}.safetensors")
        changed = {n: (t * (1 + 0.3 * noise.standard_normal(t.shape))).astype(t.dtype) for n, t in tensors.items()}
        save_file(changed, path, metadata)
        found.append(path)
    return found


@pytest.fixture(scope="module")
def study(trained: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("seeds") / "study"
    succeed(pgpack("sweep", *trained, *SPACE, "--jobs", 1, "--out", out, "-q"))
    return out


def test_every_recipe_is_measured_on_every_checkpoint(study: Path, trained: list[Path]) -> None:
    read = Study.load(study)
    assert len(read.trials) == 6 * len(trained)
    assert [Path(each.checkpoint).name for each in read.meta.checkpoints] == [path.name for path in trained]
    assert len({each.fp32_bpb for each in read.meta.checkpoints}) == 3
    assert len(list(study.glob("calibration-*.safetensors"))) == 3
    assert len(across(read.meta, read.trials)) == 6
    with (study / "seeds.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["n_bytes_most"]) for row in table] == [
        max(t.n_bytes or 0 for t in read.trials if t.recipe == row["recipe"]) for row in table
    ]
    assert len(table) == 6
    front = succeed(pgpack("frontier", study, "--json")).json["frontier"]
    assert {row["n_bytes"] for row in front} <= {float(row["n_bytes_most"]) for row in table}


@pytest.mark.usefixtures("plain")
def test_the_artifacts_of_the_best_recipe_fit_on_every_checkpoint(trained: list[Path], study: Path) -> None:
    points = across(Study.load(study).meta, Study.load(study).trials)
    spans = sorted((each.n_bytes.least, each.n_bytes.most) for each in points if each.n_bytes is not None)
    budget = next(int(most) - 1 for least, most in spans if least < most - 1 and most > spans[2][1])
    done = succeed(
        pgpack("sweep", *trained, *SPACE, "--jobs", 1, "--budget", f"{budget}B", "--out", study, "--json", "-q")
    ).json
    assert done["n_new"] == 0
    artifacts = [study / f"best-{path.stem}.pgpack" for path in trained]
    assert {str(path) for path in artifacts} == set(done["files"])
    sizes = [path.stat().st_size for path in artifacts]
    assert max(sizes) == done["best"]["n_bytes"] <= budget
    assert done["best"]["spread"]["n_bytes"]["least"] == min(sizes)
    assert any(each.n_bytes.least <= budget < each.n_bytes.most for each in points if each.n_bytes), "a lucky seed"
    for path, artifact in zip(trained, artifacts, strict=True):
        flags = ("--checkpoint", path, "--budget", f"{budget}B", "--eval", "-q")
        assert "as the manifest records" in succeed(pgpack("verify", artifact, *flags)).out


@pytest.mark.usefixtures("plain")
def test_a_seed_may_join_later_and_workers_measure_what_one_process_does(
    trained: list[Path], study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    succeed(pgpack("sweep", trained[0], *SPACE, "--jobs", 1, "--out", out, "-q"))
    late = pgpack("sweep", *trained, *SPACE, "--jobs", 2, "--out", out)
    assert "6 recipes on 3 checkpoints, 6 of them measured before, 12 to measure" in succeed(late).err
    assert "over 3 checkpoints: bytes are those of the largest artifact" in late.out
    facts = [
        {(t.checkpoint_digest, t.recipe): (t.key, t.n_bytes, t.bpb, t.kl) for t in Study.load(folder).trials}
        for folder in (study, out)
    ]
    assert facts[0] == facts[1]


@pytest.mark.usefixtures("plain")
def test_a_run_of_some_seeds_leaves_no_artifact_of_an_earlier_best(trained: list[Path], tmp_path: Path) -> None:
    """Those of the others stayed as they were, of a recipe that was best under another budget, beside new ones."""
    out = tmp_path / "study"
    succeed(pgpack("sweep", trained[0], *SPACE, "--jobs", 1, "--out", out, "-q"))
    assert (out / "best.pgpack").is_file()
    succeed(pgpack("sweep", *trained, *SPACE, "--jobs", 1, "--budget", "6kB", "--out", out, "-q"))
    assert _best(out) == {
        f"best-{path.stem}.pgpack": _best(out)[f"best-{trained[0].stem}.pgpack"] for path in trained
    }
    kept = trained[2].with_name(f"best-{trained[2].stem}.pgpack").name
    before = (out / kept).read_bytes()
    some = succeed(pgpack("sweep", *trained[:2], *SPACE, "--jobs", 1, "--budget", "6kB", "--out", out))
    assert "is of the study too and not given: a new recipe counts once" in some.err
    assert (out / kept).read_bytes() == before  # of the same recipe still
    (out / "best-of-mine.pgpack").write_bytes(b"mine")
    succeed(pgpack("sweep", *trained[:2], *SPACE, "--jobs", 1, "--out", out, "-q"))
    found = _best(out)
    assert found.keys() == {f"best-{path.stem}.pgpack" for path in trained[:2]}
    assert len({*found.values()}) == 1
    assert (out / "best-of-mine.pgpack").exists()
    succeed(pgpack("sweep", trained[0], *SPACE, "--jobs", 1, "--out", out, "-q"))
    assert _best(out) == found


def _best(out: Path) -> dict[str, str]:
    """Name of a best artifact in a study -> the digest of its recipe."""
    return {path.name[:-5]: json.loads(path.read_text())["recipe_digest"] for path in out.glob("best*.pgpack.json")}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_default_space_fills_the_budget_of_the_largest_seed(trained: list[Path], tmp_path: Path) -> None:
    flags = ("--jobs", 1, "--search", "ladder", "--trials", 2, "--budget", "12kB")
    done = succeed(pgpack("sweep", *trained, *flags, "--out", tmp_path / "study", "--json", "-q")).json
    assert max(row["n_bytes"] for row in done["frontier"] if "tuned" in row["label"]) <= 12_000
    assert done["best"]["spread"]["n_bytes"]["most"] == done["best"]["n_bytes"] <= 12_000


@pytest.mark.usefixtures("plain")
def test_checkpoints_that_do_not_compare_are_refused(trained: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin.safetensors"
    shutil.copy(trained[0], twin)
    other = tmp_path / "other.safetensors"
    save_file({"w": np.zeros((8, 8), np.float32)}, other)
    cases = [
        ((trained[0], twin), "the same weights are given twice"),
        ((trained[0], other), "is no seed of"),
        ((trained[0], tmp_path / "none.pt", "--dry-run"), "does not exist"),
        ((*trained, "--calibration", tmp_path / "h.safetensors"), "is of one checkpoint, and 3 are given"),
    ]
    for given, complaint in cases:
        refused = pgpack("sweep", *given, *SPACE, "--out", tmp_path / "study")
        assert refused.code in (1, 2)
        assert complaint in refused.err, refused.err
    assert not (tmp_path / "study").exists()


def test_every_checkpoint_is_opened_alike_where_its_files_were_sent(trained: list[Path], tmp_path: Path) -> None:
    out, sent = tmp_path / "study", tmp_path / "sent"
    out.mkdir()
    loaded = [(path, load_checkpoint(path)) for path in trained]
    benches = Benches([Workpiece(path, found, BenchOptions(), keep_in=out, cache=Cache()) for path, found in loaded])
    blueprint = blueprint_of(benches, out, CacheOptions())
    for name, path in blueprint.files.items():
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, sent / name)
    moved = blueprint.moved(sent)
    for setting in (*benches.settings(), *benches.settings(1 / 4)):
        here, there = benches(setting), moved(setting)
        assert there.checkpoint.digest == here.checkpoint.digest
        assert here.evaluator is not None
        assert there.evaluator is not None
        assert there.evaluator.digest == here.evaluator.digest
    assert len({benches(setting).checkpoint.digest for setting in benches.settings()}) == len(trained)
