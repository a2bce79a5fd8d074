"""What must be better is better: a -tiny preset on the built-in corpus, for each of three seeds.

    python -m pytest -m slow -s tests/training/test_ordering.py     about ten minutes on two cores, prints the figures

Two trainings per seed: the preset as it is, and at half its width. The average of the weights against none and
sliding windows against whole ones are measured on the first of them; the average also at the last step at the full
rate, because a warmdown to zero averages by itself.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pgpack.loss.bpb import TextEvaluator
from pgpack.text.corpus import write_text_folder
from pgpack.text.documents import Document
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import build
from pgtrain.presets import PRESETS
from pgtrain.training.run_log import StepRow
from pgtrain.training.train import Trainer

PRESET = PRESETS["baseline-tiny"]
NARROW = replace(PRESET.model, model_dim=PRESET.model.model_dim // 2)
STRIDE = 64
TOKENS = 16_384


@pytest.fixture(scope="module")
def folder(corpus: list[Document], tmp_path_factory: pytest.TempPathFactory) -> TextFolder:
    """The built-in corpus as `pgtrain data` writes it."""
    path = tmp_path_factory.mktemp("ordering")
    write_text_folder(corpus, path, None, PRESET.model.vocab_size, 0.08)
    return TextFolder.open(path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_width_averaging_and_context_lower_the_loss(seed: int, folder: TextFolder, tmp_path: Path) -> None:
    row = measured(folder, seed, tmp_path)
    assert row["wide"] < row["narrow"], row
    assert row["average at full rate"] < row["last weights at full rate"], row
    assert row["sliding"] < row["whole"], row


def measured(folder: TextFolder, seed: int, place: Path) -> dict[str, float]:
    """Bits per byte of one seed: `wide` and `narrow` on all validation text, the rest on its first TOKENS."""
    row: dict[str, float] = {"seed": seed}
    training = replace(PRESET.training, seed=seed)
    trainer = Trainer(PRESET.model, training, folder, place / f"wide-{seed}.safetensors")

    def at_full_rate(step: StepRow) -> None:
        if step.step == training.steps - training.warmdown_steps:
            row["last weights at full rate"] = bpb(trainer, last_weights(trainer))
            row["average at full rate"] = bpb(trainer, trainer._weights())

    wide = trainer.train(at_full_rate)
    row |= {"whole": bpb(trainer, trainer._weights()), "last weights": bpb(trainer, last_weights(trainer))}
    row["sliding"] = bpb(trainer, trainer._weights(), STRIDE)
    narrow = Trainer(NARROW, training, folder, place / f"narrow-{seed}.safetensors").train(lambda step: None)
    assert narrow.val is not None
    assert wide.val is not None
    row |= {"wide": wide.val.bpb, "narrow": narrow.val.bpb}
    row |= {"wide s": round(wide.elapsed_s), "narrow s": round(narrow.elapsed_s)}
    print(json.dumps(row), flush=True)
    return row


def last_weights(trainer: Trainer) -> dict[str, np.ndarray]:
    """The weights without an average."""
    return {name: parameter.detach().numpy() for name, parameter in trainer.model.named_parameters()}


def bpb(trainer: Trainer, weights: dict[str, np.ndarray], stride: int | None = None) -> float:
    """Bits per byte on the first TOKENS of the validation text."""
    tables, length = trainer.tokenizer.byte_tables, PRESET.model.seq_len
    evaluator = TextEvaluator(
        lambda state: build(PRESET.model, state),
        tables.counted(trainer.val_tokens),
        tables.vocab_size,
        length,
        stride=stride,
        max_tokens=TOKENS,
    )
    return evaluator.evaluate(weights).bpb
