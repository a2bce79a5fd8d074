"""What goes wrong while a sweep runs, one fault at a time: afterwards nothing is lost, and one sentence was said.

SIGKILL of the driver and torn rows are in test_kill.py, the journal's own faults in tests/verbs/test_storage.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pgpack_cli.screen.output import EXIT_RESUMABLE

from pgpack.bench.options import BenchOptions
from pgpack.bench.same_text import refuse_other_text
from pgpack.study.journal import Journal
from pgpack.study.study import Study
from tests.commands.test_kill import OWN_OF_A_RUN, lines_of
from tests.commands.workshop import pgpack, succeed

ROOT = Path(__file__).resolve().parents[2]
SPACE = ("--recipe", "role:control=cast; *=rtn(bits={3:5})|{zlib,rans}")
LAST_WORD = "stopped; repeat the same command to go on, or look at what is there: pgpack frontier {}\n"

STOPPED = """
import sys, time
from pgpack_cli.screen.stopping import stopping
with stopping(lambda: "stopped; go on later") as stop:
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        if sys.argv[1] == "in the middle of cleaning up":
            print("cleaning up", flush=True)
            time.sleep(60)
        stop.say()
        if sys.argv[1] == "after the sentence":
            print("leaving", flush=True)
            time.sleep(60)
        sys.exit(5)
sys.exit(0)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("moment", "again"), [("once", 0), ("in the middle of cleaning up", 1), ("after the sentence", 1)]
)
def test_asked_once_it_stops_in_order_and_asked_again_at_once(number: int, moment: str, again: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, moment], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(1 + again):
            process.stdout.readline()
            process.send_signal(number)
        assert process.wait(20) == EXIT_RESUMABLE
        assert process.stderr.read() == "stopped; go on later\n"


def test_a_signal_that_the_shell_has_a_job_ignore_stays_ignored() -> None:
    code = "import os, signal; signal.signal(2, signal.SIG_IGN)\n" + STOPPED.replace(
        "time.sleep(60)", "os.kill(0, 2)"
    )
    done = subprocess.run([sys.executable, "-c", code, "once"], cwd=ROOT, check=False, start_new_session=True)
    assert done.returncode == 0


# The commands, with journal rows that take a while to write.
SLOW = """
import sys, time
from pgpack.study import journal
append = journal.Journal.append
def slowly(self, trial):
    append(self, trial)
    time.sleep(0.3)
journal.Journal.append = slowly
from pgpack_cli.pgpack_app import main
main()
"""


