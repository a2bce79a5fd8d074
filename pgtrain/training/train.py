"""One training run: text in, one fp32 checkpoint out, resumable to the bit.

    batch(step) -> loss (on grid weights under QAT) -> gradients of all processes -> clip -> Muon + AdamW -> average
                -> log row -> state file when due
    after the last step: the averaged weights -> bits per byte -> OUT.safetensors, state file removed

Owns the loop, the log and the metadata of the checkpoint. Refuses to write over a run with other settings.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import pgtrain
from pgpack.calibration.calibration import Calibration
from pgpack.calibration.observe import observe
from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.checkpoint.files import read_file
from pgpack.errors import CheckpointError, DataError
from pgpack.loss.bpb import TextEvaluator
from pgpack.loss.evaluator import BitsPerByte
from pgpack.refine.target import PackerTarget
from pgpack.text.corpus import read_text_folder
from pgpack.text.data import BatchSampler, DocumentSampler, digest_tokens
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import GPT, build, deployable, initialize_
from pgtrain.model.model_config import FORMAT, GPTConfig

from .averaging import make_average
from .for_packer import ForPacker
from .loss_curve import picture_path, read_curve, write_curves
from .loss_function import LossFunction
from .optim import make_optimizers, set_rates_
from .processes import Processes
from .qat import FakeQuantizer
from .resume import RunState, state_path
from .run_log import RunLog, StepRow, log_path, open_log, refuse_running, stop_requested
from .schedule import lr_scale, muon_momentum, run_fraction, sequence_length
from .train_config import MAX_VAL_TOKENS, TrainConfig

LOSS_WINDOW = 20  # the reported training loss is the mean over this many last steps


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `finished` is False after Ctrl-C: the state is saved and the same command continues.

    `qat_recipe` stores exactly the weights that a QAT run trained with, None for other runs.
    """

    finished: bool
    steps: int
    train_loss: float
    val: BitsPerByte | None
    elapsed_s: float
    resumed_from: int
    qat_recipe: str | None = None


@dataclass
class _Progress:
    """What changes from step to step besides tensors."""

    step: int = 0
    elapsed_s: float = 0.0
    losses: list[float] = field(default_factory=list)
    packer: dict[str, float] = field(default_factory=dict)

    @property
    def train_loss(self) -> float:
        return sum(self.losses) / max(len(self.losses), 1)


