"""Laws of the study directory: a crash costs at most the row in flight; nothing is skipped in silence."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from pgpack.errors import StudyError
from pgpack.study import journal as journal_module
from pgpack.study.card import StudyMeta
from pgpack.study.files import replace_study_file
from pgpack.study.journal import Journal, Lines
from pgpack.study.study import Study, recording
from pgpack.study.trial import SCHEMA_VERSION, Trial

ROOT = Path(__file__).resolve().parents[2]
META = StudyMeta(
    checkpoint="model.safetensors",
    checkpoint_digest="c" * 64,
    evaluator_digest="e" * 64,
    pgpack_version="0.1.0",
    created="2026-01-02T03:04:05+00:00",
    budget=16_000_000,
    space="*=rtn(bits={4,5,6})|raw",
    fp32_bpb=1.2,
)


def a_trial(number: int, **changes: object) -> Trial:
    values = {
        "key": f"key{number}",
        "recipe": f"*=rtn(bits={number})|raw",
        "recipe_digest": f"digest{number}",
        "status": "ok",
        "checkpoint_digest": META.checkpoint_digest,
        "evaluator_digest": META.evaluator_digest,
        "created": META.created,
        "n_bytes": 1000 * number,
        "bpb": 1.2 + 1 / number,
        **changes,
    }
    return Trial(**values)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trials.jsonl"


def test_what_is_appended_is_read_in_order(path: Path) -> None:
    rows = [a_trial(n) for n in (3, 1, 2)]
    with Journal(path) as journal:
        for row in rows:
            journal.append(row)
    assert Journal(path).read() == tuple(rows)
    assert path.read_bytes() == b"".join(row.to_json().encode() + b"\n" for row in rows)


def test_a_journal_without_a_file_is_empty(path: Path) -> None:
    assert Journal(path).read() == ()


def test_every_torn_last_line_is_dropped_and_cut_off_by_the_next_append(path: Path) -> None:
    whole = a_trial(1).to_json().encode() + b"\n"
    torn = a_trial(2, error="ä" * 5).to_json().encode()
    after = a_trial(3)
    for length in range(len(torn) + 1):
        path.write_bytes(whole + torn[:length])
        assert Journal(path).read() == (a_trial(1),)
        with Journal(path) as journal:
            journal.append(after)
        assert path.read_bytes() == whole + after.to_json().encode() + b"\n"


def test_a_torn_line_longer_than_one_block_is_cut_off(path: Path) -> None:
    whole = a_trial(1).to_json().encode() + b"\n"
    path.write_bytes(whole + b"x" * 200_000)
    with Journal(path) as journal:
        journal.append(a_trial(2))
    assert Journal(path).read() == (a_trial(1), a_trial(2))


@pytest.mark.parametrize("damage", [b"{}", b"", b"\xff\xfe", b'{"v": 1, "key"', b"[1]"])
def test_a_corrupt_complete_line_is_an_error_with_file_and_line(path: Path, damage: bytes) -> None:
    good = a_trial(1).to_json().encode()
    path.write_bytes(b"\n".join([good, damage, good]) + b"\n")
    with pytest.raises(StudyError, match=r"trials\.jsonl line 2: "):
        Journal(path).read()


def test_the_length_of_a_torn_line_is_known(path: Path) -> None:
    assert Journal(path).scan().torn_bytes == 0
    whole = a_trial(1).to_json().encode() + b"\n"
    for torn in (b"", b"x", b"y" * 100_000):
        path.write_bytes(whole + torn)
        assert Journal(path).scan().torn_bytes == len(torn)


ROWS = tuple(a_trial(n, label=f"trial {n}", bpb=n + 0.5) for n in (1, 2, 3))
WHOLE = b"".join(row.to_json().encode() + b"\n" for row in ROWS)
N_LINE = len(WHOLE) // len(ROWS)  # all are equally long


def gone_on_with(folder: Path) -> tuple[Trial, ...]:
    """A run that measures what a study lacks of `ROWS`; the study's trials."""
    with recording(folder, META) as (study, journal):
        for row in ROWS:
            if row.key not in study.finished_keys:
                journal.append(row)
    return Study.load(folder).merged.trials


def others_of(byte: int) -> set[int]:
    return {byte ^ 1, ord("7"), ord("\n"), 0xFF} - {byte}


def test_no_change_of_one_byte_anywhere_is_read_as_data(path: Path) -> None:
    path.write_bytes(WHOLE)
    journal = Journal(path)
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(WHOLE):
            for other in others_of(byte):
                os.pwrite(file.fileno(), bytes([other]), position)
                found = journal.scan()
                at_ends = position % N_LINE == N_LINE - 1  # the row behind is a part of this line too
                assert set(found.trials) < set(ROWS)
                assert len(found.trials) == (1 if at_ends and position < len(WHOLE) - 1 else 2)
                assert bool(found.damaged) != bool(found.torn_bytes)
            os.pwrite(file.fileno(), bytes([byte]), position)


