"""External programs are limited in processor time, not by the clock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pgpack.codecs import programs
from pgpack.codecs.programs import Limits, decode_file, encode_file, run_tool
from pgpack.errors import CorruptArtifact, PgpackError

SPIN = ["/bin/sh", "-c", "while :; do :; done"]


def test_a_program_that_spins_ends_at_its_processor_time(tmp_path: Path) -> None:
    with pytest.raises(PgpackError, match="sh took more than 1 s of processor time"):
        run_tool(SPIN, str(tmp_path), Limits(cpu_s=1))


def test_waiting_costs_no_processor_time(tmp_path: Path) -> None:
    started = time.monotonic()
    assert run_tool(["/bin/sh", "-c", "sleep 1.5; echo done"], str(tmp_path), Limits(cpu_s=1)) == "done\n"
    assert time.monotonic() - started > 1.5


def test_a_program_that_waits_forever_ends_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PATIENCE", 1)
    with pytest.raises(PgpackError, match="sleep did not end within 1 s"):
        run_tool(["sleep", "60"], str(tmp_path), Limits(cpu_s=1))


def test_a_decoder_out_of_time_is_a_corrupt_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "cpu_limit_s", lambda n_bytes: 1)
    with pytest.raises(CorruptArtifact, match="processor time"):
        decode_file("spin", [SPIN], b"archive", "a", 10)


def test_limits_of_size_hold_for_decoders_only(tmp_path: Path) -> None:
    write = ["/bin/sh", "-c", "head -c 100000 /dev/zero > out"]
    assert len(encode_file(write, b"data", "out")) == 100_000
    with pytest.raises(CorruptArtifact, match="refuses"):
        decode_file("write", [write], b"archive", "a", 10)
    limits = Limits(cpu_s=5, address_space_kib=1 << 20)
    assert run_tool(["/bin/sh", "-c", "ulimit -v"], str(tmp_path), limits) == f"{1 << 20}\n"


def test_what_a_program_says_by_failing_is_none(tmp_path: Path) -> None:
    assert run_tool(["/bin/sh", "-c", "exit 3"], str(tmp_path), Limits(cpu_s=5)) is None
