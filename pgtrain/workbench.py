"""The model and the text that a checkpoint is measured with, found from its own metadata or from flags.

Owns `open_text`: one place that decides which model, which validation text, which calibration text.
Refuses calibration text that overlaps the evaluated text: a packer tuned on its test would look too good.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from pgpack.errors import CheckpointError, DataError
from pgpack.loss.bpb import Build, TextEvaluator, next_token_logits, trim
from pgpack.loss.evaluator import Tensors
from pgpack.loss.sliding import EvaluationWay
from pgpack.text.data import Tokens, digest_tokens, overlap_fraction, read_tokens
from pgpack.text.shard_files import find_shards
from pgpack.text.tokenizer import ByteTables, Tokenizer
from pgtrain.model.dialects import unbank, without_unused
from pgtrain.model.gpt import GPT
from pgtrain.model.gpt import build as build_gpt
from pgtrain.model.model_config import GPTConfig

from .changed_fields import changed_fields
from .identify import CLEAR, identify, named
from .presets import PRESETS

MAX_OVERLAP = 0.02
PROBE_LEN = 1024  # tokens
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Text:
    """A model's text: what it is evaluated on, what it may be calibrated on, and how it is built.

    `build` turns a state dict of torch tensors into a module in eval mode. `val_tokens` is already trimmed to
    whole windows. Shape: tokens (n,) uint16. `how`: a sentence on how the model was found, '' when it was named;
    `model_json`: its config, '' for the user's own code; `variant`: that config again where the checkpoint does not
    say it, for the digest of evaluations.
    """

    build: Build
    val_tokens: Tokens
    byte_tables: ByteTables
    tokenizer_sha256: str
    seq_len: int
    device: str
    calib_glob: str | None
    document_token: int = 1
    how: str = ""
    model_json: str = ""
    variant: str = ""

    @property
    def n_tokens(self) -> int:
        """Scored validation tokens."""
        return len(self.val_tokens) - 1

    @property
    def n_windows(self) -> int:
        return self.n_tokens // self.seq_len

    def first(self, share: float) -> Text:
        """The same with the first `share` of the evaluated windows, at least one."""
        n_windows = max(1, round(share * self.n_windows))
        return replace(self, val_tokens=self.val_tokens[: n_windows * self.seq_len + 1])

    @property
    def vocab_size(self) -> int:
        return len(self.byte_tables.base_bytes)

    @cached_property
    def calib_tokens(self) -> Tokens:
        """Calibration tokens, read on first use.

        Raises: DataError when there are none, or when more than 2 % of the evaluated text occurs in them.
        """
        if self.calib_glob is None:
            raise DataError("no calibration text is known for this checkpoint; give it as --calib GLOB")
        tokens = read_tokens(find_shards(self.calib_glob), self.vocab_size)
        share = overlap_fraction(tokens, self.val_tokens)
        if share > MAX_OVERLAP:
            raise DataError(
                f"{share:.1%} of the evaluated text also occurs in the calibration text {self.calib_glob} "
                f"(64-token windows; at most {MAX_OVERLAP:.0%} is allowed): results would be tuned on "
                "their own test; give other text as --calib GLOB"
            )
        return tokens

    @property
    def calib_digest(self) -> str:
        """sha256 hex of the calibration tokens."""
        return digest_tokens(self.calib_tokens)

    def evaluator(
        self, reference: Tensors | None = None, batch_tokens: int | None = None, way: EvaluationWay | None = None
    ) -> TextEvaluator:
        """An evaluator on this text; `reference` (the fp32 tensors) makes it report KL as well."""
        way = way or EvaluationWay()
        return TextEvaluator(
            self.build if way.loops is None else with_loops(self.build, way.loops),
            self.val_tokens,
            self.byte_tables,
            self.seq_len,
            tokenizer_sha256=self.tokenizer_sha256,
            reference=reference,
            device=self.device,
            batch_tokens=batch_tokens,
            stride=way.stride or None,
            document_token=self.document_token if way.documents else None,
            variant="|".join(part for part in (self.variant, way.variant) if part),
            bf16=way.bf16,
        )


def open_text(
    checkpoint_path: Path,
    metadata: Mapping[str, str],
    state: Arrays,
    *,
    val: str | None = None,
    calib: str | None = None,
    tokenizer: Path | str | None = None,
    seq_len: int | None = None,
    max_tokens: int | None = None,
    model_spec: str | None = None,
    device: str = "cpu",
    changes: Sequence[str] = (),
    weights: Callable[[], Tensors] | None = None,
) -> Text:
    """The text and model of a checkpoint; an argument wins over the metadata (`data_defaults`, `model_config`).

    `state` names the checkpoint's tensors (only names and shapes are used). `model_spec` is FILE.py:build with
    build(state_dict of torch tensors) -> nn.Module that gives logits, or the name of a preset, for the checkpoints of
    the public training scripts. `changes`: FIELD=VALUE that the user knows better. `weights` gives the
    tensors themselves: with them a model that names and shapes do not tell is found by its loss on a little text.
    Raises: DataError or CheckpointError, saying which flag to give.
    """
    defaults = text_defaults(metadata, checkpoint_path)
    val, calib = val or defaults.val, calib or defaults.calib
    tokenizer_path = Path(tokenizer) if tokenizer else defaults.tokenizer
    if val is None:
        also = "" if tokenizer_path else " and no tokenizer"
        flags = "" if tokenizer_path else ", and --tokenizer FILE.model"
        raise DataError(f"{checkpoint_path} names no validation text{also}; give its shards as --val GLOB{flags}")
    if tokenizer_path is None:
        raise DataError(f"{checkpoint_path} names no tokenizer; give it as --tokenizer FILE.model")
    check_device(device)
    model_tokenizer = Tokenizer.load(tokenizer_path)
    trained_with = metadata.get("tokenizer_sha256", model_tokenizer.sha256)
    if model_tokenizer.sha256 != trained_with:
        raise DataError(
            f"{tokenizer_path} is not the tokenizer that {checkpoint_path} was trained with "
            f"(sha256 {model_tokenizer.sha256[:12]}, trained with {trained_with[:12]})"
        )
    val_tokens = read_tokens(find_shards(val), model_tokenizer.vocab_size)
    fields = changed_fields(changes, GPTConfig()) if changes else {}
    probe = None
    if weights is not None:
        probe = Probe(weights, read_tokens(find_shards(calib), model_tokenizer.vocab_size) if calib else val_tokens)
    shapes = {name: tuple(array.shape) for name, array in state.items()}
    found = _model(metadata, shapes, model_spec, model_tokenizer.vocab_size, fields, probe)
    length = seq_len or defaults.seq_len or found.seq_len
    if length is None:
        raise DataError("the length of a sequence is not known for this model; give it as --seq-len N")
    hint = probe.shorter_windows(found.build, length) if found.how and probe and seq_len is None else ""
    return Text(
        build=found.build,
        val_tokens=trim(val_tokens, length, max_tokens),
        byte_tables=model_tokenizer.byte_tables,
        tokenizer_sha256=model_tokenizer.sha256,
        seq_len=length,
        device=device,
        calib_glob=calib,
        document_token=model_tokenizer.bos_id,
        model_json=found.model_json,
        variant=found.model_json
        if found.model_json and (changes or model_spec or "model_config" not in metadata)
        else "",
        how=f"{found.how}; windows of {length} tokens{hint}" if found.how else "",
    )


def with_loops(build: Build, loops: int) -> Build:
    """`build` with the model's loop repeated `loops` times, whatever it was trained with.

    Raises: DataError (when it builds) for a model without a loop.
    """

    def looped(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        model = build(tensors)
        if not isinstance(model, GPT) or model.config.num_loops == 0:
            raise DataError(f"this model has no loop to repeat {loops} times; leave out --loops")
        model.set_loops_(loops)
        return model

    return looped


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or this machine does not have."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise DataError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise DataError("no CUDA device is available here; use --device cpu")


@dataclass(frozen=True)
class TextDefaults:
    """The text that a checkpoint names itself; None where it does not."""

    val: str | None = None
    calib: str | None = None
    tokenizer: Path | None = None
    seq_len: int | None = None


def text_defaults(metadata: Mapping[str, str], checkpoint_path: Path) -> TextDefaults:
    """`data_defaults` of the metadata with its paths seen from the checkpoint's folder."""
    if "data_defaults" not in metadata:
        return TextDefaults()
    try:
        values = json.loads(metadata["data_defaults"])
        folder = checkpoint_path.absolute().parent
        val, calib, model = (str(folder / values[key]) for key in ("val", "calib", "tokenizer"))
        return TextDefaults(val, calib, Path(model), int(values["seq_len"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{checkpoint_path}: its data_defaults metadata is not readable") from error


@dataclass(frozen=True)
class _Found:
    """How a model is built, the length of its sequences if it says one, and how it was found if it was not named."""

    build: Build
    seq_len: int | None
    how: str = ""
    model_json: str = ""


@dataclass(frozen=True)
class Probe:
    """The loss of a checkpoint under a config, on the first tokens of a text."""

    weights: Callable[[], Tensors]
    tokens: Tokens

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(array) for name, array in self.weights().items()}

    def nats(self, config: GPTConfig) -> float:
        """Units: nats per token, infinite where the model gives no finite loss."""
        length = min(config.seq_len, PROBE_LEN, len(self.tokens) - 1)
        ids = torch.tensor(self.tokens[: length + 1].astype("int64")).unsqueeze(0)
        with torch.no_grad():
            model: Any = _field_build(config)(self.state)
            logits = model.forward_logits(ids[:, :-1])
            loss = float(torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[0, 1:]))
        return loss if math.isfinite(loss) else math.inf

    def shorter_windows(self, build: Build, length: int) -> str:
        """Says so when windows shorter than `length`, which nothing in a state dict tells, lose clearly less."""
        n = min(2 * PROBE_LEN, len(self.tokens) - 1) // length * length
        if n == 0:
            return ""
        block = torch.tensor(self.tokens[: n + 1].astype("int64"))
        losses = {}
        with torch.no_grad():
            model = build(self.state)
            for window in (
                part for part in (length, length // 2, length // 4, length // 8) if part and n % part == 0
            ):
                logits = next_token_logits(model, block[:-1].view(-1, window), 1)
                losses[window] = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), block[1:]))
        best = min(losses, key=losses.__getitem__)
        if not losses[best] < losses[length] - CLEAR:
            return ""
        return f" (of {best} it loses less, {losses[best]:.2f} to {losses[length]:.2f} nats: trained so?)"


