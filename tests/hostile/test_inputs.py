"""Strange checkpoints, folders and texts through inspect, plan, pack and eval: a result or a sentence, no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.inputs import KINDS, made

ROOT = Path(__file__).resolve().parents[2]
CASES = 2000


@pytest.mark.timeout(900)
def test_two_thousand_strange_inputs_end_in_a_result_or_a_sentence() -> None:
    """No traceback, hang above 10 s, memory above 1 GiB, file left behind, or artifact that lacks a tensor."""
    command = [sys.executable, "-m", "tests.hostile.fuzz_inputs", "--cases", str(CASES)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found = json.loads(done.stdout)
    assert found["faults"] == []
    assert found["cases"] == CASES
    for kind in KINDS:
        ends = {end.rpartition(" ")[2] for end in found["ends"] if end.startswith(f"{kind}: eval")}
        assert {"0", "1"} <= ends, f"{kind}: all cases end alike"


def test_a_case_is_the_same_every_time(tmp_path: Path) -> None:
    for seed in range(40):
        texts = []
        for side in "ab":
            folder = tmp_path / f"{seed}{side}"
            folder.mkdir()
            case = made(seed, folder)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            texts.append(
                (case.kind, [(path.relative_to(folder), _told(case.kind, path.read_bytes())) for path in files])
            )
        assert texts[0] == texts[1]


def _told(kind: str, contents: bytes) -> bytes | int:
    """What is to be equal: of torch's old format, which names what it stores by addresses in memory, the length."""
    return len(contents) if kind == "damaged torch" else contents
