"""A GGUF is the model that it was made from: tensors, config and tokenizer, for the families that have all three."""

from __future__ import annotations

import json
import struct
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError, ToolMissing
from pgpack.formats.gguf.families import FAMILIES, LLAMA3, llama3_factors
from pgpack.formats.gguf.reader import read_gguf
from pgpack.text.sentence_piece import train_tokenizer

from .test_huggingface import found_model, our_logits
from .tiny_gguf import write_gguf
from .tiny_hf import tiny_model, tokens

pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself
WIDE = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_model_that_was_converted(tmp_path: Path, family: str) -> None:
    model = write_gguf(tmp_path / "tiny.gguf", family)
    with torch.no_grad():
        expected = model(tokens()).logits
    assert torch.allclose(our_logits(tmp_path / "tiny.gguf", tokens()), expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes_are_those_of_transformers_and_lead_back(tmp_path: Path, family: str) -> None:
    model = write_gguf(tmp_path / "tiny.gguf", family)
    checkpoint = load_checkpoint(tmp_path / "tiny.gguf")
    assert {name: tuple(p.shape) for name, p in model.state_dict().items()} == checkpoint.shapes
    assert all(np.array_equal(p, checkpoint.tensor(name)) for name, p in model.state_dict().items())
    known = FAMILIES[family]
    file = read_gguf(tmp_path / "tiny.gguf")
    heads = {"q": model.config.num_attention_heads, "k": getattr(model.config, "num_key_value_heads", 0)}
    for name in file.tensors:
        ours = known.renamed(name)
        assert ours is not None
        assert known.llamacpp_name(ours) == name
        assert np.array_equal(known.to_llamacpp(name, checkpoint.tensor(ours), heads), file.load(name))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_types_come_back_as_the_package_gguf_dequantizes_them(tmp_path: Path, kind: str) -> None:
    write_gguf(tmp_path / "tiny.gguf", "llama", kind, model=tiny_model("llama", **WIDE))
    checkpoint = load_checkpoint(tmp_path / "tiny.gguf")
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors}
    for name in ("blk.0.ffn_up.weight", "token_embd.weight"):
        expected = gguf.quants.dequantize(reference[name].data, reference[name].tensor_type)
        found = checkpoint.tensor(FAMILIES["llama"].renamed(name))
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", [k for k in gguf.GGMLQuantizationType if k in gguf.quants._type_traits])
def test_every_type_that_the_package_dequantizes_is_read(tmp_path: Path, kind) -> None:
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    contents = np.random.default_rng(0).integers(0, 60, (3, 2 * n_bytes), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "other")
    writer.add_tensor("some.weight", contents, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = load_checkpoint(tmp_path / "one.gguf")
    assert checkpoint.shapes == {"some.weight": (3, 2 * block)}
    assert np.array_equal(checkpoint.load("some.weight"), gguf.quants.dequantize(contents, kind), equal_nan=True)


def test_another_architecture_is_plain_tensors_with_a_note(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", "llama", model=tiny_model("llama"))
    data = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "tiny.gguf").write_bytes(data.replace(b"llama", b"gemma"))
    checkpoint = load_checkpoint(tmp_path / "tiny.gguf")
    assert not checkpoint.companions
    assert "blk.0.attn_q.weight" in checkpoint.shapes
    assert "models of gemma" in checkpoint.notes[0]
    assert checkpoint.metadata["gguf"] == "1"
    assert checkpoint.metadata["gguf.gemma.block_count"] == "2"


def test_llama_3s_table_of_rotary_factors_is_said_by_the_config(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 500_000.0, **LLAMA3}
    model = tiny_model("llama", rope_parameters=scaling, max_position_embeddings=16384)

    def table(factors):
        def add(writer) -> None:
            writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))

        return add

    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", model=model, tokenizer=table(llama3_factors(8, 500_000.0, 8.0)))
    with torch.no_grad():
        expected = model(tokens()).logits
    assert torch.allclose(our_logits(path, tokens()), expected, atol=1e-4)
    write_gguf(path, "llama", model=model, tokenizer=table(np.linspace(1, 8, 4)))
    assert "not Llama 3's" in load_checkpoint(path).notes[0]


