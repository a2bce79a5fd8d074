"""Every module under experiments/ is imported, and what no study runs is run here on a model of a few thousand
parameters: the long bench, NNCodec's driver, the Gaussian source, what fills the README."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.rate_distortion import bench, curves, nncodec_peer, summary
from experiments.rate_distortion.gap import Gap, rate_bound
from experiments.rate_distortion.tried import gaussian_source
from experiments.replication.pages import EXPERIMENTS, ROOT
from experiments.replication.plan import Run
from experiments.replication.training import train_runs
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.train_config import TrainConfig

MODULES = sorted(path.relative_to(ROOT).with_suffix("") for path in EXPERIMENTS.rglob("*.py"))
NNCODEC = """
import numpy as np

def compress(tensors, bitstream_path, return_bitstream, verbose, qp, **settings):
    np.savez(bitstream_path + ".npz", **{name: np.round(array) for name, array in tensors.items()})
    with open(bitstream_path + ".npz", "rb") as file:
        return file.read()

def decompress(stream):
    import io
    return dict(np.load(io.BytesIO(stream)))
"""


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_is_imported(module: Path) -> None:
    importlib.import_module(".".join(module.parts))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, text_folder: TextFolder, tiny: GPTConfig) -> Path:
    training = TrainConfig(steps=4, batch_tokens=256, warmup_steps=0, warmdown_steps=2)
    (path,) = train_runs([Run("tiny", 1, tiny, training)], text_folder, tmp_path_factory.mktemp("model"), 1)
    return path


@pytest.mark.timeout(300)  # numba compiles the trellis on a busy machine
def test_the_long_bench_runs(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its JSON holds the curves, its page their tables; what is measured is not measured again."""
    monkeypatch.setattr(curves, "TARGETS", curves.TARGETS[:3])
    monkeypatch.setattr(bench, "GAP_TARGETS", (0,))
    monkeypatch.setattr(curves, "SMALL", f"{curves.SMALL}; @calib=tokens(count=512)")
    given = [str(checkpoint), "--out", str(tmp_path / "rd"), "--work", str(tmp_path), "--groups", "engine"]
    bench.main([*given, "--max-tokens", "512"])
    (document,) = json.loads((tmp_path / "rd.json").read_text(encoding="utf-8"))
    assert [curve["name"] for curve in document["curves"]] == [each.name for each in curves.ENGINES]
    assert len(document["curves"][0]["rows"]) == 3
    assert "Above the Gaussian bound" in (tmp_path / "rd.md").read_text(encoding="utf-8")
    before = (tmp_path / checkpoint.stem / "rows.jsonl").read_bytes()
    monkeypatch.setattr(bench, "gaps", lambda *given: iter(()))  # which no file keeps
    monkeypatch.setattr(bench, "total_gap", lambda *given: Gap("", 1, 0.0, 0.0, 0.0))
    bench.main([*given, "--max-tokens", "512"])
    assert (tmp_path / checkpoint.stem / "rows.jsonl").read_bytes() == before


def test_nncodec_is_run_in_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver on a stand-in for NNCodec that rounds."""
    (tmp_path / "nncodec").mkdir()
    (tmp_path / "nncodec" / "__init__.py").write_text("import torchvision, cv2.videoio\n", encoding="utf-8")
    (tmp_path / "nncodec" / "nnc.py").write_text(NNCODEC, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tensors = {"blocks.0.mlp.fc.weight": np.full((4, 8), 2.25, np.float32), "norm": np.ones(3, np.float32)}
    settings = nncodec_peer.settings_of(-20, 0.0, {name: array.shape for name, array in tensors.items()})
    assert settings["qp_per_tensor"] == {"blocks.0.mlp.fc.weight": -20, "norm": nncodec_peer.FINE_QP}
    coded = nncodec_peer.run_nncodec(sys.executable, tensors, settings)
    assert coded.n_bytes > 0
    np.testing.assert_array_equal(coded.tensors["blocks.0.mlp.fc.weight"], np.full((4, 8), 2.0))


def test_a_trellis_is_nearer_to_the_bound_than_a_scalar_and_never_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_source, "SAMPLES", 4000)
    scalar, trellis = (gaussian_source.gap(4.0, states, True, False)[1] for states in (1, 8))
    assert 0.0 < trellis < scalar - 0.1
    assert gaussian_source.gap(4.0, 8, True, True)[1] > trellis


def test_the_bound_of_one_gaussian_is_half_the_log_of_its_power_over_the_distortion() -> None:
    weight = np.full((1, 6), 2.0)  # power 4, six weights, distortion 1/2 each
    found = rate_bound(weight, np.eye(6), np.ones(1), 0.5 * 6 * 0.5)
    assert found == pytest.approx(6 * 0.5 * np.log2(4 / 0.5))


def test_the_summary_fills_the_readme_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "rd.json", tmp_path / "results")
    monkeypatch.setattr(summary, "ROOT", tmp_path)
    summary.main()
    assert (tmp_path / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