def test_ctrl_c_twice_leaves_whole_rows_one_sentence_and_a_study_that_goes_on(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW, "sweep", str(model), *SPACE, "--out", str(tmp_path), "-q"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while len(lines_of(tmp_path)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == EXIT_RESUMABLE
        assert process.stderr.read() == LAST_WORD.format(tmp_path)
    written = lines_of(tmp_path)
    assert len(Study.load(tmp_path).trials) == len(written) >= 2
    done = succeed(pgpack("sweep", model, *SPACE, "--out", tmp_path, "--resume", "--json", "-q")).json
    assert (done["n_trials"], done["n_skipped"]) == (6, len(written))
    assert lines_of(tmp_path)[: len(written)] == written


def test_a_second_writer_is_refused_before_it_evaluates_anything(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpack.loss.bpb.TextEvaluator.evaluate", lambda self, tensors: pytest.fail("evaluated"))
    with Journal(tmp_path / "trials.jsonl"):
        refused = pgpack("sweep", model, *SPACE, "--out", tmp_path, "-q")
    assert refused.code == 1
    assert refused.err == (
        f"error: {tmp_path}/trials.jsonl is being written by another process (pid {os.getpid()}); "
        "wait for it to end or give another directory\n"
    )


def test_another_text_is_refused_with_both_digests_and_the_flags_to_repeat(model: Path, tmp_path: Path) -> None:
    sweep = ("sweep", model, "--recipe", "role:control=cast; *=rtn|rans", "--out", tmp_path, "-q")
    succeed(pgpack(*sweep))
    before = (tmp_path / "trials.jsonl").read_bytes()
    refused = pgpack(*sweep, "--max-tokens", 64)
    assert refused.code == 1
    assert (
        f"is a study of evaluator {Study.load(tmp_path).meta.evaluator_digest[:8]}, but this run has" in refused.err
    )
    assert (
        "it began with no such flag, this run has --max-tokens 64; repeat the flags that it began with" in refused.err
    )
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_another_text_is_refused_before_anything_is_loaded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [tmp_path / name for name in ("one.txt", "same.txt", "other.txt", "same.jsonl")]
    for path, word in zip(texts, ("rain", "rain", "snow", "rain"), strict=True):
        path.write_text("\n\0\n".join(f"{word} and wind and {word} number {n}, again." for n in range(200)))
    out = tmp_path / "study"
    sweep = ("sweep", model, "--recipe", "role:control=cast; *=rtn|rans", "--max-tokens", 256, "--out", out, "-q")
    succeed(pgpack(*sweep, "--text", texts[0]))
    succeed(pgpack(*sweep, "--text", texts[1]))
    before = (out / "trials.jsonl").read_bytes()
    options = BenchOptions(text=(str(texts[3]),))
    refuse_other_text(out, model, options)  # another kind of file: the evaluator tells
    refuse_other_text(tmp_path / "new", model, options)
    monkeypatch.setattr("pgpack.bench.benches.Benches.__init__", lambda *given: pytest.fail("loaded"))
    for given, named in (("--text", texts[2]), ("--val", texts[2])):
        refused = pgpack(*sweep, given, named)
        assert refused.code == 1
        assert f"{out} is a study on {texts[1]}, and this run has {texts[2]}, which is another text" in refused.err
        assert "give another folder as -o" in refused.err
    assert (out / "trials.jsonl").read_bytes() == before


def own_mount(size_kb: int, at: Path, script: str) -> list[str]:
    """A shell with a file system of its own at `at`, unmounted when it ends."""
    mounted = f"mount -t tmpfs -o size={size_kb}k tmpfs {at} && {script}"
    return [shutil.which("unshare") or "", "--user", "--map-root-user", "--mount", "sh", "-c", mounted]


def measured(lines: list[str]) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in lines]
    return [{name: value for name, value in row.items() if name not in OWN_OF_A_RUN} for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("size_kb", [4, 12, 100])  # in the first row, in a later one, in what follows the rows
def test_a_sweep_on_a_disk_that_fills_up_loses_no_row_and_goes_on_once_there_is_room(
    model: Path, tmp_path: Path, size_kb: int
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    if not shutil.which("unshare") or subprocess.run(own_mount(64, disk, "true"), check=False).returncode:
        pytest.skip("this machine mounts nothing for us")
    study = disk / "study"
    sweep = f'"$0" -m pgpack_cli.pgpack_app sweep {model} --recipe "$1" --out {study} -q'
    script = (
        f"{{ {sweep} 2>{kept}/said; echo $? >{kept}/code; cp {study}/trials.jsonl {kept}/before 2>{kept}/none; "
        f"mount -o remount,size=20m {disk} && {sweep} && cp {study}/* {kept}/; }}"
    )
    command = [*own_mount(size_kb, disk, script), sys.executable, SPACE[1]]
    subprocess.run(command, cwd=ROOT, check=True)
    said = (kept / "said").read_text()
    assert (kept / "code").read_text() == "1\n"
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "No space left on device" in said
    before = (kept / "before").read_bytes().split(b"\n")[:-1] if (kept / "before").exists() else []
    after = (kept / "trials.jsonl").read_bytes().split(b"\n")[:-1]
    assert after[: len(before)] == before
    plain = succeed(pgpack("sweep", model, *SPACE, "--out", tmp_path / "plain", "--json", "-q")).json
    assert plain["n_trials"] == len(after) == 6
    assert measured([line.decode() for line in after]) == measured(
        (tmp_path / "plain" / "trials.jsonl").read_text().splitlines()
    )
    for name in ("best.pgpack", "frontier.csv", "anatomy.json"):
        assert (kept / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
