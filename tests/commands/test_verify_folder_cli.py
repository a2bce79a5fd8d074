"""`pgpack verify DIR`: a checklist to paste, JSON, and exit 4; with text the model itself is tested."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pgpack import referee, submission
from pgpack.referee.table import RULES
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.submission.submission_folder import code_bytes, write_good

SCORER = '''
import math


def score(state, ids):
    """Counts of pairs, learned {when} they are scored."""
    pairs, contexts, nats = {{}}, {{}}, []
    for pair in zip(ids[:-1].tolist(), ids[1:].tolist()):
        {first}
        {second}
    return nats
'''
LEARN = "pairs[pair], contexts[pair[0]] = pairs.get(pair, 1) + 1, contexts.get(pair[0], 310) + 1"
RATE = "nats.append(math.log(contexts.get(pair[0], 310) / pairs.get(pair, 1)))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_good(tmp_path / "submission", [42])


def status(document: Any, rule: str) -> str:
    return next(check["status"] for check in document["checks"] if check["id"] == rule)


def test_a_good_folder_is_accepted_and_one_byte_over_the_cap_is_not(folder: Path) -> None:
    done = succeed(pgpack("verify", folder))
    assert done.out.startswith("### pgpack verify: accepted\n\n- [x] ")
    total = (folder / "model_seed42.pgpack").stat().st_size + code_bytes(folder)
    over = pgpack("verify", folder, "--budget", total - 1)
    assert over.code == 4
    assert "**FAIL** Artifact and code as shipped are within the cap" in over.out
    assert "1 over the cap" in over.out


def test_a_margin_of_no_byte_is_a_warning_that_strict_refuses(folder: Path) -> None:
    total = (folder / "model_seed42.pgpack").stat().st_size + code_bytes(folder)
    warned = pgpack("verify", folder, "--budget", total, "--strict", "--json")
    assert warned.code == 4
    assert [check["id"] for check in warned.json["checks"] if check["status"] in ("fail", "warn")] == ["margin"]
    assert not warned.json["ok"]


def test_one_rule_can_be_judged_alone(folder: Path) -> None:
    (folder / "requirements.txt").unlink()
    (folder / "decode.py").write_text("import brotli\n")
    alone = pgpack("verify", folder, "--only", "cap", "--only", "dependencies", "--json")
    assert [check["id"] for check in alone.json["checks"]] == ["cap", "dependencies"]
    assert alone.code == 4
    assert pgpack("verify", folder, "--only", "cap").code == 0
    unknown = pgpack("verify", folder, "--only", "cup")
    assert unknown.code != 0
    assert "no rule is called cup; did you mean 'cap'?" in unknown.err
    assert "no rule is called zzz; there are files, required" in pgpack("verify", folder, "--only", "zzz").err


@pytest.mark.parametrize("rule", [rule.id for rule in RULES])
def test_every_rule_explains_itself_with_two_examples(rule: str) -> None:
    told = succeed(pgpack("verify", "--explain", rule)).out
    assert told.startswith(f"{rule}: ")
    assert re.search(r"\nfails:   \S.*\npasses:  \S", told, re.S)


def test_a_rule_that_nobody_has_cannot_be_explained() -> None:
    refused = pgpack("verify", "--explain", "nothing")
    assert refused.code == 2
    assert "no rule is called nothing" in refused.err


def test_what_fires_cites_file_and_line(folder: Path) -> None:
    (folder / "decode.py").write_text("import json\n\nimport pickle\npickle.load(open('x', 'rb'))\n")
    document = pgpack("verify", folder, "--json").json
    (check,) = (check for check in document["checks"] if check["id"] == "unpickling")
    what = "pickle.load runs whatever the file says"
    assert check["places"] == [{"file": "decode.py", "line": 4, "layer": 0, "what": what}]
    assert "decode.py line 4: pickle.load" in check["detail"]
    pasted = pgpack("verify", folder).out.splitlines()
    assert [line[:40] for line in document["checklist"].splitlines()] == [line[:40] for line in pasted]


def keys_of(value: Any, path: str = "") -> set[str]:
    """`checks[].id`: every key of a document with where it stands; values of maps by name are one."""
    if isinstance(value, list):
        return {key for each in value for key in keys_of(each, f"{path}[]")}
    if not isinstance(value, dict):
        return set()
    here = {path} if path in ("counted_files", "bytes_code", "counts", "artifacts[].bytes_total") else None
    return here or {
        key
        for name, each in value.items()
        for key in ({f"{path}.{name}".lstrip(".")} | keys_of(each, f"{path}.{name}".lstrip(".")))
    }


def test_the_document_has_the_keys_of_its_description(folder: Path) -> None:
    page = (Path(referee.__file__).with_name("REFEREE.md")).read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([\w.\[\]]+)` \|", page.split("## JSON")[1].split("\n## ")[0], re.M))
    (folder / "decode.py").write_text("import pickle\npickle.load(open('x', 'rb'))\n")
    assert keys_of(pgpack("verify", folder, "--json").json) == described


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_the_recipe_for_ci_annotates_the_line(folder: Path, tmp_path: Path) -> None:
    (folder / "decode.py").write_text("import json\n\nimport pickle\npickle.load(open('x', 'rb'))\n")
    page = (Path(submission.__file__).with_name("CI.md")).read_text(encoding="utf-8")
    found = re.search(r"jq -r --arg folder \"\$folder\" '(.*?)' verdict.json", page, re.S)
    assert found is not None
    verdict = tmp_path / "verdict.json"
    verdict.write_text(pgpack("verify", folder, "--json").out)
    command = ["jq", "-r", "--arg", "folder", "records/x", found[1], str(verdict)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    wanted = (
        "::error file=records/x/decode.py,line=4,title=pgpack unpickling::pickle.load runs whatever the file says"
    )
    assert wanted in lines
    assert all(
        re.match(r"::(error|warning) file=records/x/\S+,line=[1-9]\d*,title=pgpack [\w-]+::\S", line)
        for line in lines
    )


def test_the_checkpoints_names_and_shapes_are_compared(folder: Path, model: Path) -> None:
    refused = pgpack("verify", folder, "--checkpoint", model, "--json")
    assert refused.code == 4
    assert status(refused.json, "keys") == "fail"


def test_flags_of_folders_are_refused_for_files(artifact: Path) -> None:
    refused = pgpack("verify", artifact, "--strict")
    assert refused.code == 2
    assert "--strict is for a submission folder" in refused.err


@pytest.fixture(scope="module")
def real(
    tmp_path_factory: pytest.TempPathFactory, model: Path, artifact: Path, text_folder: Path
) -> tuple[Path, Any]:
    """A folder around the trained model, its claimed loss measured by pgtrain; and the flags that name its text."""
    folder = tmp_path_factory.mktemp("real") / "submission"
    write_good(folder, [42])
    (folder / "model_seed42.pgpack").unlink()
    (folder / "decode.py").unlink()
    shutil.copy(artifact, folder / "model.pgpack")
    succeed(pgpack("unpack", artifact, "-o", folder.parent / "decoded.safetensors"))
    val = text_folder / "*_val_*.bin"
    tokenizer = next(text_folder.glob("*.model"))
    flags = ("--val", val, "--tokenizer", tokenizer, "--seq-len", 32, "--model", "baseline")
    done = succeed(pgtrain("eval", folder.parent / "decoded.safetensors", *flags, "-q", "--json")).json
    (folder / "train_seed42.log").unlink()
    (folder / "train.log").write_text(f"quantized val_loss:{done['nats']:.8f} val_bpb:{done['bpb']:.8f}\n")
    claims = {"author": "a", "github_id": "a", "name": "n", "date": "d", "val_bpb": done["bpb"]}
    (folder / "submission.json").write_text(json.dumps(claims))
    (folder / "README.md").write_text(f"val_bpb {done['bpb']:.6f}\n")
    (folder / "requirements.txt").write_text("numpy\ntorch>=2.9\nbrotli\n")
    return folder, flags


def test_the_loss_is_measured_and_the_model_does_not_peek(real: tuple[Path, Any], model: Path) -> None:
    folder, flags = real
    done = pgpack("verify", folder, "--checkpoint", model, "--eval", *flags, "-q", "--json")
    found = {rule: status(done.json, rule) for rule in ("loss", "text-bytes", "causal", "normalized", "keys")}
    assert found == {"loss": "ok", "text-bytes": "ok", "causal": "ok", "normalized": "ok", "keys": "ok"}
    assert status(done.json, "score-first") == "skip"
    assert done.code == 0, [each for each in done.json["checks"] if each["status"] == "fail"]


def test_a_checkpoint_that_names_its_text_needs_no_flags(real: tuple[Path, Any], model: Path) -> None:
    folder, flags = real
    done, told = (
        pgpack("verify", folder, "--checkpoint", model, "--eval", *more, "-q", "--json") for more in ((), flags)
    )
    assert done.code == 0, done.err
    rules = ("loss", "text-bytes", "causal", "normalized", "calibration-text")
    assert {rule: status(done.json, rule) for rule in rules} == dict.fromkeys(rules, "ok")
    assert [check for check in done.json["checks"] if check["id"] == "loss"] == [
        check for check in told.json["checks"] if check["id"] == "loss"
    ]


def test_another_loss_than_the_claimed_one_is_refused(real: tuple[Path, Any], tmp_path: Path) -> None:
    folder, flags = real
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    path = changed / "submission.json"
    claims = json.loads(path.read_text())
    path.write_text(json.dumps(claims | {"val_bpb": claims["val_bpb"] - 0.01}))
    done = pgpack("verify", changed, "--eval", *flags, "-q", "--json")
    assert done.code == 4
    assert status(done.json, "loss") == "fail"


@pytest.mark.parametrize(
    ("when", "lines", "found"), [("after", (RATE, LEARN), "ok"), ("before", (LEARN, RATE), "fail")]
)
def test_a_scorer_may_learn_after_it_scores_and_not_before(
    when: str, lines: tuple[str, str], found: str, real: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, flags = real
    (tmp_path / "scorer.py").write_text(SCORER.format(when=when, first=lines[0], second=lines[1]))
    scorer = ("--scorer", tmp_path / "scorer.py", "--max-tokens", 64, "--documents")
    done = pgpack("verify", folder, *scorer, *flags, "-q", "--json")
    assert status(done.json, "score-first") == found
    assert status(done.json, "documents") == "fail"  # what it learned goes from one document into the next


def test_text_that_is_not_named_is_asked_for(folder: Path) -> None:
    refused = pgpack("verify", folder, "--eval", "-q")
    assert refused.code == 2
    assert "--val GLOB" in refused.err