@pytest.mark.parametrize("length", [32, 256, 8192])
def test_a_table_says_on_which_length_the_model_was_trained(tmp_path: Path, length: int) -> None:
    told = {**LLAMA3, "original_max_position_embeddings": length}
    scaling = {"rope_type": "llama3", "factor": 4.0, "rope_theta": 10_000.0, **told}
    model = tiny_model("llama", rope_parameters=scaling, max_position_embeddings=16384)

    def add(writer) -> None:
        writer.add_tensor("rope_freqs.weight", llama3_factors(8, 10_000.0, 4.0, told).astype(np.float32))

    write_gguf(tmp_path / "tiny.gguf", "llama", model=model, tokenizer=add)
    with torch.no_grad():
        assert torch.allclose(our_logits(tmp_path / "tiny.gguf", tokens()), model(tokens()).logits, atol=1e-4)


def test_biases_of_a_mlp_are_read(tmp_path: Path) -> None:
    model = tiny_model("llama", mlp_bias=True, attention_bias=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-1, 1)
        expected = model(tokens()).logits
    write_gguf(tmp_path / "tiny.gguf", "llama", model=model)
    assert torch.allclose(our_logits(tmp_path / "tiny.gguf", tokens()), expected, atol=1e-4)


TEXTS = [
    "Hello world, it's 2024 -- 3.14159 and 42!",
    "  two spaces\n\n\tand a tab,\r\nlines   \n",
    "naïve café, 東京 \U0001f600 \u0939\u093f\u0928\u094d\u0926\u0940",
    "def f(x):\n    return x ** 2  # square\n",
    "",
]


