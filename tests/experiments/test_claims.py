"""Claims, measures and pages: the verdict is a function of the values, and generated text replaces only itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.replication.claims import (
    CONFOUNDED,
    NOT_REPRODUCED,
    REPRODUCED,
    UNTESTED,
    Claim,
    read_claims,
    record,
)
from experiments.replication.pages import block, fill
from experiments.replication.plan import Study
from experiments.replication.results import Measures
from pgpack.errors import DataError

ENTRY = {"id": "a", "text": "t", "source": "s", "measure": "m", "holds": "above", "bound": 1.0}
CONTROL = {"measure": "c", "holds": "above", "bound": 1.0}
SHEET = """seeds = [1, 2, 3]
[tiny]
model = { vocab_size = 1024, model_dim = 64, num_heads = 2, num_kv_heads = 1 }
training = { steps = 5 }
snapshots = [1, 5]
[runs.a]
purpose = "the control"
preset = "baseline"
model = { num_layers = 3 }
tiny = { training = { steps = 7 } }
"""


def measures(**values: tuple[float, ...]) -> Measures:
    result = Measures()
    for name, by_seed in values.items():
        for seed, value in enumerate(by_seed):
            result.put(name, seed, value)
    return result


@pytest.mark.parametrize(
    ("more", "values", "verdict"),
    [
        ({}, {"m": (1.1, 1.2, 1.3)}, REPRODUCED),
        ({}, {"m": (0.9, 1.2, 1.3)}, NOT_REPRODUCED),
        ({"holds": "below"}, {"m": (1.1, 1.2, 1.3)}, NOT_REPRODUCED),
        ({"holds": "near", "tolerance": 0.4}, {"m": (0.8, 1.2, 1.3)}, REPRODUCED),
        ({"holds": "near", "tolerance": 0.1}, {"m": (0.8, 1.2, 1.3)}, NOT_REPRODUCED),
        ({"control": CONTROL}, {"m": (2, 2, 2), "c": (1.5, 1.5, 1.5)}, CONFOUNDED),
        ({"control": CONTROL}, {"m": (2, 2, 2), "c": (0.5, 1.5, 1.5)}, REPRODUCED),
        ({"control": CONTROL}, {"m": (0, 2, 2), "c": (1.5, 1.5, 1.5)}, NOT_REPRODUCED),
    ],
)
def test_verdicts(more: dict[str, object], values: dict[str, tuple[float, ...]], verdict: str) -> None:
    assert Claim(ENTRY | more).judge(measures(**values))["verdict"] == verdict


def test_a_claim_without_a_measure_is_untested() -> None:
    assert Claim({"id": "a", "text": "t", "source": "s", "needs": "GPUs"}).judge(Measures()) == {"verdict": UNTESTED}


def test_recording_twice_changes_nothing_and_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    head = '# how bounds were chosen\n\n[[claim]]\nid = "a"\ntext = "t"\nsource = "s"\n'
    path.write_text(head + 'measure = "m"\nholds = "above"\nbound = 1.0\n\n[[claim]]\nid = "b"\n'
                    'text = "t"\nsource = "s"\nneeds = "GPUs"\n', encoding="utf-8")  # fmt: skip
    record(path, measures(m=(1.5, 1.25, 2.0)))
    once = path.read_text(encoding="utf-8")
    record(path, measures(m=(1.5, 1.25, 2.0)))
    assert path.read_text(encoding="utf-8") == once
    assert once.startswith(head)
    first, second = read_claims(path)
    assert (first.entry["ours"], first.entry["seeds"], first.entry["verdict"]) == (1.583, 3, REPRODUCED)
    assert second.entry["verdict"] == UNTESTED


@pytest.mark.parametrize("line", ["bounds = 1", 'needs = "GPUs"'])
def test_a_claim_with_a_wrong_field_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(f'[[claim]]\nid = "a"\ntext = "t"\nsource = "s"\nmeasure = "m"\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match="a "):
        read_claims(path)


def test_measures_survive_the_disk(tmp_path: Path) -> None:
    written = measures(m=(1 / 3, 2.0, 3.0), c=(0.0, 0.5, 1.0))
    written.save(tmp_path / "m.json")
    read = Measures.load(tmp_path / "m.json")
    assert read == written
    assert read["m"].values == pytest.approx((1 / 3, 2.0, 3.0), abs=1e-6)
    with pytest.raises(DataError, match="nowhere"):
        read["nowhere"]


def test_a_block_replaces_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- t: begin -->\nold\n<!-- t: end -->\nb\n", encoding="utf-8")
    fill(path, "t", "new\nlines")
    assert block(path, "t") == "new\nlines"
    assert path.read_text(encoding="utf-8") == "a\n<!-- t: begin -->\nnew\nlines\n<!-- t: end -->\nb\n"
    with pytest.raises(DataError, match="no block other"):
        fill(path, "other", "")


def test_the_later_setting_wins(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SHEET, encoding="utf-8")
    study = Study.load(tmp_path)
    tiny, full = study.run("a", 2, "tiny"), study.run("a", 2, "full")
    assert (tiny.model.model_dim, tiny.model.num_layers, tiny.training.steps, tiny.training.seed) == (64, 3, 7, 2)
    assert (full.model.model_dim, full.model.num_layers, full.training.seed) == (512, 3, 2)
    assert (tiny.snapshots, full.snapshots) == ((1, 5), ())
    assert tiny.snapshot_name(5) == "a-2.step-5.safetensors"
    assert [run.file_name for run in study.runs("tiny")] == [f"a-{seed}.safetensors" for seed in (1, 2, 3)]


def test_a_sheet_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SHEET + "modle = 1\n", encoding="utf-8")
    with pytest.raises(DataError, match="modle"):
        Study.load(tmp_path)
