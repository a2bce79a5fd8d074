"""Options of training do what they say, alone and resumed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pgpack.bench.options import BenchOptions
from pgpack.bench.text import open_text
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint
from pgpack.checkpoint.files import read_file
from pgpack.errors import DataError
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.text.corpus import read_text_folder
from pgpack.text.data import BatchSampler, DocumentSampler
from pgpack.text.text_folder import TextFolder
from pgpack.unpack import unpack
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.training.averaging import SnapshotAverage, WeightAverage, make_average
from pgtrain.training.optim import Muon, make_optimizers, orthogonalize
from pgtrain.training.resume import state_path
from pgtrain.training.run_log import log_path
from pgtrain.training.schedule import lr_scale, run_fraction, sequence_length
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig

FAST = TrainConfig(steps=12, batch_tokens=128, warmup_steps=2, warmdown_steps=6, ema_decay=0.8)
EVERYTHING = dataclasses.replace(
    FAST, min_lr=0.1, muon_orthogonalizer="polar_express", muon_row_norm=True, weight_decay=0.1,
    embed_weight_decay=0.05, scalar_weight_decay=0.02, ema_decay=0.0, swa_every=2, swa_below=0.9,
    seq_curriculum=((0.0, 16), (0.3, 32)), document_batches=True, loops_from=0.5, qat_bits=6, qat_from=0.6,
    qat_rounding="soft", micro_batches=2,
)  # fmt: skip


def run(config: TrainConfig, model: GPTConfig, folder: TextFolder, out: Path) -> list[dict]:
    Trainer(model, config, folder, out).train(lambda row: None)
    return [json.loads(line) for line in log_path(out).read_text().splitlines()]


def test_a_run_with_every_option_stops_and_continues_to_the_same_bytes(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    looped = dataclasses.replace(tiny, num_loops=1, loop_start=1, loop_end=1)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    rows = run(EVERYTHING, looped, text_folder, whole)

    class Stopped(Exception):
        pass

    def stop_at_nine(row) -> None:
        if row.step == 9:
            raise Stopped

    first = Trainer(looped, EVERYTHING, text_folder, parts)
    first.state.is_due = lambda: True
    with pytest.raises(Stopped):
        first.train(stop_at_nine)
    assert run(EVERYTHING, looped, text_folder, parts)[-1]["loss"] == rows[-1]["loss"]
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("shape", [(24, 24), (40, 16), (16, 40)])
def test_polar_express_is_nearer_to_orthogonal_than_newton_schulz(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    spread = {}
    for kind, steps in (("newton_schulz", 5), ("polar_express", 5), ("polar_express", 9)):
        values = torch.linalg.svdvals(orthogonalize(matrix, steps, kind))
        spread[kind, steps] = float((values - 1).abs().max())
    assert spread["polar_express", 5] < 0.15 < spread["newton_schulz", 5]
    assert spread["polar_express", 9] < 1e-4
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(orthogonalize(matrix, 9, "polar_express"), u @ vh, atol=1e-3)


def test_row_norm_orthogonalizes_rows_of_unit_length() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 9, generator=generator)
    gradient = torch.randn(6, 9, generator=generator) * torch.logspace(-3, 3, 6)[:, None]
    moved = {}
    for row_norm in (False, True):
        parameter = nn.Parameter(start.clone())
        parameter.grad = gradient.clone()
        Muon([parameter], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, row_norm=row_norm).step()
        moved[row_norm] = (start - parameter).detach()
    rows = gradient / gradient.norm(dim=1, keepdim=True)
    assert torch.allclose(moved[True], orthogonalize(rows, 5), atol=1e-5)
    assert torch.allclose(moved[False], orthogonalize(gradient, 5), atol=1e-5)


def test_each_group_decays_by_its_own_factor(tiny: GPTConfig) -> None:
    model = initialize_(GPT(dataclasses.replace(tiny, tie_embeddings=False)), 0)
    config = TrainConfig(matrix_lr=0.1, embed_lr=0.2, head_lr=0.3, scalar_lr=0.4, weight_decay=0.5,
                         embed_weight_decay=0.25, scalar_weight_decay=0.125)  # fmt: skip
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in make_optimizers(model, config).values():
        optimizer.step()
    kept = {"tok_emb.weight": 1 - 0.2 * 0.25, "lm_head.weight": 1 - 0.3 * 0.25, "skip_weights": 1 - 0.4 * 0.125,
            "blocks.0.mlp.fc.weight": 1 - 0.1 * 0.5}  # fmt: skip
    named = dict(model.named_parameters())
    for name, factor in kept.items():
        assert torch.allclose(named[name], factor * start[name], atol=1e-6), name


def test_snapshots_are_the_mean_of_the_late_weights_in_float32() -> None:
    layer = nn.Linear(1, 1, bias=False).bfloat16()
    average = SnapshotAverage(layer, every=2, below=0.5)
    taken = []
    for step in range(40):
        with torch.no_grad():
            layer.weight.fill_(1.0 + step / 64)
        scale = 1.0 - step / 40
        average.update_(layer, step, scale)
        if scale < 0.5 and (step + 1) % 2 == 0:
            taken.append(layer.weight.item())
        elif not taken:  # until then, the last weights
            assert float(average.tensors["weight"]) == layer.weight.item()
    assert average.count == len(taken) == 9 + 1
    assert float(average.tensors["weight"]) == pytest.approx(float(np.mean(taken)), rel=1e-6)
    assert average.tensors["weight"].dtype == torch.float32


def test_settings_choose_the_average_and_gates_of_a_repartition_keep_their_last_value(tiny: GPTConfig) -> None:
    gated = GPT(dataclasses.replace(tiny, repartition="gate"))
    average = make_average(gated, TrainConfig(ema_decay=0.9))
    assert type(average) is WeightAverage
    assert type(make_average(gated, TrainConfig(ema_decay=0.0, swa_every=3))) is SnapshotAverage
    with torch.no_grad():
        for parameter in gated.parameters():
            parameter.add_(1.0)
    average.update_(gated, 10_000)
    for name, parameter in gated.named_parameters():
        assert torch.equal(average.tensors[name], parameter) == (".perm_gate." in name), name


def test_the_minimum_rate_ends_the_warmdown_but_not_the_warmup() -> None:
    config = TrainConfig(steps=100, warmup_steps=20, warmdown_steps=50, min_lr=0.1)
    scales = [lr_scale(config, step) for step in range(100)]
    assert scales[0] == 0.05
    assert scales[90] == pytest.approx(0.2)
    assert set(scales[95:]) == {0.1}


def test_the_fraction_of_a_run_is_by_steps_or_by_time() -> None:
    config = TrainConfig(steps=100, max_seconds=10.0)
    assert run_fraction(config, 0, 3.0) == 0.0
    assert run_fraction(config, 50, 2.0) == 0.5
    assert run_fraction(config, 5, 7.5) == 0.75
    assert run_fraction(config, 5, 99.0) == 1.0
    lengths = TrainConfig(seq_curriculum=((0.0, 8), (0.25, 16), (0.5, 32)))
    assert [sequence_length(lengths, 64, f) for f in (0.0, 0.24, 0.25, 0.5, 1.0)] == [8, 8, 16, 32, 32]
    assert sequence_length(TrainConfig(), 64, 0.3) == 64


def test_a_curriculum_lengthens_the_sequences_and_keeps_the_tokens(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    batch = BatchSampler.batch
    monkeypatch.setattr(BatchSampler, "batch", lambda self, step: shapes.append(self.seq_len) or batch(self, step))
    config = dataclasses.replace(FAST, seq_curriculum=((0.0, 8), (0.5, 32)))
    rows = run(config, tiny, text_folder, tmp_path / "m.safetensors")
    assert shapes == [8] * 6 + [32] * 6
    assert rows[-1]["tokens"] == 12 * 128


def test_sequences_begin_with_documents_and_every_token_is_a_target(text_folder: TextFolder) -> None:
    tokens = read_text_folder(text_folder, 400)[0][:6000]
    sampler = DocumentSampler(tokens, 64, 256, 3, 1)
    begins = set(np.flatnonzero(tokens == 1).tolist())
    covered = np.zeros(len(tokens), dtype=bool)
    for before, start in zip([0, *sampler.starts], sampler.starts, strict=False):
        inside = [b for b in begins if before < b <= before + 64]
        assert start in begins or start == before == 0 or (start == before + 64 and not inside)
        covered[start + 1 : start + 65] = True
    assert covered[1 : sampler.starts[-1] + 65].all()
    seen = {tuple(row) for step in range(sampler.windows // 4) for row in sampler.batch(step)[0].tolist()}
    assert {row[0] for row in seen} != {1}  # the corpus has documents longer than a sequence
    ids, targets = sampler.batch(0)
    assert np.array_equal(ids[:, 1:], targets[:, :-1])
    assert len(seen) > 0.9 * sampler.windows - 4


def test_documents_are_seen_whole_or_cut_from_their_own_start(text_folder: TextFolder) -> None:
    tokens = read_text_folder(text_folder, 400)[0][:6000]
    starts = set(DocumentSampler(tokens, 64, 256, 3, 1).starts.tolist())
    begins = np.flatnonzero(tokens == 1).tolist()
    lengths = []
    for begin, end in itertools.pairwise(begins):
        if end + 64 >= len(tokens):
            break
        lengths.append(end - begin)
        if end - begin <= 64:
            assert any(start <= begin and end <= start + 64 for start in starts)
        else:
            assert set(range(begin, end, 64)) <= starts
    assert min(lengths) <= 64 < max(lengths)


def test_loops_run_from_their_share_of_the_run_on(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looped = dataclasses.replace(tiny, num_loops=2, loop_start=1, loop_end=1)
    depths = []
    forward = GPT.forward
    monkeypatch.setattr(GPT, "forward", lambda self, *a: depths.append(len(self.plan)) or forward(self, *a))
    run(dataclasses.replace(FAST, loops_from=0.5), looped, text_folder, tmp_path / "m.safetensors")
    assert depths == [3] * 6 + [5] * 6


def test_a_head_for_the_second_token_trains_and_resumes_but_reaches_neither_checkpoint_nor_artifact(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    headed = dataclasses.replace(tiny, mtp_weight=0.5)
    whole, parts, plain = (tmp_path / f"{name}.safetensors" for name in ("whole", "parts", "plain"))
    rows = run(FAST, headed, text_folder, whole)
    assert rows[0]["loss"] > run(FAST, tiny, text_folder, plain)[0]["loss"] + 2.0  # half of its own cross-entropy
    Trainer(headed, FAST, text_folder, parts).train(
        lambda row: signal.raise_signal(signal.SIGINT) if row.step == 5 else None
    )
    kept = read_file(state_path(parts)).shapes
    assert {"model/mtp_head.weight", "average/mtp_head.weight"} <= set(kept)
    run(FAST, headed, text_folder, parts)
    assert parts.read_bytes() == whole.read_bytes()
    checkpoint = load_checkpoint(whole)
    tensors, metadata = dict(checkpoint.items()), checkpoint.metadata
    assert {name: array.shape for name, array in tensors.items()} == tensor_shapes(tiny)
    assert b"mtp_head" not in whole.read_bytes()
    artifact = pack(from_tensors(tensors), parse_recipe("*=rtn(bits=8)|rans")).data
    assert set(unpack(artifact).tensors()) == set(tensor_shapes(tiny))
    measured = open_text(whole, checkpoint, BenchOptions()).evaluator().evaluate(tensors)
    assert measured.bpb == pytest.approx(json.loads(metadata["training"])["val"]["bpb"], rel=1e-6)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_gradients_are_clipped_to_their_largest_norm_over_all_parts_of_the_batch(
    clip: float, tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    config = dataclasses.replace(FAST, grad_clip=clip, micro_batches=2)
    trainer = Trainer(tiny, config, text_folder, tmp_path / "m.safetensors")
    step = trainer.optimizers["muon"].step

    def step_and_note() -> None:
        norms.append(float(torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()))
        step()

    monkeypatch.setattr(trainer.optimizers["muon"], "step", step_and_note)
    trainer.train(lambda row: None)
    if clip:
        assert norms == pytest.approx([clip] * 12, rel=1e-3)
    else:
        assert min(norms) > 0.05


def test_frozen_tensors_stay_as_they_were_drawn(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(FAST, frozen="embed_proj.weight,*.attn.c_?.weight")
    narrow = dataclasses.replace(tiny, embed_dim=12)
    run(config, narrow, text_folder, tmp_path / "m.safetensors")
    trained = dict(load_checkpoint(tmp_path / "m.safetensors").items())
    start = initialize_(GPT(narrow), config.seed).state_dict()
    same = {name for name, array in trained.items() if np.array_equal(array, start[name].numpy())}
    assert same == {name for name in start if name == "embed_proj.weight" or ".attn.c_" in name}
    with pytest.raises(DataError, match="tok_embb is no tensor"):
        Trainer(narrow, dataclasses.replace(FAST, frozen="tok_embb"), text_folder, tmp_path / "n.safetensors")


def test_micro_batches_add_up_to_the_batch(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    one = run(FAST, tiny, text_folder, tmp_path / "one.safetensors")
    four = run(dataclasses.replace(FAST, micro_batches=4), tiny, text_folder, tmp_path / "four.safetensors")
    assert [row["loss"] for row in four] == pytest.approx([row["loss"] for row in one], rel=1e-4)
    a, b = (dict(load_checkpoint(tmp_path / f"{name}.safetensors").items()) for name in ("one", "four"))
    assert not all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"swa_every": 5, "ema_decay": 0.9}, "--ema 0"),
        ({"qat_bits": 9}, "must be 0"),
        ({"qat_rounding": "hard"}, "straight_through"),
        ({"muon_orthogonalizer": "svd"}, "polar_express"),
        ({"seq_curriculum": ((0.5, 8),)}, "begin with 0"),
        ({"seq_curriculum": ((0.0, 8), (0.6, 16), (0.5, 32))}, "growing shares"),
        ({"min_lr": 2.0}, "between 0 and 1"),
        ({"micro_batches": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        TrainConfig(**wrong)


def test_batches_that_do_not_divide_are_refused(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    for wrong, sentence in (
        ({"micro_batches": 3}, "3 equal parts of sequences of 32; give --batch-tokens as a multiple of 96"),
        (
            {"seq_curriculum": ((0.0, 24),)},
            "a whole number of sequences of 24; give --batch-tokens as a multiple of 24",
        ),
    ):
        with pytest.raises(DataError, match=sentence):
            Trainer(tiny, dataclasses.replace(FAST, **wrong), text_folder, tmp_path / "m.safetensors")
