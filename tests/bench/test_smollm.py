"""The page of `make bench-smollm`, and how a step that fails is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.smollm import markdown, run

ROW = {
    "budget": "45MB",
    "recipe": "*=tcq(step=1e-4)",
    "n_bytes": 44_990_000,
    "bits_per_weight": 2.68,
    "bpb": 1.2,
    "kl": 0.1,
    "decode_s": 9.0,
    "companions": 168_761,
    "fields": "20 of 20",
    "says": " Paris.\n|",
    "same": 9,
    "said": 24,
    "prompt_kl": 0.2,
}
FOUND = {
    "model": "x.gguf",
    "gguf_bytes": 98_362_432,
    "text": "builtin",
    "n_tokens": 16_384,
    "window": 1024,
    "prompt": "The",
    "fp32": {"bpb": 1.1, "nats": 3.6, "says": " Paris"},
    "rows": [ROW],
    "machine": "m",
    "versions": {"pgpack": "0"},
    "steps": [{"name": "verify", "wall_s": 12.0, "cpu_s": 20.0, "peak": 1_230_000_000}],
}


def test_the_page_has_a_line_for_every_budget_and_step() -> None:
    lines = markdown(FOUND).splitlines()
    assert "| 45MB | 44,990,000 | 168,761 | 2.680 | 1.2000 | 0.1000 | 9.0 | 20 of 20 |" in lines
    assert "| 45MB | Paris. \\| | 9 of 24 | 0.2000 |" in lines
    assert "| verify | 12 | 20 | 1.23 |" in lines


def test_a_step_that_fails_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="first step: error: no"):
        run("first step", ("-c", "import sys; sys.exit('loud\\nerror: no')"), tmp_path)
    step = run("second", ("-c", "print('{\"ok\": 1}')"), tmp_path)
    assert step.answer == {"ok": 1}
    assert step.peak > 1 << 20
