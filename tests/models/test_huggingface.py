"""A Hugging Face folder is the model that transformers makes of it, whatever its family, files and dtype."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import pgpack
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.errors import CheckpointError, DataError, ToolMissing
from pgpack.models.huggingface import build_transformers, find
from pgpack.models.probe import Probe
from pgpack.models.source import FoundModel, Wanted

from .tiny_hf import (
    FAMILIES,
    LENGTH,
    VOCABULARY,
    as_torch_files,
    reference_logits,
    tokens,
    write_folder,
    write_tokenizer,
)

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself


def wanted(checkpoint: Checkpoint, vocab_size: int = VOCABULARY, **said) -> Wanted:
    probe = Probe(dict, np.zeros(4, np.uint16))
    shapes, companions = checkpoint.shapes, checkpoint.companions
    return Wanted(checkpoint.metadata, shapes, vocab_size, probe, companions=companions, **said)


def found_model(checkpoint: Checkpoint) -> FoundModel:
    found = find(wanted(checkpoint))
    assert found is not None
    return found


def our_logits(path: Path, ids: torch.Tensor) -> torch.Tensor:
    checkpoint = load_checkpoint(path)
    state = {name: torch.tensor(array) for name, array in checkpoint.items()}
    with torch.no_grad():
        return found_model(checkpoint).build(state)(ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_from_pretrained(tmp_path: Path, family: str) -> None:
    folder = write_folder(tmp_path, family)
    assert torch.allclose(our_logits(folder, tokens()), reference_logits(folder, tokens()), atol=1e-4)


@pytest.mark.parametrize("family", ["llama-tied", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("shards", [False, True])
def test_files_and_dtypes_make_no_difference(
    tmp_path: Path, family: str, dtype: str, form: str, shards: bool
) -> None:
    folder = write_folder(tmp_path, family, shards, dtype)
    expected = reference_logits(folder, tokens())
    if form == "bin":
        as_torch_files(folder)
    assert len(list(folder.glob("*.index.json"))) == shards
    assert torch.allclose(our_logits(folder, tokens()), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "alias", "stored"),
    [
        ("llama-tied", "lm_head.weight", "model.embed_tokens.weight"),
        ("gpt2", "lm_head.weight", "transformer.wte.weight"),
        ("gemma", "lm_head.weight", "model.embed_tokens.weight"),
        ("opt", "lm_head.weight", "model.decoder.embed_tokens.weight"),
        ("mamba", "lm_head.weight", "backbone.embeddings.weight"),
    ],
)
def test_a_tied_head_that_the_file_leaves_out_has_its_name_again(
    tmp_path: Path, family: str, alias: str, stored: str
) -> None:
    checkpoint = load_checkpoint(write_folder(tmp_path, family))
    assert checkpoint.aliases == {alias: stored}
    assert np.array_equal(checkpoint.tensor(alias), checkpoint.tensor(stored))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox", "phi"])
def test_an_untied_head_is_no_alias(tmp_path: Path, family: str) -> None:
    assert load_checkpoint(write_folder(tmp_path, family)).aliases == {}


def test_a_gpt2_with_the_names_of_its_hub_and_its_masks_is_the_same_model(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "gpt2")
    expected = reference_logits(folder, tokens())
    mask = torch.tril(torch.ones(LENGTH, LENGTH)).view(1, 1, LENGTH, LENGTH)
    stored = load_file(folder / "model.safetensors")
    renamed = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    save_file(renamed | {f"h.{i}.attn.bias": mask.clone() for i in range(2)}, folder / "model.safetensors")
    assert load_checkpoint(folder).aliases["lm_head.weight"] == "wte.weight"
    assert torch.allclose(our_logits(folder, tokens()), expected, atol=1e-5)


def test_the_module_is_transformers_own_and_shares_the_memory_of_the_tensors(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_folder(tmp_path, "llama-tied"))
    state = {name: torch.tensor(array) for name, array in checkpoint.items()}
    model = build_transformers(checkpoint.companions["config.json"], state)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert not model.training
    assert model.model.norm.weight.data_ptr() == state["model.norm.weight"].data_ptr()
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_windows_are_as_long_as_the_config_says_and_at_most_2048(tmp_path: Path) -> None:
    assert found_model(load_checkpoint(write_folder(tmp_path / "a"))).seq_len == LENGTH
    long = load_checkpoint(write_folder(tmp_path / "b", max_position_embeddings=8192))
    assert found_model(long).seq_len == 2048
    assert found_model(load_checkpoint(write_folder(tmp_path / "c", "mamba"))).seq_len == 2048


def test_no_window_is_longer_than_what_the_config_says(tmp_path: Path) -> None:
    assert found_model(load_checkpoint(write_folder(tmp_path / "a", "gpt2"))).longest == LENGTH
    assert found_model(load_checkpoint(write_folder(tmp_path / "b", max_position_embeddings=8192))).longest == 8192
    assert found_model(load_checkpoint(write_folder(tmp_path / "c", "mamba"))).longest is None


def changed(folder: Path, **fields) -> Checkpoint:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return load_checkpoint(folder)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "pgpack never does; transformers has llama itself"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}, "model_type": "x"}, "never does; or give --model"),
        ({"model_type": "no_such_model"}, "no causal language model of type 'no_such_model'"),
        ({"model_type": "vit"}, "vit is none that goes on from text"),
        ({"model_type": "t5"}, "t5 is an encoder-decoder"),
        ({"model_type": "bart"}, "bart is an encoder-decoder"),
        ({"model_type": "bert"}, "bert is a masked model"),
        ({"model_type": "roberta"}, "roberta is a masked model"),
        ({"model_type": "rembert"}, "rembert is a masked model"),
        ({"model_type": "reformer"}, "ReformerModelWithLMHead cannot be built"),
        ({"num_attention_heads": 0}, "cannot be built|no config of a llama"),
        ({"num_hidden_layers": 3}, "needs model.layers.2.*which the checkpoint lacks"),
        ({"intermediate_size": 64}, "mlp.* has shape"),
        ({"num_attention_heads": "four"}, "no config of a llama model"),
    ],
)
def test_a_config_that_cannot_be_built_gets_one_sentence(tmp_path: Path, fields, sentence: str) -> None:
    (tmp_path / "modeling_x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    checkpoint = changed(write_folder(tmp_path), **fields)
    with pytest.raises(CheckpointError, match=sentence) as refused:
        find(wanted(checkpoint))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_how_attention_was_computed_elsewhere_is_no_demand(tmp_path: Path, name: str) -> None:
    assert found_model(changed(write_folder(tmp_path), **{name: "flash_attention_2"})).seq_len == LENGTH


def test_tensors_that_the_model_has_no_use_for_are_named(tmp_path: Path) -> None:
    found = found_model(changed(write_folder(tmp_path), num_hidden_layers=1))
    assert "LlamaForCausalLM" in found.how
    assert "first: model.layers.1.input_layernorm.weight" in found.how


def test_a_tokenizer_may_know_more_than_the_model_but_a_text_may_not(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = write_tokenizer(write_folder(tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|added|>"]})
    assert tokenizer.convert_tokens_to_ids("<|added|>") == VOCABULARY
    tokenizer.save_pretrained(folder)
    plain, strange = tmp_path / "plain.txt", tmp_path / "strange.txt"
    plain.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    strange.write_text("the quick brown fox <|added|> jumps over the lazy dog. " * 40)
    bench = pgpack.open_bench(folder, val=str(plain), calib="builtin", max_tokens=128, cache=False)
    assert bench.text.vocab_size == VOCABULARY
    assert bench.measure().bpb > 0
    with pytest.raises(DataError, match=f"holds token {VOCABULARY} and the model knows only {VOCABULARY} of"):
        pgpack.open_bench(folder, val=str(strange), calib="builtin", cache=False).measure()
    with pytest.raises(DataError, match=f"holds token {VOCABULARY} and the model knows only"):
        pgpack.open_bench(folder, val=str(plain), calib=str(strange), cache=False).calibrate(64)


def test_what_the_user_names_and_what_has_no_config_is_not_ours(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_folder(tmp_path))
    assert find(wanted(checkpoint, spec="adapter.py:build")) is None
    (tmp_path / "config.json").unlink()
    assert find(wanted(load_checkpoint(tmp_path))) is None


def test_the_digest_of_a_model_depends_on_its_config_and_on_transformers(tmp_path: Path) -> None:
    from importlib.metadata import version

    folder = write_folder(tmp_path)
    before, after = found_model(load_checkpoint(folder)), found_model(changed(folder, rms_norm_eps=1e-3))
    assert before.config != after.config
    assert list(before.code()) == [f"transformers {version('transformers')}"]
    assert found_model(changed(folder, rms_norm_eps=1e-6, _name_or_path="elsewhere")).config == before.config


def test_without_transformers_the_sentence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_checkpoint(write_folder(tmp_path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(ToolMissing, match=r"pip install 'pgpack\[hf\]'"):
        find(wanted(checkpoint))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("vocab_size", 2**31, r"has [\d,]+ parameters, and the checkpoint [\d,]+; the config is of another model"),
        ("intermediate_size", 10**9, r"has [\d,]+ parameters, and the checkpoint"),
        ("num_hidden_layers", 10**5, r"num_hidden_layers = 100,000, and the checkpoint has \d+ tensors"),
    ],
)
def test_a_config_of_a_far_larger_model_takes_no_memory(tmp_path: Path, field: str, value: int, told: str) -> None:
    folder = write_folder(tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=told):
        found_model(load_checkpoint(folder))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # kB