def _model(
    metadata: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    model_spec: str | None,
    vocab_size: int,
    changes: Mapping[str, Any],
    probe: Probe | None,
) -> _Found:
    """--model wins, then the metadata, then names and shapes, then a measurement."""
    if model_spec is not None and model_spec not in PRESETS:
        if changes:
            raise DataError(f"--set changes fields of a pgtrain model, not of {model_spec}")
        return _Found(load_build(model_spec), None)
    if model_spec is not None:
        config, how = named(model_spec, shapes, changes), ""
    elif "model_config" in metadata:
        try:
            values = json.loads(metadata["model_config"])
        except ValueError as error:
            raise CheckpointError("the checkpoint's model_config metadata is not JSON") from error
        config, how = GPTConfig.from_mapping({**values, **changes}), ""
    else:
        if (found := shapes.get("tok_emb.weight")) and found[0] != vocab_size:
            raise _other_vocabulary(found[0], vocab_size)
        identified = identify(shapes, probe.nats if probe else None, changes)
        config, how = identified.config, identified.how
    if config.vocab_size != vocab_size:
        raise _other_vocabulary(config.vocab_size, vocab_size)
    return _Found(_field_build(config), config.seq_len, how, config.to_json())


def _other_vocabulary(model: int, tokenizer: int) -> DataError:
    return DataError(
        f"the model has a vocabulary of {model} tokens, the tokenizer one of {tokenizer}; give the tokenizer that it "
        "was trained with as --tokenizer FILE.model, and shards that were made with it"
    )


def _field_build(config: GPTConfig) -> Build:
    """A builder of `config` from a public script's own tensors: banked or not, with what the script never reads."""
    return lambda tensors: build_gpt(config, without_unused(config, unbank(tensors)))


def load_build(model_spec: str) -> Build:
    """The function FILE.py:NAME names (NAME defaults to `build`). The file is run: it is the user's own code.

    Raises: DataError when the file or the function does not exist.
    """
    file, _, name = model_spec.rpartition(":") if ".py:" in model_spec else (model_spec, "", "build")
    path = Path(file)
    if not path.is_file():
        raise DataError(
            f"model file {path} does not exist, and no preset is called so; give --model FILE.py:build or a preset "
            "of `pgtrain ls`"
        )
    spec = importlib.util.spec_from_file_location(f"pgtrain_user_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} is not a Python file; give --model FILE.py:build")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., nn.Module] | None = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"{path} has no function {name}; it must define {name}(state_dict) -> nn.Module")

    def build(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        model = function(dict(tensors))
        if not isinstance(model, nn.Module):
            raise DataError(f"{model_spec} returned a {type(model).__name__}, expected an nn.Module")
        return model.requires_grad_(False).eval()

    return build
