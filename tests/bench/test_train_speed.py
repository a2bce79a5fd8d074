"""A run is not slower than the loop that one would write by hand, and its utilisation can be measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from pgpack.text.builtin import builtin_corpus
from pgpack.text.documents import Document
from pgtrain.model.flop_count import flop_per_token
from pgtrain.model.model_config import GPTConfig
from pgtrain.presets import PRESETS
from pgtrain.training.train_config import TrainConfig
from tests.bench.train_speed import bench_trainer, measure
from tests.bench.utilisation import peak_tflops, utilisation

SMALL = GPTConfig(vocab_size=310, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1, seq_len=32)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_is_at_least_as_fast_as_a_plain_loop_of_the_same_model_and_optimizers() -> None:
    row = measure("demo", 7, "cpu")
    assert row["against_plain"] >= 1.0, row


def test_utilisation_is_operations_over_time_and_peak(tmp_path: Path) -> None:
    training = TrainConfig(batch_tokens=128, micro_batches=2)
    words = ["one", "two", "many", "a", "the", "word", "and", "another"]
    texts = (" ".join(words[(i * k + k * k) % 7] + str(k % i) for k in range(200)) for i in range(1, 40))
    documents = [Document(f"document {i}", text) for i, text in enumerate(texts)]
    trainer = bench_trainer(documents, SMALL, training, tmp_path, "cpu")
    row = utilisation(trainer, 2, peak=2.0)
    assert (row["tokens_per_step"], row["micro_batches"]) == (128, 2)
    assert row["mflop_per_token"] == pytest.approx(flop_per_token(SMALL) / 1e6, rel=0.01)
    assert row["tflop_per_s"] == pytest.approx(row["tokens_per_s"] * flop_per_token(SMALL) / 1e12, rel=0.01)
    assert row["mfu"] == pytest.approx(row["tflop_per_s"] / 2.0, rel=0.01)
    assert row["mfu_palm"] > row["mfu"] > 0


def test_the_peak_is_that_of_the_named_card() -> None:
    assert peak_tflops("NVIDIA H100 80GB HBM3") == 989.4
    assert peak_tflops("NVIDIA H100 PCIe") == 756.5
    assert peak_tflops("NVIDIA A100-SXM4-80GB") == 312.0
    assert peak_tflops("abacus") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.timeout(600)
def test_the_36_m_preset_trains_in_bf16_on_a_gpu(tmp_path: Path) -> None:
    chosen = PRESETS["lanes"]
    training = dataclasses.replace(chosen.training, batch_tokens=65_536, micro_batches=1, loops_from=0.0)
    row = utilisation(bench_trainer(builtin_corpus(), chosen.model, training, tmp_path, "cuda"), 4)
    assert row["tokens_per_s"] > 0
    assert row["parameters"] == 35_944_602
