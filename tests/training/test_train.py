"""A run ends with one checkpoint, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from pgpack.errors import CheckpointError, DataError
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.training.loss_curve import draw_curves, read_curve
from pgtrain.training.resume import state_path
from pgtrain.training.run_log import StepRow, log_path, open_log, read_log
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig

FAST = TrainConfig(steps=12, batch_tokens=128, warmup_steps=2, warmdown_steps=6, ema_decay=0.8)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are split over threads: equal bits need equal thread counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    checkpoint = load_checkpoint(path)
    return dict(checkpoint.items()), dict(checkpoint.metadata)


def ignore(row: StepRow) -> None:
    pass


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in log_path(out).read_text().splitlines()]


def test_equal_runs_write_equal_bytes_and_another_seed_does_not(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.safetensors"
        Trainer(tiny, dataclasses.replace(FAST, seed=seed), text_folder, out).train(ignore)
        files.append(out.read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_the_last_snapshot_of_a_run_without_averaging_is_its_checkpoint(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    out, last = tmp_path / "model.safetensors", tmp_path / "model.step-12.safetensors"
    trainer = Trainer(tiny, dataclasses.replace(FAST, ema_decay=0.0), text_folder, out)
    first = tmp_path / "model.step-1.safetensors"
    trainer.train(lambda row: trainer.write_snapshot({1: first}.get(row.step, last), row.step))
    (weights, metadata), (kept, told) = read(out), read(last)
    assert weights.keys() == kept.keys()
    assert all(np.array_equal(weights[name], kept[name]) for name in weights)
    assert {**metadata, "training": told["training"]} == told
    assert json.loads(told["training"]) == {"steps": 12, "averaged": False, "seed": FAST.seed}
    assert not np.array_equal(load_checkpoint(first).tensor("tok_emb.weight"), weights["tok_emb.weight"])


def test_training_learns_and_the_checkpoint_says_what_it_is(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"
    config = dataclasses.replace(FAST, steps=60, warmdown_steps=30, val_every=30)
    result = Trainer(tiny, config, text_folder, out).train(ignore)
    rows = rows_of(out)
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert [row["step"] for row in rows if "val_bpb" in row] == [30, 60]
    assert rows[0]["loss"] == pytest.approx(np.log(400), abs=0.3)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    assert rows[-1]["tokens"] == 60 * 128
    with safe_open(out, framework="numpy") as file:  # the reference reader accepts our bytes
        metadata = file.metadata()
        shapes = {name: tuple(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
    assert shapes == tensor_shapes(tiny)
    assert metadata["format"] == "pgtrain-checkpoint-1"
    assert GPTConfig.from_mapping(json.loads(metadata["model_config"])) == tiny
    training = json.loads(metadata["training"])
    assert training["val"]["bpb"] == result.val.bpb == rows[-1]["val_bpb"]
    assert (training["steps"], training["tokens"], training["seed"]) == (60, 7680, 1337)
    defaults = json.loads(metadata["data_defaults"])
    assert (tmp_path / defaults["tokenizer"]).resolve() == text_folder.tokenizer_path.resolve()
    assert not state_path(out).exists()


def test_a_stopped_run_continues_to_the_same_bytes(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    Trainer(tiny, FAST, text_folder, whole).train(ignore)

    def stop_at_five(row: StepRow) -> None:
        if row.step == 5:
            signal.raise_signal(signal.SIGINT)

    first = Trainer(tiny, FAST, text_folder, parts).train(stop_at_five)
    assert (first.finished, first.steps) == (False, 5)
    assert state_path(parts).exists()
    assert not parts.exists()
    second = Trainer(tiny, FAST, text_folder, parts).train(ignore)
    assert (second.finished, second.resumed_from) == (True, 5)
    assert parts.read_bytes() == whole.read_bytes()
    assert [row["step"] for row in rows_of(parts)] == list(range(1, 13))
    losses = [[row["loss"] for row in rows_of(out)] for out in (whole, parts)]
    assert losses[0] == losses[1]


KILLED_RUN = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pgpack.text.text_folder import TextFolder
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig
from pgtrain.model.model_config import GPTConfig
folder, out, model, config = sys.argv[1:]
Trainer(eval(model), eval(config), TextFolder.open(Path(folder)), Path(out)).train(lambda row: None)
"""


