"""`make gpu-proof` at tiny size: a row for every stage, for those that fail too; little is brought back."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.bench import gpu_proof
from tests.bench.gpu_proof import Chain, Results, bring, chains, main, markdown, run_chain
from tests.bench.gpu_stages import SCALES, Proof

FAKE = """
import json, os, sys
for stage in sys.argv[1:]:
    if stage == "dies":
        os._exit(3)
    if stage == "sleeps":
        import time
        time.sleep(60)
    print("ROW " + json.dumps({"stage": stage, "n": 1}), flush=True)
"""
SOON = 30.0


def results(folder: Path) -> Results:
    about = {"command": "make gpu-proof", "scale": "tiny", "device": "cpu", "budget": "14kB", "cores": 2}
    return Results(folder / "out", about)


def fake(chain: Chain, found: Results, seconds: float = SOON) -> None:
    run_chain(chain, [sys.executable, "-c", FAKE], found, time.monotonic() + seconds)


def test_a_row_that_ends_its_process_leaves_the_rows_behind_it(tmp_path: Path) -> None:
    found = results(tmp_path)
    fake(Chain(("one", "dies", "two")), found)
    assert found.rows == {
        "one": {"stage": "one", "n": 1},
        "dies": {"stage": "dies", "error": "its process ended with 3"},
        "two": {"stage": "two", "n": 1},
    }
    stored = json.loads((tmp_path / "out.json").read_text())
    assert [row["stage"] for row in stored["rows"]] == ["one", "dies", "two"]
    assert "* dies: its process ended with 3" in (tmp_path / "out.md").read_text()


def test_what_stands_on_a_row_that_failed_is_not_begun(tmp_path: Path) -> None:
    found = results(tmp_path)
    fake(Chain(("dies",)), found)
    fake(Chain(("one",), after="dies"), found)
    assert found.rows["one"]["error"] == "not begun: dies is missing"


def test_the_minutes_end_with_what_is_there(tmp_path: Path) -> None:
    found = results(tmp_path)
    fake(Chain(("one", "sleeps", "two")), found, 4.0)
    assert found.rows["one"]["n"] == 1
    assert found.rows["sleeps"]["error"] == "stopped: the minutes are over"
    assert "error" in found.rows["two"]


def test_a_row_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    found = results(tmp_path)
    found.add({"stage": "dies", "n": 2})
    fake(Chain(("dies", "one")), found)
    assert found.rows["dies"]["n"] == 2
    assert found.is_there("one")


def test_every_row_has_a_stage_and_every_stage_a_row(tmp_path: Path) -> None:
    for name, scale in SCALES.items():
        rows = [stage for chain in chains(name, None) for stage in chain.stages]
        assert sorted(rows) == sorted(Proof(scale, tmp_path, "cpu").stages())
    assert [chain.stages for chain in chains("full", ["text"]) if chain.stages] == [("text",)]


def test_what_is_brought_back_is_within_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(tmp_path)
    for name, bpb, n_bytes in (("large", 1.0, 30_000), ("best", 1.1, 5_000), ("worse", 1.2, 6_000)):
        (tmp_path / f"{name}.pgpack").write_bytes(bytes(n_bytes))
        row = {"stage": name, "file": f"{name}.pgpack", "bpb": bpb, "n_bytes": n_bytes, "kl": None, "note": ""}
        found.add(row | {"encode_s": 0, "decode_s": 0, "seconds": 0})
    monkeypatch.setattr(gpu_proof, "BROUGHT", 10_000)
    bring(found, tmp_path, tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["best.pgpack", "out.json", "out.md"]


def test_the_page_tells_utilisation() -> None:
    row = {"stage": "trunk", "steps": 600, "tokens": 1000, "tokens_per_s": 9e5, "mfu": 0.412, "seconds": 1.0}
    about = {"scale": "full", "command": "make gpu-proof", "device": "cuda", "cores": 16, "budget": "16MB"}
    assert "| trunk | 600 | 1,000 | 900,000 | 41.2% | - | 1.0 |" in markdown({**about, "rows": [row]})


def test_without_a_gpu_it_says_what_can_be_done(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("here is one")
    with pytest.raises(SystemExit, match="--smoke"):
        main(["--work", str(tmp_path), "--out", str(tmp_path / "out")])


@pytest.mark.timeout(300)
def test_the_stages_train_calibrate_and_pack(tmp_path: Path) -> None:
    stages = Proof(SCALES["tiny"], tmp_path, "cpu").stages()
    said = {name: stages[name]() for name in ("text", "speed", "trunk", "plain", "for the packer")}
    assert said["text"]["vocab_size"] == 400
    assert said["trunk"]["steps"] + said["plain"]["steps"] == said["speed"]["n_steps"] == 10
    assert said["plain"]["fp32_bpb"] != said["for the packer"]["fp32_bpb"]
    assert stages["calibrate, plain"]()["n_tokens"] == 512
    packed = {name: stages[f"{name}, plain"]() for name in ("effort 2", "pergroup", "sdclip-brotli")}
    assert packed["effort 2"]["n_bytes"] <= 14_000
    for row in packed.values():
        assert (tmp_path / row["file"]).stat().st_size == row["n_bytes"]
        assert row["kl"] >= 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_command_makes_every_row(tmp_path: Path) -> None:
    main(
        [
            "--scale",
            "tiny",
            "--work",
            str(tmp_path / "work"),
            "--out",
            str(tmp_path / "out"),
            "--bring",
            str(tmp_path),
        ]
    )
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["stage"] for row in rows} == {stage for chain in chains("tiny", None) for stage in chain.stages}
    assert not [row for row in rows if "error" in row]
    assert list(tmp_path.glob("effort-2-*.pgpack"))
