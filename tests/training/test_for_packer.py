"""Training for a packer: the bytes that it asks for, the same checkpoint however often it is stopped."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import DataError, RecipeError
from pgpack.refine.outlook import Outlook
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig

FAST = TrainConfig(
    steps=24, batch_tokens=128, warmup_steps=2, warmdown_steps=12, ema_decay=0.8, packer_from=0.5, packer_tokens=512
)
RECIPE = "ndim<=1=cast; role:control=cast; *=tcq(step=0.002,states=8)|rans_scaled(states=8)"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are split over threads: equal bits need equal thread counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def with_packer(packer: str, **changes: object) -> TrainConfig:
    return dataclasses.replace(FAST, packer=packer, **changes)


def test_the_late_part_changes_nothing_before_it_starts(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    losses = []
    for name, packer in (("plain", ""), ("late", RECIPE)):
        rows = []
        Trainer(tiny, with_packer(packer), text_folder, tmp_path / f"{name}.safetensors").train(rows.append)
        losses.append([row.loss for row in rows])
    plain, late = losses
    assert late[:12] == plain[:12]
    assert late[13:] != plain[13:]


@pytest.mark.parametrize("packer", [RECIPE, "9kB"])
def test_a_stopped_run_continues_to_the_same_bytes(
    packer: str, tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    config = with_packer(packer)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    Trainer(tiny, config, text_folder, whole).train(lambda row: None)
    for stop_at in (9, 14, 17, 21):
        Trainer(tiny, config, text_folder, parts).train(
            lambda row, at=stop_at: signal.raise_signal(signal.SIGINT) if row.step == at else None
        )
    result = Trainer(tiny, config, text_folder, parts).train(lambda row: None)
    assert (result.finished, result.resumed_from) == (True, 21)
    assert parts.read_bytes() == whole.read_bytes()


def test_equal_runs_write_equal_bytes_and_plain_fp32(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    files = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.safetensors"
        Trainer(tiny, with_packer(RECIPE), text_folder, out).train(lambda row: None)
        files.append(out.read_bytes())
    assert files[0] == files[1]
    checkpoint = load_checkpoint(out)
    assert all(array.dtype == "float32" for _, array in checkpoint.items())
    assert "tcq(step=0.002" in json.loads(checkpoint.metadata["training"])["qat_recipe"]


def test_pressure_makes_a_smaller_file_at_the_same_step(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    sizes = []
    for pressure in (0.0, 40.0):
        trainer = Trainer(
            dataclasses.replace(tiny, model_dim=32), with_packer(RECIPE, packer_pressure=pressure), text_folder,
            tmp_path / f"{pressure}.safetensors",
        )  # fmt: skip
        trainer.train(lambda row: None)
        sizes.append(trainer.packer.n_bytes)
    assert sizes[1] < sizes[0]


def test_the_trellis_is_walked_as_often_as_is_said(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    decide = Outlook.decide
    monkeypatch.setattr(Outlook, "decide", lambda self, weights: asked.append(1) or decide(self, weights))
    Trainer(tiny, with_packer(RECIPE, packer_every=6), text_folder, tmp_path / "m.safetensors").train(
        lambda row: None
    )
    assert len(asked) == 2  # of 12 steps
    with pytest.raises(DataError, match="packer_every"):
        with_packer(RECIPE, packer_every=0)


def test_what_cannot_be_meant_is_refused(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not both"):
        with_packer("9kB", qat_bits=4)
    with pytest.raises(RecipeError, match="coded by tcq"):
        Trainer(tiny, with_packer("*=rtn(bits=4)|rans"), text_folder, tmp_path / "m.safetensors")