@pytest.mark.parametrize("position", [0, 8, N_LINE - 300, N_LINE - 4, N_LINE - 1, 2 * N_LINE - 1, -20, -1])
def test_a_study_with_a_changed_byte_is_mended_by_going_on_with_it(position: int, tmp_path: Path) -> None:
    path, aside = tmp_path / "trials.jsonl", tmp_path / "trials.damaged"
    at = position % len(WHOLE)
    for other in others_of(WHOLE[at]):
        path.write_bytes(WHOLE[:at] + bytes([other]) + WHOLE[at + 1 :])
        assert gone_on_with(tmp_path) == ROWS
        assert sorted(path.read_bytes().splitlines()) == WHOLE.splitlines()
        assert aside.exists() == (at < len(WHOLE) - 1)
        aside.unlink(missing_ok=True)


def test_damaged_lines_are_kept_as_they_were_once_though_the_run_is_killed_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = WHOLE.splitlines(keepends=True)
    changed = second.replace(b'"n_bytes": 2000', b'"n_bytes": 2001')
    path.write_bytes(first + changed + b"\xff\n" + third + b"torn")
    before = path.read_bytes()

    def killed(target: Path, data: bytes) -> None:
        if target == path:
            raise KeyboardInterrupt
        replace_study_file(target, data)

    with Journal(path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "replace_study_file", killed)
            with pytest.raises(KeyboardInterrupt):
                journal.mend()
        assert path.read_bytes() == before
        found = journal.mend()
        assert found == journal.found
        assert journal.mend() == Lines((ROWS[0], ROWS[2]))
    assert [line.split(": ")[0] for line in found.damaged] == [f"{path} line 2", f"{path} line 3"]
    assert (found.trials, found.torn_bytes) == ((ROWS[0], ROWS[2]), 4)
    assert path.with_name("trials.damaged").read_bytes() == changed + b"\xff\n"
    assert path.read_bytes() == first + third


def test_a_row_of_a_newer_pgpack_is_refused_and_never_put_aside(path: Path) -> None:
    newer = a_trial(1).to_json().replace(f'"v": {SCHEMA_VERSION}', '"v": 99')
    for row in (newer.partition(', "crc32"')[0] + "}", with_checksum(newer)):
        path.write_text(row + "\n")
        with pytest.raises(StudyError, match=r"line 1: .* version 99; .* a newer pgpack$"), Journal(path) as journal:
            journal.mend()
        with pytest.raises(StudyError, match=r"a newer pgpack$"):
            Journal(path).read()
        assert path.read_text() == row + "\n"


def with_checksum(line: str) -> str:
    text = line.partition(', "crc32"')[0] + "}"
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}'


def test_append_without_the_lock_is_refused(path: Path) -> None:
    with pytest.raises(StudyError, match="needs the lock"):
        Journal(path).append(a_trial(1))
    with pytest.raises(StudyError, match="needs the lock"):
        Journal(path).mend()
    with Journal(path) as journal:
        pass
    with pytest.raises(StudyError, match="needs the lock"):
        journal.append(a_trial(1))


def test_a_second_writer_is_refused_and_admitted_after_the_first(path: Path) -> None:
    with Journal(path):
        with pytest.raises(StudyError, match=rf"another process \(pid {os.getpid()}\)"):
            Journal(path).__enter__()
        assert Journal(path).read() == ()
    with Journal(path) as journal:
        journal.append(a_trial(1))


def test_a_full_disk_takes_the_row_back_and_keeps_the_earlier_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fills_up(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(path) as journal:
        journal.append(a_trial(1))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "write_all", fills_up)
            with pytest.raises(StudyError, match="No space left"):
                journal.append(a_trial(2))
        assert path.read_bytes() == before
        journal.append(a_trial(2))
    assert Journal(path).read() == (a_trial(1), a_trial(2))


WRITER = """
import sys
from pathlib import Path
from pgpack.study.journal import Journal
from pgpack.study.trial import SCHEMA_VERSION, Trial
row = Trial.from_json(sys.argv[2])
with Journal(Path(sys.argv[1])) as journal:
    journal.append(row)
    print("holding", flush=True)
    while True:
        journal.append(row)
"""


def test_a_killed_writer_leaves_complete_rows_and_no_lock(path: Path) -> None:
    row = a_trial(1, recipe="r" * 3000)
    command = [sys.executable, "-c", WRITER, str(path), row.to_json()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"holding\n"
        with pytest.raises(StudyError, match=f"pid {writer.pid}"), Journal(path):
            pass
        writer.send_signal(signal.SIGKILL)
    survivors = Journal(path).read()
    assert survivors
    assert set(survivors) == {row}
    with Journal(path) as journal:
        journal.append(a_trial(2))
    assert Journal(path).read() == (*survivors, a_trial(2))


def test_the_journal_page_names_every_field_and_the_schema_version() -> None:
    page = (ROOT / "pgpack" / "study" / "JOURNAL.md").read_text(encoding="utf-8")
    assert f"schema version {SCHEMA_VERSION}\n" in page
    trials, card = page.split("## The card")
    for field in dataclasses.fields(Trial):
        assert f"`{field.name}`" in trials, field.name
    for field in dataclasses.fields(StudyMeta):
        assert f"`{field.name}`" in card, field.name
