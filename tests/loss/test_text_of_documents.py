"""Bits per byte on documents: exact to the byte, whatever the tokenizer; calibration keeps off what is evaluated."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgpack
from pgpack.bench.options import BenchOptions
from pgpack.bench.text import Text, open_text
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import DataError
from pgpack.text.data import overlap_fraction, read_tokens, write_shards
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.text.json_tokenizer import JsonTokenizer
from pgpack.text.shard_files import shard_length
from tests.commands.workshop import pgpack as command
from tests.commands.workshop import succeed
from tests.models.tiny_hf import LENGTH, VOCABULARY, write_folder
from tests.text.made_tokenizers import byte_level, sentence_piece

transformers = pytest.importorskip("transformers")
SENTENCE = "the cat sat on a mat and then it ran off to see the sun in"
WORDS = [*SENTENCE.split(), "Zürich", "漢字", "🙂", "ﬁne"]


def documents(n: int, seed: int = 0) -> list[str]:
    choose = random.Random(seed)
    return [f"Document {seed}.{i}:\n\n" + " ".join(choose.choices(WORDS, k=80)) + "." for i in range(n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama folder with a byte-level tokenizer of 300 pieces."""
    folder = write_folder(tmp_path_factory.mktemp("llama"))
    byte_level(VOCABULARY).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes("\0\n".join(text + "\n" for text in documents(40)).encode())
    return path


def opened(folder: Path, **options: Any) -> Text:
    return open_text(folder, load_checkpoint(folder), BenchOptions(**options))


