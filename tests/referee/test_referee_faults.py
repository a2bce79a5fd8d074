"""A good folder passes; every known fault of the field's submissions is refused with the sentence that names it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgpack.referee import collecting as collecting_module
from pgpack.referee.evidence import Decoded, Options
from pgpack.referee.findings import Finding
from pgpack.referee.runs import Limits
from pgpack.referee.table import RULES
from pgpack.referee.verdict import Verdict, as_document, checklist, judge
from tests.referee.referee_faults import FAULTS, MODEL, held_at_a_floor, of_the_field, only, raw
from tests.submission.submission_folder import SEEDS, code_bytes, script, write_good


@pytest.fixture(autouse=True)
def decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal artifacts with equal decoders are decoded once in all tests: most faults leave them alone."""
    original = collecting_module._decode

    def decode(entry: Any, folder: Any, stage: Path, modules: Any, options: Any) -> Decoded:
        decoder = stage / "decode.py"
        key = ((stage / entry.name).read_bytes(), decoder.read_bytes() if decoder.is_file() else b"", modules)
        if key not in DECODED:
            DECODED[key] = original(entry, folder, stage, modules, options)
        return dataclasses.replace(DECODED[key], entry=entry)

    monkeypatch.setattr(collecting_module, "_decode", decode)


DECODED: dict[Any, Decoded] = {}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_good(tmp_path / "submission")


def finding(verdict: Verdict, rule: str, status: str) -> Finding:
    """The rule's finding, which must have this status."""
    found = verdict[rule]
    assert found.status == status, f"{rule}: {found}"
    return found


def test_a_good_folder_passes_without_a_warning(good: Path) -> None:
    verdict = judge(good)
    assert verdict.ok
    assert [(rule.id, found) for rule, found in verdict.findings if found.status in ("fail", "warn")] == []
    assert judge(good, strict=True).ok
    assert checklist(verdict).startswith("### pgpack verify: accepted")


def test_the_document_is_json_and_its_bytes_are_those_of_the_files(good: Path) -> None:
    document = json.loads(json.dumps(as_document(judge(good)), allow_nan=False))
    code = code_bytes(good)
    assert document["bytes_code"]["as shipped"] == code
    assert document["counted_files"] == {name: (good / name).stat().st_size for name in ("decode.py", "train_gpt.py")}
    for row in document["artifacts"]:
        size = (good / row["file"]).stat().st_size
        assert (row["bytes_model"], row["bytes_total"]["as shipped"]) == (size, size + code)
        assert row["margin"] == 16_000_000 - size - code
    assert [check["id"] for check in document["checks"]] == [rule.id for rule in RULES]


def test_every_rule_has_an_id_a_source_and_a_sentence_of_its_own() -> None:
    for values in ({rule.id for rule in RULES}, {rule.sentence for rule in RULES}, {rule.judge for rule in RULES}):
        assert len(values) == len(RULES)
    assert all(rule.source for rule in RULES)


@pytest.mark.parametrize("name", FAULTS)
def test_a_known_fault_is_refused_with_its_sentence(name: str, tmp_path: Path) -> None:
    fault, rule, sentence = FAULTS[name]
    good = write_good(tmp_path / "submission", [42] if name.startswith("a decoder") else SEEDS)
    cap = 5500 if rule == "cap" else 16_000_000
    fault(good)
    verdict = judge(good, Options(cap))
    assert not verdict.ok
    assert re.search(sentence, finding(verdict, rule, "fail").detail), verdict[rule].detail
    assert f"**FAIL** {next(r.sentence for r in RULES if r.id == rule)}" in checklist(verdict)


def test_the_page_of_the_referee_lists_the_rules() -> None:
    page = (Path(collecting_module.__file__).with_name("REFEREE.md")).read_text(encoding="utf-8")
    heads = ["| id | what must hold | where the rule is from |", "|---|---|---|"]
    rows = [f"| `{rule.id}` | {rule.sentence} | {rule.source} |" for rule in RULES]
    assert page.split("<!-- rules: begin -->\n")[1].split("\n<!-- rules: end -->")[0] == "\n".join([*heads, *rows])


WEIGHED = {
    "scale-floor": (held_at_a_floor(), "blocks.0.w"),
    "unquantized": (raw(np.random.default_rng(0).normal(size=(300, 300))), "blocks.0.w"),
    "trained": (raw(np.ones((64, 64))), "blocks.0.w"),
}


@pytest.mark.parametrize("rule", WEIGHED)
def test_what_a_reviewer_weighs_is_flagged_in_a_whole_artifact(rule: str, tmp_path: Path) -> None:
    tensor, name = WEIGHED[rule]
    good = write_good(tmp_path / "submission")
    only("final_model.int8.ptz", of_the_field(tensor))(good)
    assert name in finding(judge(good), rule, "warn").detail
    assert not judge(good, strict=True).ok


def without_weights(folder: Path) -> None:
    for path in folder.glob("*.pgpack"):
        path.unlink()


NAMED = {
    "programs": (
        script(b"import subprocess\nsubprocess.run(['lrzip', '-k', 'x'])\n"),
        r"lrzip \(train_gpt.py .*line \d+",
    ),
    "artifact": (without_weights, "no artifact in the folder"),
}


@pytest.mark.parametrize("rule", NAMED)
def test_what_is_only_to_be_known_is_named_and_refused_when_strict(rule: str, tmp_path: Path) -> None:
    change, sentence = NAMED[rule]
    good = write_good(tmp_path / "submission")
    change(good)
    assert re.search(sentence, finding(judge(good), rule, "warn").detail), judge(good)[rule].detail
    assert not judge(good, strict=True).ok


FILES = ["README.md", "submission.json", "train_gpt.py", "train_seed42.log", MODEL, "decode.py"]


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """(what is done, to which file, with which bytes)."""
    file = draw(st.sampled_from(FILES))
    return draw(st.sampled_from(["cut", "replace", "insert", "remove", "link"])), file, draw(st.binary(max_size=60))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages(), at=st.floats(0, 1))
@example(damage=("replace", "submission.json", b'{"val_bpb": 1e999, "seeds": {}}'), at=0.0)
@example(damage=("insert", "train_gpt.py", b"\x00\xff"), at=0.5)
@example(damage=("link", "README.md", b"/dev/zero"), at=0.0)
@example(damage=("replace", "decode.py", b"while True: pass"), at=0.0)
def test_a_damaged_folder_is_judged_and_never_raises(
    tmp_path_factory: pytest.TempPathFactory, damage: tuple[str, str, bytes], at: float
) -> None:
    kind, name, data = damage
    folder = write_good(tmp_path_factory.mktemp("damaged") / "submission", [42])
    path = folder / name
    whole = path.read_bytes()
    place = int(at * len(whole))
    path.unlink()
    if kind == "link":
        path.symlink_to("/dev/zero")
    elif kind != "remove":
        changed = {"cut": whole[:place], "replace": data, "insert": whole[:place] + data + whole[place:]}
        path.write_bytes(changed[kind])
    verdict = judge(folder, Options(limits=Limits(timeout_s=2.0)))
    assert all(found.detail for _, found in verdict.findings if found.status == "fail")
    assert verdict.ok == all(found.status != "fail" for _, found in verdict.findings)
