"""`pgpack sweep --scheduler` on a real cluster: the study of one process, though workers see none of the files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from pgpack_cli.screen.output import EXIT_RESUMABLE

from tests.commands.test_sweep_workers import OUTPUTS, SPACE, facts
from tests.commands.workshop import pgpack, succeed
from tests.local_cluster import LocalCluster, free_port

HIDING = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


@pytest.fixture(scope="module")
def serial(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study that one process makes."""
    folder = tmp_path_factory.mktemp("serial")
    succeed(pgpack("sweep", model, *SPACE, "--jobs", 1, "--out", folder, "-q"))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_shared", [True, False])
def test_the_study_of_a_cluster_is_that_of_one_process(
    model: Path, serial: Path, tmp_path: Path, is_shared: bool
) -> None:
    study = tmp_path / "study"
    hidden = [f"mount -t tmpfs tmpfs {folder}" for folder in (model.parent, tmp_path / "study")]
    within = () if is_shared else (*HIDING, " && ".join([*hidden, 'exec "$0" "$@"']))
    study.mkdir()
    if not is_shared and (not shutil.which("unshare") or subprocess.run([*within, "true"], check=False).returncode):
        pytest.skip("this machine mounts nothing for us")
    with LocalCluster(tmp_path, n_workers=0) as cluster:
        for _ in range(2):
            cluster.start_worker(within=within)
        cluster.wait_until_scheduler_listens()
        flags = ("--scheduler", cluster.address, "--cache", tmp_path / "cache", "--out", study)
        done = succeed(pgpack("sweep", model, *SPACE, *flags))
    assert ("files to the workers, which do not see them" in done.err) != is_shared
    assert facts(study) == facts(serial)
    for name in OUTPUTS:
        assert (study / name).read_bytes() == (serial / name).read_bytes(), name


def test_a_scheduler_that_is_not_there_is_one_sentence_and_resumable(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpack.sweep.executors.cluster.PATIENCE_S", 1.0)
    address = f"tcp://127.0.0.1:{free_port()}"
    refused = pgpack("sweep", model, *SPACE, "--scheduler", address, "--out", tmp_path / "study", "-q")
    assert refused.code == EXIT_RESUMABLE
    assert refused.err.count("\n") == 1
    assert refused.err.startswith(f"error: the scheduler at {address} did not answer for 1 s")


def test_jobs_and_scheduler_are_two_answers_to_one_question(model: Path, tmp_path: Path) -> None:
    refused = pgpack("sweep", model, "--jobs", 2, "--scheduler", "tcp://a:1", "--out", tmp_path / "study")
    assert refused.code == 2
    assert "--jobs is for this machine" in refused.err
