"""What must be better is better, for each of three seeds, on the built-in corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pgtrain.bpb import TextEvaluator
from pgtrain.corpus import Document
from pgtrain.gpt import build
from pgtrain.model_config import GPTConfig
from pgtrain.text_folder import TextFolder, write_text_folder
from pgtrain.train import Trainer
from pgtrain.train_config import TrainConfig

WIDE = GPTConfig(vocab_size=512, num_layers=2, model_dim=64, num_heads=4, num_kv_heads=2, seq_len=64)
NARROW = replace(WIDE, model_dim=24)
TRAINING = TrainConfig(steps=200, batch_tokens=1024, warmup_steps=10, warmdown_steps=0, ema_decay=0.95,
                       muon_momentum_steps=50)  # fmt: skip
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def folder(corpus: list[Document], tmp_path_factory: pytest.TempPathFactory) -> TextFolder:
    path = tmp_path_factory.mktemp("ordering")
    write_text_folder(corpus, path, None, 512, 0.05)
    return TextFolder.open(path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_width_averaging_and_context_lower_the_loss_for_every_seed(folder: TextFolder, tmp_path: Path) -> None:
    rows = [measured(folder, seed, tmp_path) for seed in SEEDS]
    for row in rows:
        assert row["wide"] < row["narrow"], rows
        assert row["wide"] < row["last weights"], rows  # an average against no average, of the same run
        assert row["sliding"] < row["wide"], rows


def measured(folder: TextFolder, seed: int, place: Path) -> dict[str, float]:
    """Bits per byte of one seed in every way; `wide` is the average of the wide model, evaluated in full."""
    row = {}
    for name, model in (("narrow", NARROW), ("wide", WIDE)):
        trainer = Trainer(model, replace(TRAINING, seed=seed), folder, place / f"{name}-{seed}.safetensors")
        result = trainer.train(lambda step: None)
        assert result.val is not None
        row[name] = result.val.bpb
    raw = {name: parameter.detach().numpy() for name, parameter in trainer.model.named_parameters()}
    row["last weights"] = trainer.evaluator.evaluate(raw).bpb
    sliding = TextEvaluator(
        lambda state: build(WIDE, state),
        trainer.val_tokens,
        trainer.tokenizer.byte_tables,
        WIDE.seq_len,
        stride=16,
    )
    row["sliding"] = sliding.evaluate({name: tensor.numpy() for name, tensor in trainer.average.tensors.items()}).bpb
    return row
