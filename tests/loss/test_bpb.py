"""Bits per byte and KL are what their formulas say."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pgpack.bench.options import BenchOptions
from pgpack.bench.text import Text, open_text
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.errors import CheckpointError, DataError
from pgpack.loss import bpb
from pgpack.loss.bpb import TextEvaluator, trim
from pgpack.loss.evaluator import Evaluator
from pgpack.text.corpus import read_text_folder
from pgpack.text.data import write_shards
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import build
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import tensor_shapes


def random_tensors(config: GPTConfig, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: rng.normal(0, 0.2, s).astype(np.float32) for n, s in tensor_shapes(config).items()}


@pytest.fixture
def tokenizer_400(text_folder: TextFolder) -> SentencePiece:
    return SentencePiece.load(text_folder.tokenizer_path)


def evaluator(tiny: GPTConfig, text_folder: TextFolder, tokenizer: SentencePiece, **options) -> TextEvaluator:
    tokens = read_text_folder(text_folder, 400)[1]
    options = {"seq_len": 32, "max_tokens": 700, **options}
    text = tokenizer.byte_tables.counted(tokens)
    return TextEvaluator(lambda state: build(tiny, state), text, tokenizer.vocab_size, **options)


def test_bpb_equals_the_sum_token_by_token(
    tiny: GPTConfig, text_folder: TextFolder, tokenizer_400: SentencePiece
) -> None:
    tensors = random_tensors(tiny, 0)
    loss = evaluator(tiny, text_folder, tokenizer_400).evaluate(tensors)
    tokens = read_text_folder(text_folder, 400)[1][: 21 * 32 + 1].astype(np.int64)
    model = build(tiny, {name: torch.from_numpy(array) for name, array in tensors.items()})
    nats = 0.0
    for window in range(21):
        ids = torch.from_numpy(tokens[window * 32 : (window + 1) * 32])[None]
        logits = model.forward_logits(ids)[0].double().numpy()
        for t in range(32):
            row = logits[t]
            nats += math.log(np.exp(row).sum()) - row[tokens[window * 32 + t + 1]]
    text = tokenizer_400.decode(tokens)
    first = tokenizer_400.decode(tokens[:1])
    assert loss.n_tokens == 21 * 32
    assert loss.n_text_bytes == len(text.encode()) - len(first.encode())
    assert loss.nats == pytest.approx(nats / loss.n_tokens, rel=1e-6)
    assert loss.bpb == pytest.approx(nats / math.log(2) / loss.n_text_bytes, rel=1e-6)
    assert loss.kl is None


def test_kl_equals_its_definition_and_is_zero_to_itself(
    tiny: GPTConfig, text_folder: TextFolder, tokenizer_400: SentencePiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, other = random_tensors(tiny, 0), random_tensors(tiny, 1)
    cached = evaluator(tiny, text_folder, tokenizer_400, reference=reference)
    assert cached.evaluate(reference).kl == 0.0
    p, q = (
        build(tiny, {n: torch.from_numpy(a) for n, a in tensors.items()})
        .forward_logits(torch.from_numpy(cached.tokens[:-1].astype(np.int64)).view(-1, 32))
        .double()
        .softmax(-1)
        for tensors in (reference, other)
    )
    expected = float((p * (p / q).log()).sum()) / cached.n_tokens
    assert cached.evaluate(other).kl == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(bpb, "REFERENCE_BYTES", 0)
    beside = evaluator(tiny, text_folder, tokenizer_400, reference=reference)
    assert beside.evaluate(other).kl == cached.evaluate(other).kl


@pytest.mark.parametrize("options", [{}, {"stride": 8}, {"max_tokens": 32 * 100, "batch_tokens": 96}])
def test_blocks_add_up_and_their_errors_are_those_of_the_losses_token_by_token(
    tiny: GPTConfig, text_folder: TextFolder, tokenizer_400: SentencePiece, options: dict[str, int]
) -> None:
    reference, other = random_tensors(tiny, 0), random_tensors(tiny, 1)
    measured = evaluator(tiny, text_folder, tokenizer_400, reference=reference, **options)
    loss = measured.evaluate(other)
    n = len(loss.block_bytes)
    assert n == min(64, len(measured.windows))
    assert sum(loss.block_bytes) == loss.n_text_bytes
    nats = [measured.token_nats(measured.module(tensors)).astype(np.float64) for tensors in (other, reference)]
    starts = measured.windows.first_targets[[i * len(measured.windows) // n for i in range(n)]]
    excess = np.add.reduceat(nats[0] - nats[1], starts)
    np.testing.assert_allclose(loss.block_excess, excess, rtol=1e-4, atol=1e-3)
    difference = excess.sum() / math.log(2) / loss.n_text_bytes
    residuals = excess / math.log(2) - difference * np.array(loss.block_bytes)
    expected = math.sqrt(n / (n - 1) * (residuals**2).sum()) / loss.n_text_bytes
    assert loss.bpb_se == pytest.approx(expected, rel=1e-4)
    assert loss.kl_se is not None
    assert 0 < loss.kl_se < loss.kl
    assert measured.evaluate(reference).bpb_se == pytest.approx(0, abs=1e-12)


def test_evaluation_leaves_the_tensors_alone_and_does_not_depend_on_batching(
    tiny: GPTConfig, text_folder: TextFolder, tokenizer_400: SentencePiece
) -> None:
    tensors = random_tensors(tiny, 0)
    for array in tensors.values():
        array.flags.writeable = False
    one, many = (evaluator(tiny, text_folder, tokenizer_400, batch_tokens=n).evaluate(tensors) for n in (32, 10_000))
    assert one.nats == pytest.approx(many.nats, rel=1e-6)
    assert one.n_text_bytes == many.n_text_bytes


def test_the_digest_names_the_text_and_the_way(
    tiny: GPTConfig, text_folder: TextFolder, tokenizer_400: SentencePiece
) -> None:
    def digest(**options) -> str:
        made: Evaluator = evaluator(tiny, text_folder, tokenizer_400, **options)
        return made.digest

    assert digest() == digest(batch_tokens=64)
    others = [digest(), digest(seq_len=16), digest(max_tokens=64), digest(tokenizer_sha256="x")]
    assert len(set(others)) == 4


def test_text_is_trimmed_to_whole_windows() -> None:
    tokens = np.arange(100, dtype=np.uint16)
    assert len(trim(tokens, 33)) == 100
    assert len(trim(tokens, 32)) == 97
    assert len(trim(tokens, 32, max_tokens=70)) == 65
    with pytest.raises(DataError, match="too few for one window of 100"):
        trim(tokens, 100)


def test_any_module_that_gives_logits_is_measured(text_folder: TextFolder, tokenizer_400: SentencePiece) -> None:
    text = tokenizer_400.byte_tables.counted(read_text_folder(text_folder, 400)[1][:321])

    class Table(nn.Module):
        def __init__(self, table: torch.Tensor) -> None:
            super().__init__()
            self.table = nn.Parameter(table)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.table[ids]

    made = TextEvaluator(lambda s: Table(s["table"]), text, 400, 64)
    assert made.evaluate({"table": np.zeros((400, 400), np.float32)}).nats == pytest.approx(math.log(400))
    with pytest.raises(DataError, match="not a finite number"):
        made.evaluate({"table": np.full((400, 400), np.nan, np.float32)})
    for module in (nn.Embedding(400, 4), nn.Flatten()):
        wrong = TextEvaluator(lambda state, module=module: module, text, 400, 64)
        with pytest.raises(DataError, match=r"must return logits of shape \(batch, tokens, 400"):
            wrong.evaluate({})


def text_of(path: Path, metadata: dict[str, str], tensors: Any, **options: Any) -> Text:
    return open_text(path, from_tensors(tensors, metadata), BenchOptions(**options))


def metadata_of(tiny: GPTConfig, folder: Path, tokenizer: SentencePiece, seq_len: int = 32) -> dict[str, str]:
    defaults = {"val": "*_val_*.bin", "calib": "*_train_*.bin", "tokenizer": "tokenizer.model", "seq_len": seq_len}
    return {
        "model_config": tiny.to_json(),
        "tokenizer_sha256": tokenizer.sha256,
        "data_defaults": json.dumps(defaults),
    }


def test_a_checkpoint_knows_its_text_and_flags_win(
    tiny: GPTConfig, shard_folder: Path, tokenizer_400: SentencePiece
) -> None:
    tensors = random_tensors(tiny, 0)
    metadata = metadata_of(tiny, shard_folder, tokenizer_400)
    text = text_of(shard_folder / "model.safetensors", metadata, tensors, max_tokens=640)
    assert (text.seq_len, text.n_tokens) == (32, 640)
    loss = text.evaluator(tensors).evaluate(tensors)
    assert loss.kl == 0.0
    assert len(text.calib_tokens) > 10_000
    shorter = text_of(shard_folder / "model.safetensors", metadata, tensors, max_tokens=640, seq_len=16)
    assert (shorter.seq_len, shorter.n_tokens) == (16, 640)
    by_shapes = text_of(
        shard_folder / "m.pt",
        {},
        tensors,
        val=str(shard_folder / "*_val_*.bin"),
        tokenizer=shard_folder / "tokenizer.model",
        seq_len=32,
        max_tokens=640,
        model="baseline",
    )
    assert by_shapes.evaluator().evaluate(tensors).nats == loss.nats
    with pytest.raises(DataError, match="--calib GLOB"):
        _ = by_shapes.calib_tokens


def test_calibration_on_the_evaluated_text_is_refused(
    tiny: GPTConfig, shard_folder: Path, tokenizer_400: SentencePiece
) -> None:
    metadata = metadata_of(tiny, shard_folder, tokenizer_400)
    text = text_of(
        shard_folder / "m.safetensors", metadata, random_tensors(tiny, 0), calib=str(shard_folder / "*_val_*.bin")
    )
    with pytest.raises(DataError, match=r"100\.0% of the evaluated text also occurs.*--calib"):
        _ = text.calib_tokens


def test_missing_parts_say_which_flag_to_give(
    tiny: GPTConfig, shard_folder: Path, tokenizer_400: SentencePiece, tmp_path: Path
) -> None:
    path, tensors = tmp_path / "m.safetensors", random_tensors(tiny, 0)
    val, model = str(shard_folder / "*_val_*.bin"), shard_folder / "tokenizer.model"
    with pytest.raises(DataError, match="--val GLOB"):
        text_of(path, {}, tensors, tokenizer=model)
    with pytest.raises(DataError, match=r"--tokenizer PATH"):
        text_of(path, {}, tensors, val=val)
    with pytest.raises(DataError, match=r"no model with these tensors reads this text.*--model NAME"):
        text_of(path, {}, tensors, val=val, tokenizer=model)
    with pytest.raises(DataError, match="is not the tokenizer"):
        text_of(path, {"tokenizer_sha256": "0" * 64}, tensors, val=val, tokenizer=model, seq_len=32)
    with pytest.raises(DataError, match="unknown device"):
        text_of(path, {}, tensors, val=val, tokenizer=model, seq_len=32, device="abacus")
    with pytest.raises(CheckpointError, match=r"--model FILE\.py:build"):
        text_of(path, {}, {"w": tensors["skip_weights"]}, val=val, tokenizer=model, seq_len=32)
    other = dataclasses.replace(tiny, vocab_size=410)
    with pytest.raises(DataError, match="410 tokens, the tokenizer one of 400"):
        text_of(path, {"model_config": other.to_json()}, tensors, val=val, tokenizer=model)
    write_shards(np.full(100, 900, np.uint16), tmp_path, "odd_val")
    with pytest.raises(DataError, match="holds token 900"):
        text_of(path, {}, tensors, val=str(tmp_path / "odd_val_*.bin"), tokenizer=model, seq_len=32)


def test_a_users_model_file_builds_the_module(
    tiny: GPTConfig, shard_folder: Path, tokenizer_400: SentencePiece, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text(
        "import torch\n"
        "class Bigram(torch.nn.Module):\n"
        "    def __init__(self, table):\n"
        "        super().__init__()\n"
        "        self.table = torch.nn.Parameter(table)\n"
        "    def forward(self, ids):\n"
        "        return self.table[ids]\n"
        "def build(state_dict):\n"
        "    return Bigram(state_dict['table'])\n"
        "def broken(state_dict):\n"
        "    return 3\n"
    )
    tensors = {"table": np.zeros((400, 400), np.float32)}
    options = {"val": str(shard_folder / "*_val_*.bin"), "tokenizer": shard_folder / "tokenizer.model", "seq_len": 32}
    for spec in (f"{adapter}:build", str(adapter)):
        text = text_of(tmp_path / "m.pt", {}, tensors, model=spec, max_tokens=320, **options)
        assert text.evaluator().evaluate(tensors).nats == pytest.approx(math.log(400))
    with pytest.raises(DataError, match="no function nothing"):
        text_of(tmp_path / "m.pt", {}, tensors, model=f"{adapter}:nothing", **options)
    with pytest.raises(DataError, match="does not exist"):
        text_of(tmp_path / "m.pt", {}, tensors, model="no.py:build", **options)
    text = text_of(tmp_path / "m.pt", {}, tensors, model=f"{adapter}:broken", max_tokens=320, **options)
    with pytest.raises(DataError, match="returned a int"):
        text.evaluator().evaluate(tensors)


def test_tokens_that_stand_for_no_text_give_no_bits_per_byte(tokenizer_400: SentencePiece) -> None:
    tokens = np.full(321, tokenizer_400.bos_id, np.uint16)

    class Even(nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*ids.shape, 400)

    made = TextEvaluator(lambda s: Even(), tokenizer_400.byte_tables.counted(tokens), 400, 64)
    with pytest.raises(DataError, match="the evaluated tokens stand for no text: all of them are special ones"):
        made.evaluate({"table": np.zeros(1, np.float32)})
