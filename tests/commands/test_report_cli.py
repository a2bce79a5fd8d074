"""`pgpack report`: the page as a file, and the page served while a sweep goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pgpack.study.journal import Journal
from tests.commands.workshop import pgpack, succeed
from tests.synthetic_study import synthetic_trials, write_study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_study(tmp_path / "study")
    return tmp_path / "study"


def test_the_page_is_written_into_the_study_or_where_it_is_asked_for(study: Path, tmp_path: Path) -> None:
    assert succeed(pgpack("report", study)).out == (
        f"{study}/report.html  64 trials, {(study / 'report.html').stat().st_size:,} B\n"
    )
    elsewhere = tmp_path / "page.html"
    said = succeed(pgpack("report", study, "-o", elsewhere, "--json")).json
    assert said == {"report": str(elsewhere), "n_bytes": elsewhere.stat().st_size, "n_trials": 64}
    assert elsewhere.read_bytes() == (study / "report.html").read_bytes()
    assert "connect-src" not in elsewhere.read_text(encoding="utf-8")
    again = pgpack("report", study, "-o", elsewhere)
    assert again.code == 2
    assert "--force to replace it" in again.err


def test_what_is_no_study_is_refused_and_so_is_a_file_beside_watch(study: Path, tmp_path: Path) -> None:
    for flags in ((), ("--watch",)):
        refused = pgpack("report", tmp_path / "nowhere", *flags)
        assert refused.code == 1
        assert "holds no study.json" in refused.err
    refused = pgpack("report", study, "--watch", "-o", tmp_path / "page.html")
    assert refused.code == 2
    assert "leave out --watch or -o" in refused.err


def test_watching_serves_the_page_tells_of_new_trials_and_ends_with_ctrl_c(study: Path) -> None:
    command = [sys.executable, "-m", "pgpack_cli.pgpack_app", "report", str(study), "--watch"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url, _, hint = process.stdout.readline().partition("  ")
        assert hint == "(Ctrl-C ends it)\n"
        assert process.stderr.readline().startswith("64 trials, 2 failed, 11 on the frontier; best ")
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert "connect-src &#x27;self" in answer.read().decode().replace("'", "&#x27;")
        with Journal(study / "trials.jsonl") as journal:
            journal.append(synthetic_trials(seed=3)[0])
        assert process.stderr.readline().startswith("65 trials, 2 failed, ")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read().strip() == ""


def test_a_port_that_is_taken_is_said(study: Path) -> None:
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        refused = pgpack("report", study, "--watch", "--port", holder.getsockname()[1])
    assert refused.code == 1
    assert "cannot be had (Address already in use); give another --port" in refused.err