def byte_level(pre: str, patterns: list):
    """A small byte-level BPE cut by `patterns`, and what writes it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE())
    cuts = [
        pre_tokenizers.Split(pattern, "isolated") if isinstance(pattern, str) else pattern for pattern in patterns
    ]
    found.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(TEXTS * 3, trainer)
    model = json.loads(found.to_str())["model"]

    def write(writer) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        names = sorted(model["vocab"], key=model["vocab"].__getitem__)
        writer.add_token_list(names)
        writer.add_token_types([3] + [1] * (len(names) - 1))
        writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
        writer.add_bos_token_id(0)
        writer.add_add_bos_token(False)

    return found, write


def rebuilt(path: Path):
    from tokenizers import Tokenizer

    return Tokenizer.from_str(load_checkpoint(path).companions["tokenizer.json"].decode())


def test_a_byte_level_tokenizer_is_rebuilt(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cuts = {"gpt-2": [level], "smollm": [pre_tokenizers.Digits(individual_digits=True), level]}
    for pre, patterns in cuts.items():
        original, write = byte_level(pre, patterns)
        write_gguf(tmp_path / "tiny.gguf", "llama", tokenizer=write)
        found = rebuilt(tmp_path / "tiny.gguf")
        for text in [*TEXTS, "<|endoftext|>after"]:
            assert found.encode(text).ids == original.encode(text).ids
            assert found.decode(found.encode(text).ids) == text.replace("<|endoftext|>", "")
            assert found.encode(text).offsets == original.encode(text).offsets


def test_a_sentencepiece_tokenizer_is_rebuilt(tmp_path: Path) -> None:
    original = train_tokenizer(TEXTS * 30, 400)
    sp = original.processor

    def write(writer) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([sp.id_to_piece(i) for i in range(400)])
        writer.add_token_scores([sp.get_score(i) for i in range(400)])
        kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(400)]
        writer.add_token_types(kinds)
        writer.add_bos_token_id(sp.bos_id())
        writer.add_unk_token_id(sp.unk_id())
        writer.add_add_space_prefix(False)

    write_gguf(tmp_path / "tiny.gguf", "llama", tokenizer=write)
    found = rebuilt(tmp_path / "tiny.gguf")
    for text in ("Hello world, it's 2024", "naive 東京 lines", "def f(x): return x ** 2"):
        assert found.encode(text).ids == [sp.bos_id(), *sp.encode(text)]
        assert found.decode(found.encode(text).ids) == text
    assert (
        json.loads(load_checkpoint(tmp_path / "tiny.gguf").companions["tokenizer_config.json"])["bos_token"] == "<s>"
    )


def test_transformers_loads_the_folder_that_a_gguf_stands_for(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    original, write = byte_level("gpt-2", [pre_tokenizers.ByteLevel(add_prefix_space=False)])
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    write_gguf(tmp_path / "tiny.gguf", "llama", tokenizer=write, tokenizer__chat_template=template)
    for name, contents in load_checkpoint(tmp_path / "tiny.gguf").companions.items():
        (tmp_path / name).write_bytes(contents)
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert found(TEXTS[0]).input_ids == original.encode(TEXTS[0]).ids
    assert found.bos_token == "<|endoftext|>"
    assert found.apply_chat_template([{"content": "hi"}], tokenize=False) == "hi"


def test_a_tokenizer_that_is_not_known_is_left_out_with_a_note(tmp_path: Path) -> None:
    _, write = byte_level("some-other", ["x"])
    write_gguf(tmp_path / "tiny.gguf", "llama", tokenizer=write)
    checkpoint = load_checkpoint(tmp_path / "tiny.gguf")
    assert "tokenizer.json" not in checkpoint.companions
    assert "pre-tokenizer 'some-other'" in checkpoint.notes[0]
    assert found_model(checkpoint).seq_len == 64


def test_a_damaged_gguf_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama")
    data = path.read_bytes()
    for end in (*range(4, 600, 7), len(data) // 2, len(data) - 4):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError, match=r"tiny\.gguf"):
            load_checkpoint(path)
    path.write_bytes(data[:4] + struct.pack("<I", 1) + data[8:])
    with pytest.raises(CheckpointError, match="version 1"):
        load_checkpoint(path)
    for at in range(8, 900, 5):
        path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
        with suppress(CheckpointError):
            load_checkpoint(path)


def test_the_parts_of_a_gguf_are_one_model_whichever_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.gguf"
    model = write_gguf(whole, "qwen2")
    write_gguf(tmp_path / "tiny.gguf", "qwen2", model=model, each=9)
    parts = sorted(tmp_path.glob("tiny-*.gguf"))
    assert [path.name for path in parts] == [f"tiny-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    expected = load_checkpoint(whole)
    for part in parts:
        found = load_checkpoint(part)
        assert found.digest == expected.digest
        assert found.companions["config.json"] == expected.companions["config.json"]
    with torch.no_grad():
        assert torch.allclose(our_logits(parts[1], tokens()), model(tokens()).logits, atol=1e-4)


def test_a_gguf_that_lacks_a_part_or_has_a_wrong_one_is_one_sentence(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", "llama", each=9)
    one, two, three = sorted(tmp_path.glob("tiny-*.gguf"))
    other = one.rename(tmp_path / "renamed.gguf")
    with pytest.raises(CheckpointError, match=r"its name must end in -0000N-of-00003\.gguf"):
        load_checkpoint(other)
    with pytest.raises(CheckpointError, match=r"tiny-00001-of-00003\.gguf: missing"):
        load_checkpoint(two)
    other.rename(one)
    three.write_bytes(two.read_bytes())
    with pytest.raises(CheckpointError, match="another part than its name says"):
        load_checkpoint(one)


def test_without_the_package_gguf_the_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "plain.gguf", "llama")
    write_gguf(tmp_path / "tiny.gguf", "llama", "Q8_0", model=tiny_model("llama", **WIDE))
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setitem(sys.modules, "gguf.constants", None)
    assert load_checkpoint(tmp_path / "plain.gguf").tensor("model.norm.weight").shape == (32,)
    with pytest.raises(ToolMissing, match=r"pip install 'pgpack\[gguf\]'"):
        load_checkpoint(tmp_path / "tiny.gguf")