class Trainer:
    """A run bound to its text and output. `train()` does the work."""

    def __init__(
        self,
        model_config: GPTConfig,
        config: TrainConfig,
        folder: TextFolder,
        out: Path,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        self.model_config, self.config, self.folder, self.out = model_config, config, folder, out
        self.device, self.processes = torch.device(device), processes or Processes()
        if self.processes.leads:
            refuse_running(log_path(out))  # known before the text is read
        self.tokenizer = load_tokenizer(folder.tokenizer_path)
        if self.tokenizer.vocab_size != model_config.vocab_size:
            raise DataError(
                f"the model has {model_config.vocab_size} tokens, {folder.tokenizer_path} has "
                f"{self.tokenizer.vocab_size}"
            )
        self.train_tokens, self.val_tokens = read_text_folder(folder, model_config.vocab_size)
        self.data_digests = {"train": digest_tokens(self.train_tokens), "val": digest_tokens(self.val_tokens)}
        self.samplers = self._make_samplers()
        self.evaluator = TextEvaluator(
            self._build, self.tokenizer.byte_tables.counted(self.val_tokens[: MAX_VAL_TOKENS + 1]),
            self.tokenizer.vocab_size, model_config.seq_len,
            tokenizer_sha256=self.tokenizer.sha256, device=str(self.device), max_tokens=MAX_VAL_TOKENS,
        )  # fmt: skip
        self.model = initialize_(GPT(model_config), config.seed).to(self.device)
        self.optimizers = make_optimizers(self.model, config)
        self.loss = LossFunction(self.model, config.compile_backend)
        self.quantizer = FakeQuantizer.of(config)
        self.packer = self._for_packer()
        self.loops = model_config.num_loops
        self.average = make_average(self.model, config)
        self.state = RunState(state_path(out), self._settings())

    def train(
        self, on_step: Callable[[StepRow], None], *, restart: bool = False, replace: bool = True
    ) -> TrainResult:
        """Run to the end, or until Ctrl-C, or until `max_seconds`; `on_step` sees each row of the log.

        A run that was killed when its checkpoint was written already is over; another checkpoint in its place is
        refused unless it is to be `replace`d.
        Raises: DataError when a state file of another run is in the way, another process runs, or the loss stops
        being a number.
        """
        with open_log(log_path(self.out)) if self.processes.leads else nullcontext() as log:
            if restart and log:
                self.state.discard()
            self.processes.wait()
            saved = self._restored()
            self.processes.wait()
            progress = _Progress(**saved)
            if self.out.exists() and (saved or not replace):
                if (result := self._finished(progress)) is not None:
                    self._tidy_up(log)
                    return result
                if not replace:
                    raise DataError(f"{self.out} is of another run; give another -o or --force to replace it")
            return self._train(on_step, log, progress)

    def _finished(self, progress: _Progress) -> TrainResult | None:
        """What came of this run, where the checkpoint that is there is its own."""
        try:
            metadata = read_file(self.out).metadata
            told = json.loads(metadata["training"])
            val = BitsPerByte(**told["val"], kl=None, eval_s=0.0)
            same = self._identity() | self._training(told["steps"], told["train_loss"], val) == metadata
        except (CheckpointError, ValueError, LookupError, TypeError, RecursionError):
            return None
        if not same:
            return None
        return TrainResult(
            True, told["steps"], told["train_loss"], val, progress.elapsed_s, progress.step, told.get("qat_recipe")
        )

    def _tidy_up(self, log: RunLog | None) -> None:
        """What follows the checkpoint; the state goes last, so that a run that is killed here is known as one."""
        if log:
            write_curves(picture_path(self.out), [read_curve(log.path)])
            self.state.discard()

    def _train(self, on_step: Callable[[StepRow], None], log: RunLog | None, progress: _Progress) -> TrainResult:
        """`log`: that of the leading process, which alone writes files."""
        resumed_from = progress.step
        val: BitsPerByte | None = None
        if log:
            log.go_on_behind(resumed_from)
        with stop_requested() as stop:
            began_s = time.monotonic() - progress.elapsed_s  # sessions before this one count
            while True:
                progress.elapsed_s, stopping = self.processes.agree(progress.elapsed_s, stop.is_set(), self.device)
                if self._is_over(progress):
                    break
                if stopping:
                    self._save(progress)
                    return TrainResult(
                        False, progress.step, progress.train_loss, None, progress.elapsed_s, resumed_from
                    )
                row = self._step(progress, began_s)
                if not log:
                    continue
                over = self._is_over(progress)
                if over or (self.config.val_every and progress.step % self.config.val_every == 0):
                    val = self.evaluator.evaluate(self._weights())
                    row = dataclasses.replace(row, val_bpb=val.bpb)
                log.write(row)
                on_step(row)
                if not over and self.state.is_due():
                    self._save(progress)
        if log:
            if val is None:  # a state saved by a run that a shorter --max-seconds ended before
                val = self.evaluator.evaluate(self._weights())
            told = self._training(progress.step, progress.train_loss, val)
            save_tensors(self.out, self._weights(), self._identity() | told)
            self._tidy_up(log)
        return TrainResult(
            True, progress.step, progress.train_loss, val, progress.elapsed_s, resumed_from, self._qat_recipe()
        )

    def write_snapshot(self, path: Path, step: int) -> None:
        """Write the weights after `step`, not averaged, as a checkpoint of their own; for `on_step` to call."""
        weights = deployable({name: parameter.detach() for name, parameter in self.model.named_parameters()})
        training = {"steps": step, "averaged": False, "seed": self.config.seed}
        arrays = {name: tensor.float().cpu().numpy() for name, tensor in weights.items()}
        save_tensors(path, arrays, self._identity() | {"training": json.dumps(training, sort_keys=True)})

    def _step(self, progress: _Progress, began_s: float) -> StepRow:
        """One optimizer step; `progress` moves on."""
        step, config = progress.step, self.config
        scale = lr_scale(config, step, progress.elapsed_s)
        fraction = run_fraction(config, step, progress.elapsed_s)
        set_rates_(self.optimizers, scale, muon_momentum(config, step))
        self._set_loops_(self.model_config.num_loops if fraction >= config.loops_from else 0)
        named = dict(self.model.named_parameters())
        packer = self.packer if fraction >= config.packer_from else None
        if packer is not None:
            packer.prepare_(named, self.average.tensors)
            progress.packer = packer.numbers()
        value = self._gradients_(step, fraction, self.quantizer if fraction >= config.qat_from else None)
        if not math.isfinite(value):
            raise DataError(f"the loss is {value} at step {step + 1}; lower --matrix-lr and --embed-lr")
        if config.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
        if packer is not None:
            packer.move_(named, scale)
        self.model.zero_grad(set_to_none=True)
        self.average.update_(self.model, step, scale)
        progress.step += 1
        progress.losses = [*progress.losses, value][-LOSS_WINDOW:]
        progress.elapsed_s = time.monotonic() - began_s
        tokens = progress.step * config.batch_tokens
        return StepRow(progress.step, value, config.matrix_lr * scale, tokens, round(progress.elapsed_s, 3))

    def _gradients_(self, step: int, fraction: float, late: FakeQuantizer | None) -> float:
        """Fill every gradient with that of the mean loss of the batch, which comes back."""
        parts, processes = self.config.micro_batches, self.processes
        sampler = self.samplers[sequence_length(self.config, self.model_config.seq_len, fraction)]
        ids, targets = (torch.from_numpy(part).chunk(parts) for part in sampler.batch(step))
        named = dict(self.model.named_parameters())
        weights = late.weights(named) if late is not None else None
        value = 0.0
        for index in range(processes.rank * parts // processes.size, (processes.rank + 1) * parts // processes.size):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = self.loss(ids[index].to(self.device), targets[index].to(self.device), weights)
            if parts > 1:
                loss = loss / parts
            value += float(loss.detach())
            loss.backward()  # type: ignore[no-untyped-call]
        if late is not None and weights is not None:
            done = (fraction - self.config.qat_from) / max(1.0 - self.config.qat_from, 1e-9)
            late.hand_back_(named, weights, done)
        processes.add_gradients_(self.model.parameters())
        return processes.total(value, self.device)

    def _set_loops_(self, loops: int) -> None:
        if loops != self.loops:
            self.model.set_loops_(loops)
            self.loops = loops

    def _make_samplers(self) -> dict[int, BatchSampler]:
        """Length of a sequence -> its batches, for every length of the curriculum."""
        config, full = self.config, self.model_config.seq_len
        parts = config.micro_batches
        if parts % self.processes.size:
            raise DataError(
                f"{self.processes.size} processes cannot share {parts} micro-batches evenly; "
                f"give --micro-batches as a multiple of {self.processes.size}"
            )
        begin = self.tokenizer.document_token if config.document_batches else -1
        if begin is None:
            raise DataError(
                f"{self.tokenizer.source} has no token that documents begin with; leave --document-batches out"
            )
        samplers = {}
        for length in {full, *(length for _, length in config.seq_curriculum)}:
            if length < 1 or config.batch_tokens % (length * parts):
                whole = f"{parts} equal parts of" if parts > 1 else "a whole number of"
                raise DataError(
                    f"{config.batch_tokens} tokens per batch are not {whole} sequences of {length}; "
                    f"give --batch-tokens as a multiple of {length * parts}"
                )
            common = (self.train_tokens, length, config.batch_tokens, config.seed)
            samplers[length] = DocumentSampler(*common, begin) if config.document_batches else BatchSampler(*common)
        return samplers

    def _is_over(self, progress: _Progress) -> bool:
        out_of_time = bool(self.config.max_seconds) and progress.elapsed_s >= self.config.max_seconds
        return progress.step >= self.config.steps or (out_of_time and progress.step > 0)

    def _save(self, progress: _Progress) -> None:
        if not self.processes.leads:
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        more = self.packer.tensors() if self.packer is not None else None
        self.state.save(self.model, self.optimizers, self.average, dataclasses.asdict(progress), more)

    def _restored(self) -> dict[str, Any]:
        """The progress of the state file, whose tensors are taken over; {} without one."""

        def take(more: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
            if self.packer is not None and progress["packer"]:
                self.packer.restore_(more, progress["packer"])

        return self.state.restore_(self.model, self.optimizers, self.average, take) or {}

    def _for_packer(self) -> ForPacker | None:
        """What trains for a packer in the last part. Raises: RecipeError for a target that is none."""
        config = self.config
        if not config.packer:
            return None
        held = deployable({name: parameter.detach() for name, parameter in self.model.named_parameters()})
        target = PackerTarget.of(config.packer, {name: tuple(tensor.shape) for name, tensor in held.items()})
        n_steps = config.steps - round(config.steps * config.packer_from)
        return ForPacker(target, held, self._observe, config.packer_pressure, n_steps, config.packer_every)

    def _observe(self, weights: Mapping[str, NDArray[np.float32]]) -> Calibration:
        """Statistics of training text under these weights."""
        model = self._build({name: torch.tensor(array, device=self.device) for name, array in weights.items()})
        tokens = self.train_tokens[: self.config.packer_tokens]
        length = min(self.model_config.seq_len, len(tokens))
        return observe(model, tokens, length, token_digest="", output_rows=0, text=self.train_tokens, stored=weights)

    def _weights(self) -> dict[str, NDArray[np.float32]]:
        """The averaged weights: what the checkpoint holds and what is evaluated."""
        return {name: tensor.cpu().numpy() for name, tensor in deployable(self.average.tensors).items()}

    def _build(self, state: Mapping[str, Tensor]) -> GPT:
        """The model to be measured, with as many loops as training now has."""
        model = build(self.model_config, state)
        if self.loops != self.model_config.num_loops:
            model.set_loops_(self.loops)
        return model

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

    def _qat_recipe(self) -> str | None:
        """The recipe that was trained for, if any."""
        if self.packer is not None:
            return self.packer.recipe
        return None if self.quantizer is None else self.quantizer.recipe(deployable(self.average.tensors))

    def _training(self, steps: int, train_loss: float, val: BitsPerByte) -> dict[str, str]:
        """What the metadata says of the training; nothing of the clock, so that equal runs write equal files."""
        val_row = {key: value for key, value in val.as_row().items() if key not in ("eval_s", "kl")}
        training = {
            "steps": steps,
            "tokens": steps * self.config.batch_tokens,
            "seed": self.config.seed,
            "train_loss": train_loss,
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
        recipe = self._qat_recipe()
        if recipe is not None:
            training["qat_recipe"] = recipe
        return {"training": json.dumps(training, sort_keys=True)}

    def _identity(self) -> dict[str, str]:
        """The part of the metadata that says what model this is and where its text lies."""
        return {
            "format": FORMAT,
            "model_config": self.model_config.to_json(),
            "tokenizer_sha256": self.tokenizer.sha256,
            "data_defaults": self.folder.as_defaults(self.out, self.model_config.seq_len),
        }
