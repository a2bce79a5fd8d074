"""GGUF files that we write: read back by the package gguf and by our own reader they hold what was packed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import pgpack
from pgpack.bench.artifact import ArtifactFile
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import SettingError
from pgpack.formats.gguf.families import llama3_factors
from pgpack.formats.gguf.fields import model_fields, rope_factors, tokenizer_fields
from pgpack.formats.gguf.reader import read_gguf
from pgpack.formats.gguf.tokenizer import PATTERNS
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from tests.models.tiny_hf import reference_logits, tokens, write_folder, write_tokenizer

pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")
FAMILIES = ["llama", "llama-tied", "qwen2", "qwen3", "gpt2"]


def packed(folder: Path, recipe: str = "*=cast(dtype=fp32)") -> ArtifactFile:
    path = folder.with_suffix(".pgpack")
    path.write_bytes(pack(load_checkpoint(folder), parse_recipe(recipe)).data)
    return pgpack.open_artifact(path)


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_tokenizer(write_folder(tmp_path / request.param, request.param))


def test_read_as_a_checkpoint_it_is_the_packed_one(folder: Path, tmp_path: Path) -> None:
    artifact = packed(folder)
    artifact.unpack(tmp_path / "a.gguf")
    back = load_checkpoint(tmp_path / "a.gguf")
    expected = artifact.tensors()
    for name, array in back.items():
        assert np.array_equal(array, expected[name]), name
    assert back.shapes.keys() | back.aliases.keys() == expected.keys()
    artifact_of_gguf = pack(back, parse_recipe("*=cast(dtype=fp32)")).data
    (tmp_path / "b.pgpack").write_bytes(artifact_of_gguf)
    with torch.no_grad():
        logits = pgpack.open_artifact(tmp_path / "b.pgpack").model()(tokens()).logits
    assert torch.allclose(logits, reference_logits(folder, tokens()), atol=1e-5)


def test_the_package_gguf_reads_the_same_values(folder: Path, tmp_path: Path) -> None:
    packed(folder).unpack(tmp_path / "a.gguf")
    ours = read_gguf(tmp_path / "a.gguf")
    theirs = gguf.GGUFReader(tmp_path / "a.gguf")
    assert {tensor.name for tensor in theirs.tensors} == set(ours.tensors)
    for tensor in theirs.tensors:
        assert np.array_equal(np.asarray(tensor.data).reshape(-1), ours.load(tensor.name).reshape(-1))
    assert theirs.fields["general.architecture"].contents() == ours.fields["general.architecture"]


@pytest.mark.parametrize(("to", "error"), [("f16", 2e-3), ("bf16", 1e-2), ("q8_0", 2e-2)])
def test_types_of_matrices(tmp_path: Path, to: str, error: float) -> None:
    artifact = packed(write_tokenizer(write_folder(tmp_path / "llama", "llama")))
    artifact.unpack(tmp_path / "a.gguf", dtype=to)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["blk.0.attn_q.weight"] == to.upper()
    assert kinds["blk.0.ffn_down.weight"] == ("F16" if to == "q8_0" else to.upper())  # rows of 48 are no blocks of 32
    exact = artifact.tensors()
    for name, array in load_checkpoint(tmp_path / "a.gguf").items():
        assert np.abs(array - exact[name]).max() <= error * np.abs(exact[name]).max()


def test_the_tokenizer_gives_the_same_tokens(tmp_path: Path) -> None:
    folder = write_tokenizer(write_folder(tmp_path / "gpt2", "gpt2"))
    artifact = packed(folder)
    artifact.unpack(tmp_path / "a.gguf")
    back = load_checkpoint(tmp_path / "a.gguf").companions
    before, after = (json.loads(each["tokenizer.json"])["model"] for each in (artifact.companions, back))
    assert {**after["vocab"], **before["vocab"]} == after["vocab"]
    assert after["merges"] == before["merges"]
    from tokenizers import Tokenizer

    one, two = (Tokenizer.from_str(each["tokenizer.json"].decode()) for each in (artifact.companions, back))
    for text in ("the quick brown fox, 1234", "caf\u00e9 \u20ac\n  x", "<|end|>the"):
        assert one.encode(text).ids == two.encode(text).ids


def steps(*steps: dict) -> dict:
    return {"type": "Sequence", "pretokenizers": list(steps)}


LEVEL = {"type": "ByteLevel", "add_prefix_space": False}
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (LEVEL | {"use_regex": True}, "gpt-2"),
        (steps({"type": "Digits", "individual_digits": True}, LEVEL | {"use_regex": True}), "smollm"),
        (steps({"type": "Split", "pattern": {"Regex": QWEN}}, LEVEL | {"use_regex": False}), "qwen2"),
    ],
)
def test_a_pre_tokenizer_has_the_name_that_llama_cpp_gives_it(step: dict, name: str) -> None:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    found = tokenizer_fields({"tokenizer.json": json.dumps({"model": model, "pre_tokenizer": step}).encode()}, 5)
    assert found["tokenizer.ggml.pre"] == name
    assert name in PATTERNS
    assert found["tokenizer.ggml.tokens"] == ["a", "b", "ab", "[PAD3]", "[PAD4]"]
    assert found["tokenizer.ggml.token_type"] == [1, 1, 1, 5, 5]


def test_what_has_no_place_in_a_gguf_gets_one_sentence(tmp_path: Path) -> None:
    other = packed(write_tokenizer(write_folder(tmp_path / "gpt_neox", "gpt_neox")))
    with pytest.raises(SettingError, match="llama, qwen2, qwen3, gpt2, not of gpt_neox; write a folder instead"):
        other.unpack(tmp_path / "a.gguf")
    without = packed(write_folder(tmp_path / "llama", "llama"))
    with pytest.raises(SettingError, match=r"no tokenizer.json"):
        without.unpack(tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()


def test_the_rotary_scaling_of_llama_3_is_a_table() -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = {"model_type": "llama", "head_dim": 64, "rope_parameters": rope | {"rope_theta": 500_000.0}}
    assert np.array_equal(rope_factors(config), llama3_factors(64, 500_000.0, 8.0))
    assert rope_factors({"model_type": "llama", "rope_theta": 1e4}) is None
    whole = dict.fromkeys(("num_hidden_layers", "max_position_embeddings", "intermediate_size", "vocab_size"), 8)
    sizes = whole | {"hidden_size": 8, "num_attention_heads": 2}
    with pytest.raises(ValueError, match="dynamic"):
        model_fields(config | sizes | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}})


def test_llama_cpp_says_the_same_next_tokens(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = write_tokenizer(write_folder(tmp_path / "llama", "llama-tied"))
    artifact = packed(folder)
    artifact.unpack(tmp_path / "a.gguf")
    theirs = llama_cpp.Llama(str(tmp_path / "a.gguf"), n_ctx=64, verbose=False)
    model, tokenizer = artifact.model(), artifact.tokenizer()
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "runs"]
    for n_words in range(1, 11):
        ids = tokenizer(" ".join(words[:n_words]))["input_ids"]
        assert theirs.tokenize(" ".join(words[:n_words]).encode(), add_bos=False) == ids
        theirs.reset()
        theirs.eval(ids)
        assert theirs.sample(temp=0.0) == int(model(torch.tensor([ids])).logits[0, -1].argmax())


def test_the_table_of_rotary_factors_is_that_of_the_config() -> None:
    rope = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 2.0, "high_freq_factor": 6.0}
    config = {
        "model_type": "llama",
        "head_dim": 8,
        "rope_parameters": rope | {"original_max_position_embeddings": 128},
    }
    waves = (
        2 * np.pi * 10_000.0 ** (np.arange(4) / 4)
    )  # 6.3, 63, 628, 6283 tokens; 128 / 6 and 128 / 2 bound the smooth
    smooth = (128 / waves[1] - 2) / 4
    assert np.allclose(rope_factors(config), [1, 1 / ((1 - smooth) / 4 + smooth), 4, 4])


@pytest.mark.parametrize(
    ("arch", "field", "value"),
    [
        ("llama", "hidden_act", "gelu"),
        ("qwen2", "use_sliding_window", True),
        ("gpt2", "activation_function", "relu"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "scale_attn_weights", False),
        ("llama", "partial_rotary_factor", 0.5),
        ("llama", "rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
        ("llama", "rope_parameters", {"rope_type": "yarn", "factor": 2.0, "attention_factor": 3.0}),
        ("llama", "rope_scaling", {"rope_type": "yarn", "factor": 2.0, "beta_fast": 16.0}),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path, arch: str, field: str, value) -> None:
    folder = write_tokenizer(write_folder(tmp_path / arch, arch))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(SettingError, match=r"llama.cpp takes|no place in a GGUF"):
        packed(folder).unpack(tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()
