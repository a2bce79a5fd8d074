"""Several processes train the model that one would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pgpack.errors import DataError
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.processes import Processes
from pgtrain.training.run_log import log_path
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = TrainConfig(steps=8, batch_tokens=256, warmup_steps=2, warmdown_steps=4, ema_decay=0.8, micro_batches=2,
                     qat_bits=6, qat_from=0.5, val_every=4)  # fmt: skip
PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.processes import join_processes, leave_processes
from pgpack.text.text_folder import TextFolder
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig
folder, out, model, config, last = sys.argv[1:]
processes, device = join_processes("cpu")
class Stopped(Exception): pass
def stop(row):
    if row.step == int(last):
        import signal
        signal.raise_signal(signal.SIGTERM)
trainer = Trainer(eval(model), eval(config), TextFolder.open(Path(folder)), Path(out), device, processes)
result = trainer.train(stop)
assert (result.val is None) == (not processes.leads or not result.finished)
leave_processes(processes)
"""


def launch(size: int, folder: Path, out: Path, model: GPTConfig, config: TrainConfig, stop_at: int = -1) -> None:
    """The program under torchrun on `size` processes, or alone."""
    script = out.with_suffix(".py")
    script.write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={size}", f"--master-port={port}"]
    arguments = [str(script), str(folder), str(out), repr(model), repr(config), str(stop_at)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *(torchrun if size > 1 else []), *arguments],
        env=environment, cwd=out.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one_even_when_stopped_between(
    tiny: GPTConfig, shard_folder: Path, tmp_path: Path
) -> None:
    one, two, parts = (tmp_path / name / "model.safetensors" for name in ("one", "two", "parts"))
    for path in (one, two, parts):
        path.parent.mkdir()
    launch(1, shard_folder, one, tiny, CONFIG)
    launch(2, shard_folder, two, tiny, CONFIG)
    assert two.read_bytes() == one.read_bytes()
    rows = [[json.loads(line) for line in log_path(out).read_text().splitlines()] for out in (one, two)]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    launch(2, shard_folder, parts, tiny, CONFIG, stop_at=3)
    assert not parts.exists()
    launch(1, shard_folder, parts, tiny, CONFIG)  # another number of processes may finish it
    assert parts.read_bytes() == one.read_bytes()


def test_processes_that_cannot_share_the_batch_are_refused(
    tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="3 processes cannot share 2 micro-batches evenly; give --micro-batches"):
        Trainer(tiny, CONFIG, text_folder, tmp_path / "m.safetensors", processes=Processes(0, 3))