def test_kill_9_loses_at_most_the_steps_since_the_last_save(
    tiny: GPTConfig, text_folder: TextFolder, shard_folder: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(FAST, steps=60)
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    Trainer(tiny, config, text_folder, whole).train(ignore)
    arguments = [str(shard_folder), str(killed), repr(tiny), repr(config)]
    process = subprocess.Popen([sys.executable, "-c", KILLED_RUN, *arguments], cwd=ROOT)
    while not (state_path(killed).exists() and len(log_path(killed).read_bytes().splitlines()) > 9):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    logged = len(log_path(killed).read_bytes().splitlines())
    assert not killed.exists()
    result = Trainer(tiny, config, text_folder, killed).train(ignore)
    assert 0 < result.resumed_from <= logged
    assert killed.read_bytes() == whole.read_bytes()
    assert [row["step"] for row in rows_of(killed)] == list(range(1, 61))


def test_a_run_that_was_killed_behind_its_checkpoint_is_over(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("pgtrain.training.train.write_curves", lambda path, curves: pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            Trainer(tiny, FAST, text_folder, out).train(ignore)
    assert state_path(out).exists()
    before, log = out.read_bytes(), rows_of(out)
    result = Trainer(tiny, FAST, text_folder, out).train(lambda row: pytest.fail("trained"), replace=False)
    assert (result.finished, result.steps) == (True, 12)
    assert result.val is not None
    assert json.loads(read(out)[1]["training"])["val"]["bpb"] == result.val.bpb
    assert (out.read_bytes(), rows_of(out)) == (before, log)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.log.jsonl", "model.loss.svg", "model.safetensors"
    ]  # fmt: skip


def test_a_checkpoint_of_another_run_is_not_taken_for_this_one_s(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"
    Trainer(tiny, FAST, text_folder, out).train(ignore)
    older, other = out.read_bytes(), dataclasses.replace(FAST, seed=9)
    Trainer(tiny, other, text_folder, out).train(lambda row: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(DataError, match="of another run; give another -o or --force"):
        Trainer(tiny, other, text_folder, out).train(ignore, replace=False)
    assert out.read_bytes() == older
    result = Trainer(tiny, other, text_folder, out).train(ignore)
    assert result.resumed_from == 1
    assert out.read_bytes() != older


def test_a_second_run_into_one_checkpoint_is_refused_at_once(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    out, said = tmp_path / "model.safetensors", []

    def begin_another(row: StepRow) -> None:
        if row.step == 3:
            with pytest.raises(DataError, match=r"model\.log\.jsonl is being written by another run") as found:
                Trainer(tiny, FAST, text_folder, out)
            said.append(str(found.value))

    waiting = Trainer(tiny, FAST, text_folder, tmp_path / "model.safetensors")
    Trainer(tiny, FAST, text_folder, out).train(begin_another)
    assert len(said) == 1
    assert [row["step"] for row in rows_of(out)] == list(range(1, 13))
    with open_log(log_path(out)), pytest.raises(DataError, match="another run"):
        waiting.train(ignore)


@pytest.mark.parametrize("torn", [b"", b'{"step": 4, "lo', b"\xff\n", b"[]\n"])
def test_a_log_goes_on_behind_the_step_that_was_saved(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "m.log.jsonl"
    rows = [StepRow(n, 1.0, 0.1, n, 0.5).as_json().encode() + b"\n" for n in (1, 2, 3)]
    for step in range(4):
        path.write_bytes(b"".join(rows) + torn)
        with open_log(path) as log:
            log.go_on_behind(step)
            log.write(StepRow(step + 1, 1.0, 0.1, step + 1, 0.5))
        assert path.read_bytes().splitlines(keepends=True)[:step] == rows[:step]
        assert len(path.read_bytes().splitlines()) == step + 1


def test_no_change_of_one_byte_of_a_log_is_read_as_a_row(tmp_path: Path) -> None:
    path = tmp_path / "m.log.jsonl"
    rows = [StepRow(1, 1.5, 0.1, 128, 0.5), StepRow(2, 1.25, 0.1, 256, 0.75, 2.5)]
    whole = "".join(row.as_json() + "\n" for row in rows).encode()
    for position, byte in enumerate(whole):
        for other in {byte ^ 1, ord("7"), ord("\n"), 0xFF} - {byte}:
            path.write_bytes(whole[:position] + bytes([other]) + whole[position + 1 :])
            found = [row for _, row in read_log(path)]
            assert {row for row in found if row is not None} < {*rows}
            assert None in found or position == len(whole) - 1
    older = [{k: v for k, v in json.loads(line).items() if k != "crc32"} for line in whole.splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in older))
    assert [row for _, row in read_log(path)] == rows


def test_a_damaged_row_of_a_log_costs_no_other_one(tmp_path: Path) -> None:
    path = tmp_path / "m.log.jsonl"
    lines = [StepRow(n, 1.0, 0.1, 64 * n, 0.5).as_json().encode() + b"\n" for n in (1, 2, 3, 4)]
    lines[1] = lines[1].replace(b"1.0", b"7.0")
    path.write_bytes(b"".join(lines))
    with open_log(path) as log:
        log.go_on_behind(3)
    assert path.read_bytes() == b"".join(lines[:3])
    curve = read_curve(path)
    assert (curve.n_damaged, [y for _, y in curve.losses]) == (1, [1.0, 1.0])
    assert "m: 1.000 nats, damaged lines left out: 1" in draw_curves([curve])


def test_a_state_of_other_settings_is_refused_until_discarded(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"
    Trainer(tiny, FAST, text_folder, out).train(lambda row: signal.raise_signal(signal.SIGTERM))
    other = dataclasses.replace(FAST, seed=9)
    with pytest.raises(DataError, match=r"seed 1337 then, 9 now.*--restart"):
        Trainer(tiny, other, text_folder, out).train(ignore)
    result = Trainer(tiny, other, text_folder, out).train(ignore, restart=True)
    assert (result.finished, result.resumed_from) == (True, 0)


def test_a_wall_clock_cap_ends_the_run_with_a_checkpoint(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"
    config = dataclasses.replace(FAST, steps=10**6, max_seconds=0.2)
    result = Trainer(tiny, config, text_folder, out).train(ignore)
    assert result.finished
    assert 0 < result.steps < 10**6
    assert json.loads(load_checkpoint(out).metadata["training"])["steps"] == result.steps


def test_a_diverging_run_stops_with_the_step_it_happened_at(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(FAST, embed_lr=1e30, warmup_steps=0, grad_clip=0.0)
    with pytest.raises(DataError, match=r"the loss is (nan|inf) at step \d+; lower"):
        Trainer(tiny, config, text_folder, tmp_path / "m.safetensors").train(ignore)


def test_a_model_of_another_vocabulary_is_refused(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the model has 500 tokens"):
        Trainer(dataclasses.replace(tiny, vocab_size=500), FAST, text_folder, tmp_path / "m.safetensors")


def test_checkpoints_come_back_and_unreadable_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.zeros((0, 4), np.float32)}
    save_tensors(path, tensors, {"z": "1", "a": "ü"})
    back, metadata = read(path)
    assert metadata == {"z": "1", "a": "ü"}
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)
    torch.save({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt").tensor("w").dtype == np.float32
    torch.save({"step": 3}, tmp_path / "b.pt")
    torch.save({"code": Path}, tmp_path / "c.pt")
    (tmp_path / "d.safetensors").write_bytes(path.read_bytes()[:-3])
    (tmp_path / "e.pt").write_bytes(b"not a checkpoint")
    for name in ("b.pt", "c.pt", "d.safetensors", "e.pt", "missing.pt"):
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)
