"""`pgpack verify DIR`: a checklist to paste, JSON, and exit 4; with text the model itself is tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

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
    flags = ("--val", val, "--tokenizer", tokenizer, "--seq-len", 32)
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
