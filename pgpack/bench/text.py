"""The model and the text that a checkpoint is measured with, found from its own metadata or from what a user says.

Owns `open_text`: one place that decides which model, which validation text, which calibration text.
Refuses calibration text that overlaps the evaluated text: a packer tuned on its test would look too good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import DataError
from pgpack.loss.bpb import Build, TextEvaluator, trim
from pgpack.loss.evaluator import Tensors
from pgpack.loss.sliding import EvaluationWay
from pgpack.models.probe import Probe
from pgpack.models.registry import find_model
from pgpack.models.source import FoundModel, Wanted
from pgpack.text.data import Tokens, digest_tokens, overlap_fraction, read_tokens
from pgpack.text.shard_files import find_shards
from pgpack.text.tokenizer import ByteTables, Tokenizer

from .defaults import text_defaults
from .options import BenchOptions

MAX_OVERLAP = 0.02


@dataclass(frozen=True, eq=False)
class Text:
    """A model's text: what it is evaluated on, what it may be calibrated on, and how it is built.

    `val_tokens` is already trimmed to whole windows. Shape: tokens (n,) uint16. `how`: a sentence on how the model
    was found, '' when it was named; `variant`: its config where the checkpoint does not say it, for the digest of
    evaluations.
    """

    model: FoundModel
    val_tokens: Tokens
    byte_tables: ByteTables
    tokenizer_sha256: str
    seq_len: int
    device: str
    calib_glob: str | None
    document_token: int = 1
    how: str = ""
    variant: str = ""

    @property
    def build(self) -> Build:
        """State dict of torch tensors -> module in eval mode."""
        return self.model.build

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
            self.build if way.loops is None else self._looped(way.loops),
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

    def _looped(self, loops: int) -> Build:
        if self.model.looped is None:
            raise DataError(f"this model has no loop to repeat {loops} times; leave out --loops")
        return self.model.looped(loops)


def open_text(path: Path, checkpoint: Checkpoint, options: BenchOptions) -> Text:
    """The text and model of the checkpoint in `path`; what the options say wins over its metadata.

    A model that metadata, names and shapes do not tell is found by its loss on a little text.
    Raises: DataError or CheckpointError, saying which flag to give.
    """
    metadata, device = checkpoint.metadata, options.device or "cpu"
    defaults = text_defaults(metadata, path)
    val, calib = options.val or defaults.val, options.calib or defaults.calib
    tokenizer_path = Path(options.tokenizer) if options.tokenizer else defaults.tokenizer
    if val is None:
        also = "" if tokenizer_path else " and no tokenizer"
        flags = "" if tokenizer_path else ", and --tokenizer FILE.model"
        raise DataError(f"{path} names no validation text{also}; give its shards as --val GLOB{flags}")
    if tokenizer_path is None:
        raise DataError(f"{path} names no tokenizer; give it as --tokenizer FILE.model")
    check_device(device)
    tokenizer = Tokenizer.load(tokenizer_path)
    trained_with = metadata.get("tokenizer_sha256", tokenizer.sha256)
    if tokenizer.sha256 != trained_with:
        raise DataError(
            f"{tokenizer_path} is not the tokenizer that {path} was trained with "
            f"(sha256 {tokenizer.sha256[:12]}, trained with {trained_with[:12]})"
        )
    val_tokens = read_tokens(find_shards(val), tokenizer.vocab_size)
    probed = read_tokens(find_shards(calib), tokenizer.vocab_size) if calib else val_tokens
    probe = Probe(lambda: dict(checkpoint.items()), probed)
    wanted = Wanted(
        metadata,
        checkpoint.shapes,
        tokenizer.vocab_size,
        probe,
        options.model,
        options.set,
        checkpoint.companions,
    )
    model = find_model(wanted)
    length = options.seq_len or defaults.seq_len or model.seq_len
    if length is None:
        raise DataError("the length of a sequence is not known for this model; give it as --seq-len N")
    hint = probe.shorter_windows(model.build, length) if model.how and options.seq_len is None else ""
    told = "model_config" in metadata and not options.set and options.model is None
    return Text(
        model=model,
        val_tokens=trim(val_tokens, length, options.max_tokens),
        byte_tables=tokenizer.byte_tables,
        tokenizer_sha256=tokenizer.sha256,
        seq_len=length,
        device=device,
        calib_glob=calib,
        document_token=tokenizer.bos_id,
        variant="" if told else model.config,
        how=f"{model.how}; windows of {length} tokens{hint}" if model.how else "",
    )


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or this machine does not have."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise DataError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise DataError("no CUDA device is available here; use --device cpu")
