"""Packed bytes in a text are told from prose, code, logs and figures."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from pgpack.referee.encoded import encoded_bytes

from .real_script import base, run_log

HERE = Path(__file__)
READABLE = {
    "prose": (HERE.parents[2] / "pgpack/referee/REFEREE.md").read_bytes(),
    "short prose": b"# n\n\nval_bpb 1.0812, 8xH100, 600 s.\n",
    "code": HERE.with_name("referee_faults.py").read_bytes(),
    "script": base().encode(),
    "log": (run_log(1.09, 7) * 4).encode(),
    "table": "".join(f"| {i} | {1.08 + i / 7e3:.4f} | {i * 977:,} |\n" for i in range(900)).encode(),
}


def rows(head: str, n: int, encode: str) -> bytes:
    noise = random.Random(n)
    return "".join(f"{head}{getattr(base64, encode)(noise.randbytes(n)).decode()}\n" for _ in range(300)).encode()


@pytest.mark.parametrize("name", READABLE)
def test_what_a_person_reads_is_not_packed(name: str) -> None:
    assert encoded_bytes(READABLE[name], is_code=name in ("code", "script")) == 0


@pytest.mark.parametrize(
    ("head", "n", "encode"),
    [("# ", 60, "b85encode"), ("    x = ", 45, "b64encode"), ("> ", 54, "b64encode"), ("state: ", 90, "b85encode")],
)
def test_rows_of_packed_bytes_are_counted_wherever_they_stand(head: str, n: int, encode: str) -> None:
    text = rows(head, n, encode)
    assert encoded_bytes(text) > 0.8 * len(text)
    mixed = READABLE["prose"] + text + READABLE["log"]
    assert 0.7 * len(text) < encoded_bytes(mixed) < 1.2 * len(text) + 8192


def test_a_module_of_nothing_but_numbers_is_a_table_of_weights() -> None:
    text = f"G = {[*random.Random(1).randbytes(20_000)]!r}\n".encode()
    assert encoded_bytes(text, is_code=True) > 0.9 * len(text)
    assert encoded_bytes(text) == 0
