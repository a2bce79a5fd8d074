"""`pgpack pack` of a folder, `generate`, `compare` and `unpack`: one line in, one line out, and it speaks."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

import pgpack as door
from pgpack.formats.own.layout import frame, unframe
from pgpack.tables import decimals
from tests.commands.workshop import pgpack, succeed
from tests.models.tiny_hf import write_folder, write_tokenizer

pytest.importorskip("transformers")
COARSE = "ndim<=1=cast; *=rtn(bits=3)|rans"
PROMPT = "the quick brown"


@pytest.fixture(scope="module", params=["llama-tied", "gpt2", "mamba"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(write_folder(tmp_path_factory.mktemp("speaking") / request.param, request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(write_folder(tmp_path_factory.mktemp("llama") / "model", "llama-tied"))


@pytest.fixture(scope="module")
def artifact(llama: Path) -> Path:
    path = llama.with_name("coarse.pgpack")
    succeed(pgpack("pack", llama, "--recipe", COARSE, "-o", path, "-q"))
    return path


def test_greedy_text_is_that_of_transformers(folder: Path) -> None:
    exact = folder.with_name("exact.pgpack")
    succeed(pgpack("pack", folder, "--recipe", "*=cast(dtype=fp32)", "-o", exact, "-q", "--force"))
    model, tokenizer = door.open_artifact(exact).model(), door.open_artifact(exact).tokenizer()
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    expected = []
    for _ in range(12):
        token = int(model(ids).logits[0, -1].argmax())
        if token == model.config.eos_token_id:
            break
        expected.append(token)
        ids = torch.cat((ids, torch.tensor([[token]])), 1)
    text = tokenizer.decode(expected, skip_special_tokens=True)
    for path in (folder, exact):
        said = succeed(pgpack("generate", path, PROMPT, "--max-new-tokens", 12, "--json")).json["text"]
        assert said.replace("\ufffd", "") == text.replace("\ufffd", "")
    streamed = succeed(pgpack("generate", exact, PROMPT, "--max-new-tokens", 12))
    assert streamed.out.startswith(PROMPT)


def test_it_stops_at_the_length_of_the_model_and_refuses_a_longer_prompt(llama: Path) -> None:
    succeed(pgpack("generate", llama, PROMPT, "--max-new-tokens", 500))
    refused = pgpack("generate", llama, "x" * 100)
    assert (refused.code, "reads 64 at most" in refused.err) == (1, True)
    assert "prompt is empty" in pgpack("generate", llama, "").err


def test_models_side_by_side(llama: Path, artifact: Path) -> None:
    same = llama.with_name("same.pgpack")
    succeed(pgpack("pack", llama, "--recipe", "*=cast(dtype=fp32)", "--weights-only", "-o", same, "-q", "--force"))
    flags = ("--prompt", PROMPT, "--max-new-tokens", 8)
    found = succeed(pgpack("compare", llama, artifact, same, *flags, "--json")).json
    coarse, equal = found["others"]
    assert len(found["says"]) == len(coarse["kl"]) == len(coarse["says"]) == 8
    assert all(equal["same"])
    assert equal["mean_kl"] < 1e-9 < coarse["mean_kl"]
    assert math.isclose(coarse["mean_kl"], sum(coarse["kl"]) / 8)
    shown = succeed(pgpack("compare", llama, artifact, same, *flags)).out
    assert f"mean KL {decimals(coarse['mean_kl'], 4)} nats per token" in shown
    assert "8 of 8" in shown


def test_models_of_two_tokenizers_are_not_set_side_by_side(llama: Path, tmp_path: Path) -> None:
    other = shutil.copytree(llama, tmp_path / "other")
    layout = json.loads((other / "tokenizer.json").read_text())
    vocabulary = layout["model"]["vocab"]
    first, second, *_ = [piece for piece in vocabulary if len(piece) == 1 and piece.isalpha()]
    flags = ("--prompt", PROMPT, "--max-new-tokens", 2)
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]  # a piece or two are of chats
    (other / "tokenizer.json").write_text(json.dumps(layout))
    succeed(pgpack("compare", llama, other, *flags))
    letters = [piece for piece in vocabulary if len(piece) == 1]
    layout["model"]["vocab"] |= dict(zip(letters, [vocabulary[piece] for piece in reversed(letters)], strict=True))
    (other / "tokenizer.json").write_text(json.dumps(layout))
    refused = pgpack("compare", llama, other, *flags)
    assert (refused.code, "has another tokenizer than" in refused.err) == (1, True)


def test_what_has_no_model_gets_one_sentence(llama: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.pgpack"
    succeed(pgpack("pack", llama, "--recipe", "*=cast", "--weights-only", "-o", bare, "-q"))
    for command in (
        ("generate", bare, "x"),
        ("unpack", bare, "-o", f"{tmp_path}/back/"),
        ("compare", bare, "--prompt", "x"),
    ):
        refused = pgpack(*command)
        assert refused.code in (1, 2)
        assert "Traceback" not in refused.err
    assert "no config.json" in pgpack("generate", bare, "x").err
    assert "no config.json" in pgpack("unpack", bare, "-o", f"{tmp_path}/back/").err
    assert [path.name for path in tmp_path.iterdir()] == ["bare.pgpack", "bare.pgpack.json"]


def test_companions_are_counted_and_shown(llama: Path, artifact: Path) -> None:
    whole = succeed(pgpack("inspect", artifact, "--json")).json
    assert whole["companions"].keys() >= {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert 0 < whole["overhead"]["companions"] < sum(whole["companions"].values())
    bare = llama.with_name("bare.pgpack")
    succeed(pgpack("pack", llama, "--recipe", COARSE, "--weights-only", "-o", bare, "-q", "--force"))
    saved = artifact.stat().st_size - bare.stat().st_size
    assert 0 <= saved - whole["overhead"]["companions"] < 400  # their names in the header
    shown = succeed(pgpack("inspect", artifact)).out
    assert "companions" in shown
    assert "tokenizer.json" in shown


def test_a_folder_comes_back_and_is_not_overwritten(artifact: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    succeed(pgpack("unpack", artifact, "-o", back, "-q"))
    assert (back / "config.json").is_file()
    assert (back / "model.safetensors").is_file()
    refused = pgpack("unpack", artifact, "-o", back)
    assert (refused.code, "--force" in refused.err) == (2, True)
    succeed(pgpack("unpack", artifact, "-o", back, "--force", "--dtype", "bf16"))
    ending = pgpack("unpack", artifact, "-o", tmp_path / "a.onnx")
    assert (ending.code, "NAME.safetensors, NAME.npz, NAME.pt or NAME.gguf" in ending.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["back"]


@pytest.mark.parametrize("name", ["../../config.json", "modeling.py", "/etc/passwd.txt", "con.json"])
def test_a_hostile_companion_is_refused_with_exit_4_and_nothing_is_written(
    artifact: Path, name: str, tmp_path: Path
) -> None:
    header, body = unframe(artifact.read_bytes())
    header["companions"][0][0][0] = name
    hostile = tmp_path / "hostile.pgpack"
    hostile.write_bytes(frame(header, bytes(body)))
    for verb in (("unpack", hostile, "-o", tmp_path / "back"), ("inspect", hostile), ("generate", hostile, "x")):
        refused = pgpack(*verb)
        assert refused.code == 4, refused.err
        assert refused.err.count("\n") == 1
        assert "companion" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pgpack"]


def test_a_budget_counts_the_companions(llama: Path, tmp_path: Path) -> None:
    packed = tmp_path / "fits.pgpack"
    succeed(pgpack("pack", llama, "--budget", "24kB", "-o", packed, "-q", "--no-cache"))
    assert packed.stat().st_size <= 24_000
    assert "tokenizer.json" in door.open_artifact(packed).companions
    refused = pgpack("pack", llama, "--budget", "1kB", "-o", tmp_path / "none.pgpack", "-q", "--no-cache")
    assert (refused.code, "--weights-only leaves them out" in refused.err) == (3, True)
