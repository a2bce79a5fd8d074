"""One training run: text in, one fp32 checkpoint out, resumable to the bit.

    batch(step) -> loss -> clip -> Muon + AdamW -> average -> log row -> state file when due
    after the last step: the averaged weights -> bits per byte -> OUT.safetensors, state file removed

Owns the loop, the log and the metadata of the checkpoint. Refuses to write over a run with other settings.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import pgtrain
from pgpack.errors import DataError
from pgpack.evaluate import BitsPerByte
from pgtrain.averaging import WeightAverage
from pgtrain.bpb import TextEvaluator
from pgtrain.checkpoint import FORMAT, write_safetensors
from pgtrain.data import BatchSampler, Tokens, digest_tokens
from pgtrain.gpt import GPT, build, deployable, initialize_
from pgtrain.model_config import GPTConfig
from pgtrain.optim import make_optimizers, set_rates_
from pgtrain.resume import RunState, state_path
from pgtrain.schedule import lr_scale, muon_momentum
from pgtrain.text_folder import TextFolder
from pgtrain.tokenizer import Tokenizer
from pgtrain.train_config import TrainConfig

LOSS_WINDOW = 20  # the reported training loss is the mean over this many last steps
MAX_VAL_TOKENS = 1 << 20


@dataclass(frozen=True)
class StepRow:
    """One line of the log. Units: loss in nats per token, lr is Muon's, elapsed_s over all sessions of the run."""

    step: int
    loss: float
    lr: float
    tokens: int
    elapsed_s: float
    val_bpb: float | None = None

    def as_json(self) -> str:
        row = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return json.dumps(row)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `finished` is False after Ctrl-C: the state is saved and the same command continues."""

    finished: bool
    steps: int
    train_loss: float
    val: BitsPerByte | None
    elapsed_s: float
    resumed_from: int


@dataclass
class _Progress:
    """What changes from step to step besides tensors."""

    step: int = 0
    elapsed_s: float = 0.0
    losses: list[float] = field(default_factory=list)

    @property
    def train_loss(self) -> float:
        return sum(self.losses) / max(len(self.losses), 1)


def log_path(checkpoint: Path) -> Path:
    """Where the run that writes `checkpoint` keeps its log: OUT.log.jsonl."""
    return checkpoint.with_suffix(".log.jsonl")


class Trainer:
    """A run bound to its text and output. `train()` does the work."""

    def __init__(
        self, model_config: GPTConfig, config: TrainConfig, folder: TextFolder, out: Path, device: str = "cpu"
    ) -> None:
        self.model_config, self.config, self.folder, self.out = model_config, config, folder, out
        self.device = torch.device(device)
        self.tokenizer = Tokenizer.load(folder.tokenizer_path)
        if self.tokenizer.vocab_size != model_config.vocab_size:
            raise DataError(
                f"the model has {model_config.vocab_size} tokens, {folder.tokenizer_path} has "
                f"{self.tokenizer.vocab_size}"
            )
        self.train_tokens, self.val_tokens = folder.read(model_config.vocab_size)
        self.data_digests = {"train": digest_tokens(self.train_tokens), "val": digest_tokens(self.val_tokens)}
        self.sampler = BatchSampler(self.train_tokens, model_config.seq_len, config.batch_tokens, config.seed)
        self.evaluator = self._make_evaluator(self.val_tokens)
        self.model = initialize_(GPT(model_config), config.seed).to(self.device)
        self.optimizers = make_optimizers(self.model, config)
        self.average = WeightAverage(self.model, config.ema_decay)
        self.state = RunState(state_path(out), self._settings())

    def train(self, on_step: Callable[[StepRow], None], *, restart: bool = False) -> TrainResult:
        """Run to the end, or until Ctrl-C, or until `max_seconds`; `on_step` sees each row of the log.

        Raises: DataError when a state file of another run is in the way, or the loss stops being a number.
        """
        if restart:
            self.state.discard()
        progress = _Progress(**(self.state.restore_(self.model, self.optimizers, self.average) or {}))
        resumed_from = progress.step
        val: BitsPerByte | None = None
        with _log(log_path(self.out), resumed_from) as write_row, _stop_requested() as stop:
            clock = _Clock(progress.elapsed_s)
            while not self._is_over(progress):
                if stop.is_set():
                    self._save(progress)
                    return TrainResult(
                        False, progress.step, progress.train_loss, None, progress.elapsed_s, resumed_from
                    )
                row = self._step(progress, clock)
                over = self._is_over(progress)
                if over or (self.config.val_every and progress.step % self.config.val_every == 0):
                    val = self.evaluator.evaluate(self._weights())
                    row = dataclasses.replace(row, val_bpb=val.bpb)
                write_row(row)
                on_step(row)
                if not over and self.state.is_due():
                    self._save(progress)
        if val is None:  # a state saved by a run that a shorter --max-seconds ended before
            val = self.evaluator.evaluate(self._weights())
        write_safetensors(self.out, self._weights(), self._metadata(progress, val))
        self.state.discard()
        return TrainResult(True, progress.step, progress.train_loss, val, progress.elapsed_s, resumed_from)

    def _step(self, progress: _Progress, clock: _Clock) -> StepRow:
        """One optimizer step; `progress` moves on."""
        step, config = progress.step, self.config
        scale = lr_scale(config, step, progress.elapsed_s)
        set_rates_(self.optimizers, scale, muon_momentum(config, step))
        ids, targets = (torch.from_numpy(part).to(self.device) for part in self.sampler.batch(step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.model(ids, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(f"the loss is {value} at step {step + 1}; lower --matrix-lr and --embed-lr")
        loss.backward()
        if config.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.average.update_(self.model, step)
        progress.step += 1
        progress.losses = [*progress.losses, value][-LOSS_WINDOW:]
        progress.elapsed_s = clock.elapsed_s()
        tokens = progress.step * config.batch_tokens
        return StepRow(progress.step, value, config.matrix_lr * scale, tokens, round(progress.elapsed_s, 3))

    def _is_over(self, progress: _Progress) -> bool:
        out_of_time = bool(self.config.max_seconds) and progress.elapsed_s >= self.config.max_seconds
        return progress.step >= self.config.steps or (out_of_time and progress.step > 0)

    def _save(self, progress: _Progress) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.state.save(self.model, self.optimizers, self.average, dataclasses.asdict(progress))

    def _weights(self) -> dict[str, NDArray[np.float32]]:
        """The averaged weights: what the checkpoint holds and what is evaluated."""
        return {name: tensor.cpu().numpy() for name, tensor in deployable(self.average.tensors).items()}

    def _make_evaluator(self, val_tokens: Tokens) -> TextEvaluator:
        return TextEvaluator(
            lambda state: build(self.model_config, state),
            val_tokens,
            self.tokenizer.byte_tables,
            self.model_config.seq_len,
            tokenizer_sha256=self.tokenizer.sha256,
            device=str(self.device),
            max_tokens=MAX_VAL_TOKENS,
        )

    def _settings(self) -> dict[str, Any]:
        """What must be equal for a run to be continued."""
        return {
            **dataclasses.asdict(self.model_config),
            **dataclasses.asdict(self.config),
            "tokenizer": self.tokenizer.sha256,
            "train_text": self.data_digests["train"],
            "val_text": self.data_digests["val"],
            "device": self.device.type,
        }

    def _metadata(self, progress: _Progress, val: BitsPerByte) -> dict[str, str]:
        """The checkpoint's metadata; nothing of the clock, so that equal runs write equal files."""
        here = self.out.resolve().parent
        val_row = {key: value for key, value in val.as_row().items() if key not in ("eval_s", "kl")}
        training = {
            "steps": progress.step,
            "tokens": progress.step * self.config.batch_tokens,
            "seed": self.config.seed,
            "train_loss": progress.train_loss,
            "val": val_row,
            "data_sha256": self.data_digests,
            "config": dataclasses.asdict(self.config),
            "versions": {
                "pgtrain": pgtrain.__version__,
                "torch": torch.__version__.split("+")[0],
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
        data_defaults = {
            "val": _relative(self.folder.val_glob, here),
            "calib": _relative(self.folder.train_glob, here),
            "tokenizer": _relative(str(self.folder.tokenizer_path), here),
            "seq_len": self.model_config.seq_len,
        }
        return {
            "format": FORMAT,
            "model_config": self.model_config.to_json(),
            "tokenizer_sha256": self.tokenizer.sha256,
            "training": json.dumps(training, sort_keys=True),
            "data_defaults": json.dumps(data_defaults, sort_keys=True),
        }


def _relative(path: str, folder: Path) -> str:
    """`path` as seen from `folder`, with forward slashes: the pair can be moved together."""
    return Path(os.path.relpath(Path(path).absolute(), folder)).as_posix()


class _Clock:
    """Seconds of this session on top of those of earlier ones."""

    def __init__(self, before_s: float) -> None:
        self._before_s, self._started = before_s, time.monotonic()

    def elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._started


@contextmanager
def _log(path: Path, step: int) -> Iterator[Callable[[StepRow], None]]:
    """A writer of log rows. Rows after `step` are dropped first: a resumed run writes them again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if step and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except ValueError:  # the half line of a killed run
                break
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in kept)

        def write(row: StepRow) -> None:
            file.write(row.as_json() + "\n")
            file.flush()

        yield write


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that a step is never cut in half; a second Ctrl-C interrupts."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