def test_bits_per_byte_are_nats_by_hand_over_the_bytes_of_the_text(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("".join(documents(6)), encoding="utf-8")
    whole = (tmp_path / "val.txt").read_text(encoding="utf-8")
    text = opened(folder, val=str(tmp_path / "val.txt"))
    loss = text.evaluator().evaluate(dict(load_checkpoint(folder).items()))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ids = theirs(whole)["input_ids"]
    n = (len(ids) - 1) // LENGTH * LENGTH
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    windows = torch.tensor(ids[:n]).view(-1, LENGTH)
    with torch.no_grad():
        logits = model(windows).logits.double().log_softmax(-1)
    nats = -logits.flatten(0, 1)[torch.arange(n), torch.tensor(ids[1 : n + 1])].sum().item()
    # Byte-level pieces are written with one character a byte.
    pieces = [theirs.convert_ids_to_tokens(token) for token in ids[1 : n + 1]]
    assert (loss.n_tokens, text.seq_len) == (n, LENGTH)
    assert loss.n_text_bytes == sum(map(len, pieces))
    assert loss.bpb == pytest.approx(nats / math.log(2) / sum(map(len, pieces)), rel=1e-6)


def test_the_bytes_of_a_whole_text_are_its_size_to_the_byte(folder: Path, tmp_path: Path) -> None:
    """A window of one token reaches every end: all but the first token are scored."""
    (tmp_path / "settings").mkdir()
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        (tmp_path / "settings" / name).write_bytes((folder / name).read_bytes())
    settings = {"add_bos_token": True, "bos_token": "<|endoftext|>"}
    (tmp_path / "settings" / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "val.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(3)))
    text = opened(tmp_path / "settings", val=str(tmp_path / "val.jsonl"), seq_len=1)
    assert text.val.scored_bytes == sum(len(text.encode()) for text in documents(3))
    loss = text.evaluator().evaluate(dict(load_checkpoint(folder).items()))
    assert loss.n_text_bytes == text.val.scored_bytes


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf"])
def test_normalized_text_counts_by_the_bytes_that_were_written(rule: str, folder: Path, tmp_path: Path) -> None:
    model = sentence_piece(documents(60), vocab_size=VOCABULARY, normalization_rule_name=rule)
    (tmp_path / "t.model").write_bytes(model)
    (tmp_path / "val.txt").write_text("\n\n  ".join(documents(4)), encoding="utf-8")
    text = opened(folder, val=str(tmp_path / "val.txt"), tokenizer=str(tmp_path / "t.model"), seq_len=1)
    assert text.val.scored_bytes == (tmp_path / "val.txt").stat().st_size
    tokens = load_tokenizer(tmp_path / "t.model").byte_tables.counted(text.val_tokens)
    assert tokens.scored_bytes < text.val.scored_bytes  # what the pieces look like is not what was written


def test_equal_tokens_of_other_bytes_are_another_evaluation(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.model").write_bytes(
        sentence_piece(documents(60), normalization_rule_name="nmt_nfkc", vocab_size=300)
    )
    digests, tokens = [], []
    for gap in (" ", "   "):
        (tmp_path / "val.txt").write_text(gap.join(" ".join(documents(4)).split()), encoding="utf-8")
        text = opened(folder, val=str(tmp_path / "val.txt"), tokenizer=str(tmp_path / "t.model"))
        digests.append(text.evaluator().digest)
        tokens.append(text.val_tokens.tolist())
    assert tokens[0] == tokens[1]
    assert digests[0] != digests[1]


def test_documents_are_split_and_both_sides_are_read(folder: Path, text: Path) -> None:
    found = opened(folder, text=(str(text),))
    tokenizer = load_tokenizer(folder)
    val, calib = (tokenizer.decode(tokens) for tokens in (found.val_tokens, found.calib_tokens))
    names = [f"Document 0.{i}:" for i in range(40)]
    sides = [{name for name in names if name in side} for side in (val, calib)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) >= 38  # the last windows may be cut
    assert len(found.first_calib_tokens(100)) == 100
    again, shorter = opened(folder, text=(str(text),)), opened(folder, text=(str(text),), max_tokens=64)
    assert found.split_digest == again.split_digest != shorter.split_digest  # it names the documents that validate
    assert any("documents validate" in note for note in found.notes)


def test_calibration_on_evaluated_documents_is_refused(folder: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_bytes(b"other words\n\0\n" + text.read_bytes())
    with pytest.raises(DataError, match=r"of the evaluated text also occurs in the calibration text .*calib\.txt"):
        opened(folder, val=str(text), calib=str(tmp_path / "calib.txt"))
    with pytest.raises(DataError, match="give either text, or val and calib"):
        opened(folder, text=(str(text),), val=str(text))


def test_windows_are_as_long_as_a_short_text_allows_and_that_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a sun in Zürich, ", encoding="utf-8")
    with pytest.raises(DataError, match="too few for one window of 64"):
        opened(folder, val=str(tmp_path / "a.txt"), seq_len=64)
    text = opened(folder, val=str(tmp_path / "a.txt"))
    assert text.seq_len == 16
    assert "windows of 16 tokens: the validation text has" in " ".join(text.notes)


def test_a_text_is_asked_for_with_every_way_to_give_it(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names no validation text; give text as --text PATH .*builtin.*--val GLOB"):
        opened(folder)
    bare = write_folder(tmp_path / "bare")
    with pytest.raises(DataError, match=r"names no validation text and no tokenizer; .*--tokenizer PATH"):
        opened(bare)
    with pytest.raises(
        DataError, match=r"names no tokenizer; give it as --tokenizer PATH \(a SentencePiece \.model, a tokenizer\.js"
    ):
        opened(bare, text=("builtin",))


def test_the_python_door_takes_what_flags_take(folder: Path, text: Path) -> None:
    bench = pgpack.open_bench(folder, text=text, max_tokens=256, cache=False)
    assert bench.measure().n_tokens == 256
    assert bench.calibrate(128).n_tokens == 128
    several = pgpack.open_bench(folder, text=[text, text.parent], max_tokens=256, cache=False)
    assert several.measure().bpb == bench.measure().bpb
    sides = pgpack.open_bench(folder, val=str(text), calib="builtin", max_tokens=256, cache=False)
    assert sides.measure().n_tokens == 256


WIDE = 70_000


def test_tokens_of_32_bits_are_kept_apart_in_shards_and_evaluated(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "llama-tied", vocab_size=WIDE, hidden_size=8)
    backend = byte_level(VOCABULARY)
    backend.add_tokens([f"[{number}]" for number in range(WIDE - VOCABULARY)])
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = JsonTokenizer(backend.to_str().encode(), "t")
    choose = np.random.default_rng(0)
    texts = [" ".join(f"[{n}]" for n in choose.integers(66_000, WIDE - VOCABULARY, 200)) for _ in range(6)]
    tokens = np.concatenate([tokenizer.encode(text).tokens for text in texts])
    paths = [*write_shards(tokens[:1200], tmp_path, "x_val"), *write_shards(tokens[1200:], tmp_path, "x_train")]
    assert [path.stat().st_size for path in paths] == [1024 + 4 * 1200, 1024 + 4 * (len(tokens) - 1200)]
    assert shard_length(paths[0]) == 1200
    assert read_tokens(paths).tolist() == tokens.tolist()
    text = opened(folder, val=str(tmp_path / "x_val_*.bin"), calib=str(tmp_path / "x_train_*.bin"), max_tokens=640)
    assert text.val_tokens.dtype == np.uint32
    assert text.val.scored_bytes == len(tokenizer.decode(tokens[1:641]).encode())
    assert len(text.calib_tokens) == len(tokens) - 1200
    loss = text.evaluator().evaluate(dict(load_checkpoint(folder).items()))
    assert loss.nats == pytest.approx(math.log(WIDE), rel=0.1)
    with pytest.raises(DataError, match=r"100\.0% of the evaluated text"):
        opened(folder, val=str(tmp_path / "x_val_*.bin"), calib=str(tmp_path / "x_val_*.bin"))


def test_overlap_of_large_tokens_is_that_of_small_ones() -> None:
    small = np.random.default_rng(0).integers(0, 2000, 4000)
    large = small.astype(np.uint32) + 130_000
    assert overlap_fraction(large[:3000], large[2000:], 8) == overlap_fraction(
        small[:3000].astype(np.uint16), small[2000:].astype(np.uint16), 8
    )
    assert overlap_fraction(large[:2000], large[2000:], 8) == 0.0
    assert overlap_fraction(large[:3000], (large + 65_536)[2000:], 8) == 0.0


def test_an_artifact_of_a_folder_is_evaluated_on_a_text_alone(folder: Path, text: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "a.pgpack"
    succeed(command("pack", folder, "--recipe", "*=cast(dtype=fp32)|raw", "-o", artifact, "-q"))
    flags = ("--text", text, "--max-tokens", 256, "-q", "--json")
    alone, whole = (succeed(command("eval", each, *flags)).json for each in (artifact, folder))
    assert (alone["bpb"], alone["evaluator_digest"]) == (whole["bpb"], whole["evaluator_digest"])
    assert succeed(command("verify", artifact, "--eval", *flags)).json["bpb"] == whole["bpb"]
    refused = command("eval", artifact, "-q")
    assert (refused.code, "--text PATH" in refused.err) == (2, True)
