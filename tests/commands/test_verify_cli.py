"""`pgpack verify`: a sound artifact passes, every lie about it is found, and the exit code says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pgpack.verify import CleanDecode
from tests.commands.workshop import Finished, pgpack, succeed


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    """The artifact and its manifest, free to be damaged."""
    for name in ("model.pgpack", "model.pgpack.json"):
        shutil.copy(artifact.with_name(name), tmp_path / name)
    return tmp_path / "model.pgpack"


def failing(finished: Finished) -> set[str]:
    assert finished.code == 4, finished.out + finished.err
    return {check["name"] for check in finished.json["checks"] if not check["ok"]}


def edit_manifest(artifact: Path, **changes: object) -> None:
    path = artifact.with_name(artifact.name + ".json")
    told = json.loads(path.read_text()) | changes
    told.pop("crc32")  # whoever lies leaves the checksum out, as older manifests do
    path.write_text(json.dumps(told))


def test_a_sound_artifact_passes_every_check(model: Path, artifact: Path) -> None:
    size = artifact.stat().st_size
    done = succeed(pgpack("verify", artifact, "--checkpoint", model, "--budget", size, "--eval", "-q", "--json")).json
    names = ["size", "manifest", "decode", "structure", "weights", "values", "names", "checkpoint", "error", "loss"]
    assert [check["name"] for check in done["checks"]] == names
    assert all(check["ok"] for check in done["checks"])
    assert "0 spare" in done["checks"][0]["detail"]
    assert "without torch" in done["checks"][2]["detail"]
    assert done["kl"] > 0
    table = succeed(pgpack("verify", artifact))
    assert table.out.count("ok  ") == 6
    assert table.out.splitlines()[-1] == f"verify ok: {artifact}"


def test_one_byte_over_the_budget_fails(artifact: Path) -> None:
    finished = pgpack("verify", artifact, "--budget", artifact.stat().st_size - 1)
    assert finished.code == 4
    assert "FAIL  size" in finished.out
    assert "1 too many" in finished.out


def test_damage_is_named_by_its_kind(copy: Path) -> None:
    data = copy.read_bytes()
    for damaged, kind in (
        (data[:-1], "TruncatedArtifact"),
        (data + b"x", "CorruptArtifact"),
        (data[:40] + bytes([data[40] ^ 1]) + data[41:], "CorruptArtifact"),
        (b"nonsense", "FormatError"),
        (b"", "TruncatedArtifact"),
    ):
        copy.write_bytes(damaged)
        finished = pgpack("verify", copy, "--json")
        assert failing(finished) >= {"decode", "manifest"}
        decode = next(check for check in finished.json["checks"] if check["name"] == "decode")
        assert decode["detail"].startswith(kind)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"sha256": "0" * 64}, "manifest"),
        ({"recipe_canonical": "pgpack-recipe-1 *=cast"}, "manifest"),
        ({"sizes": {"tensors": {}}}, "manifest"),
        ({"weights_digest": "0" * 64}, "weights"),
        ({"checkpoint_digest": "0" * 64}, "checkpoint"),
        ({"bpb": 1.5}, "loss"),
        ({"unknown": 1}, "manifest"),
    ],
)
def test_a_manifest_that_lies_fails_its_check(
    changes: dict[str, object], check: str, copy: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = json.loads(copy.with_name("model.pgpack.json").read_text())["weights_digest"]
    monkeypatch.setattr("pgpack.verify.decode_apart", lambda *_: CleanDecode(True, "pgpack", digest))
    edit_manifest(copy, **changes)
    flags = ("--checkpoint", model, *(["--eval"] if check == "loss" else []))
    assert failing(pgpack("verify", copy, *flags, "-q", "--json")) == {check}


def test_another_model_is_not_the_checkpoint(copy: Path, model: Path, tmp_path: Path) -> None:
    import numpy as np

    from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors

    tensors = dict(load_checkpoint(model).items())
    save_tensors(tmp_path / "noise.safetensors", {n: np.flip(t) for n, t in tensors.items()}, {})
    assert failing(pgpack("verify", copy, "--checkpoint", tmp_path / "noise.safetensors", "--json")) == {
        "checkpoint",
        "error",
    }
    tensors.pop("skip_weights")
    save_tensors(tmp_path / "less.safetensors", tensors, {})
    assert "names" in failing(pgpack("verify", copy, "--checkpoint", tmp_path / "less.safetensors", "--json"))


def test_a_loss_on_another_text_is_reported_and_not_compared(artifact: Path, model: Path) -> None:
    flags = ("--checkpoint", model, "--eval", "--max-tokens", 64, "-q")
    assert "was measured on another text" in succeed(pgpack("verify", artifact, *flags)).out


def test_the_fields_files_are_verified_too(model: Path, tmp_path: Path) -> None:
    preset = ("--preset", "baseline-int8-zlib", "--passthrough", 100)
    succeed(pgpack("pack", model, *preset, "-o", tmp_path / "a.ptz"))
    done = succeed(pgpack("verify", tmp_path / "a.ptz", "--checkpoint", model, "--json")).json
    assert done["kind"] == "torch_baseline"
    assert "without torch" in next(c["detail"] for c in done["checks"] if c["name"] == "decode")
