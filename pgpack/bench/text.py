"""The model and the text that a checkpoint is measured with, found from its own metadata or from what a user says.

Owns `open_text`: one place that decides which model, which validation text, which calibration text.
Refuses calibration text that overlaps the evaluated text: a packer tuned on its test would look too good.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NoReturn, cast

import torch

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import DataError
from pgpack.loss.bpb import Build, TextEvaluator, trim
from pgpack.loss.evaluator import Tensors
from pgpack.loss.sliding import EvaluationWay
from pgpack.models.probe import Probe
from pgpack.models.registry import find_model
from pgpack.models.source import FoundModel, Wanted
from pgpack.progress import Progress, waiting
from pgpack.recipe.directives import Calibrate
from pgpack.text.data import Tokens
from pgpack.text.letters import Overlap
from pgpack.text.made import RANDOM, SELF
from pgpack.text.stream import ApartTokens, DocumentTokens, ShardTokens, TokenSource
from pgpack.text.tokenizer import TokenizedText, Tokenizer

from .defaults import text_defaults
from .options import BenchOptions
from .self_text import NoText, written
from .sources import Sources, calibrating, names_both, open_sources, refuse_overlap

SHORTEST = 16  # tokens of the shortest text that windows are shortened for
PROBED = 1 << 16  # tokens that tell models apart at most


CALIB_TOKENS = 1 << 20  # of documents, where no number is asked for


@dataclass(frozen=True, eq=False)
class Text:
    """A model's text: what it is evaluated on, what it may be calibrated on, and how it is built.

    `val` is already trimmed to whole windows. `notes`: sentences on the text and how the model was found, for the
    user; `variant`: the model's config where the checkpoint does not say it, for the digest of evaluations.
    `split_digest`: sha256 hex of how documents were parted and of those that validate; None for shards. `validates`:
    whether a loss on `val` says anything.
    """

    model: FoundModel
    val: TokenizedText
    calib: TokenSource | None
    tokenizer: Tokenizer
    seq_len: int
    device: str
    counted: bool = False  # whether bytes were counted from the text itself
    notes: tuple[str, ...] = ()
    variant: str = ""
    split_digest: str | None = None
    validates: bool = True

    @property
    def build(self) -> Build:
        """State dict of torch tensors -> module in eval mode."""
        return self.model.build

    @property
    def val_tokens(self) -> Tokens:
        """The evaluated tokens. Shape: (n,) uint16 or uint32."""
        return self.val.tokens

    @property
    def n_tokens(self) -> int:
        """Scored validation tokens."""
        return len(self.val) - 1

    @property
    def n_windows(self) -> int:
        return self.n_tokens // self.seq_len

    def first(self, share: float) -> Text:
        """The same with the first `share` of the evaluated windows, at least one."""
        n_windows = max(1, round(share * self.n_windows))
        return replace(self, val=self.val.first(n_windows * self.seq_len + 1))

    @property
    def vocab_size(self) -> int:
        """Tokens that the text may hold: those that tokenizer and model both know."""
        return known_tokens(self.model, self.tokenizer)

    @cached_property
    def calib_tokens(self) -> Tokens:
        """Calibration tokens, read on first use: all of shards, the first 2^20 of documents.

        Raises: DataError as `first_calib_tokens`.
        """
        return self.first_calib_tokens(None if isinstance(self.calib, ShardTokens) else CALIB_TOKENS)

    def first_calib_tokens(self, n_tokens: int | None) -> Tokens:
        """The first `n_tokens` of the calibration text, or as many as there are; None: all.

        Raises: DataError when there is none, or when more than 2 % of the evaluated text occurs in them.
        """
        if self.calib is None:
            raise DataError(
                "no calibration text is known for this checkpoint; give it as --calib GLOB, or give --text PATH"
            )
        tokens = calibrating(self.calib, n_tokens)
        require_known(tokens, self.model, self.tokenizer)
        refuse_overlap(self._overlap(tokens), self.calib.name)
        return tokens[:n_tokens]

    def _overlap(self, tokens: Tokens) -> float:
        """Looked for once per number of tokens."""
        if len(tokens) not in self._overlaps:
            self._overlaps[len(tokens)] = Overlap(self.tokenizer).share(tokens, self.val_tokens)
        return self._overlaps[len(tokens)]

    @cached_property
    def _overlaps(self) -> dict[int, float]:
        return {}

    @property
    def n_left_out(self) -> int:
        """Calibration tokens left out so far because their passages are also evaluated."""
        return self.calib.n_left_out if isinstance(self.calib, ApartTokens) else 0

    def evaluator(
        self, reference: Tensors | None = None, batch_tokens: int | None = None, way: EvaluationWay | None = None
    ) -> TextEvaluator:
        """An evaluator on this text; `reference` (the fp32 tensors) makes it report KL as well.

        Raises: DataError where there is no text to evaluate on, or none that begins documents.
        """
        if not self.validates:
            raise DataError(
                f"no text is named to measure a loss on: --calib {RANDOM} calibrates alone; give --val {SELF}, or "
                "text as --text PATH"
            )
        way = way or EvaluationWay()
        if way.documents and self.tokenizer.bos_id is None:
            raise DataError(
                f"{self.tokenizer.source} begins no document with a token of its own; leave out --documents"
            )
        return TextEvaluator(
            self.build if way.loops is None else self._looped(way.loops),
            self.val,
            self.vocab_size,
            self.seq_len,
            tokenizer_sha256=self.tokenizer.sha256,
            reference=reference,
            device=self.device,
            batch_tokens=batch_tokens,
            stride=way.stride or None,
            document_token=self.tokenizer.bos_id if way.documents else None,
            variant="|".join(part for part in (self.variant, way.variant, self._count_digest) if part),
            bf16=way.bf16,
        )

    @property
    def _count_digest(self) -> str:
        """What the digest of an evaluation says of bytes that no table of the tokenizer gives."""
        if not self.counted:
            return ""
        return f"bytes {hashlib.sha256(self.val.n_bytes.astype('<i4').tobytes()).hexdigest()}"

    def _looped(self, loops: int) -> Build:
        if self.model.looped is None:
            raise DataError(f"this model has no loop to repeat {loops} times; leave out --loops")
        return self.model.looped(loops)


def open_text(path: Path, checkpoint: Checkpoint, options: BenchOptions, progress: Progress = None) -> Text:
    """The text and model of the checkpoint in `path`; what the options say wins over its metadata.

    A model that metadata, names and shapes do not tell is found by its loss on a little text. `progress` names what
    takes long.
    Raises: DataError or CheckpointError, saying which flag to give.
    """
    metadata, device = checkpoint.metadata, options.device or "cpu"
    with waiting(progress, "reading the text"):
        sources = open_sources(path, checkpoint, options, partial(written, checkpoint, options))
    check_device(device)
    counted = isinstance(sources.val, DocumentTokens)
    with waiting(progress, "tokenizing the text"):
        val = sources.evaluated(options.max_tokens)
    probe = Probe(lambda: dict(checkpoint.items()), _probed(path, sources, val, options))
    wanted = Wanted(
        metadata,
        checkpoint.shapes,
        sources.tokenizer.vocab_size,
        probe,
        options.model,
        options.set,
        checkpoint.companions,
        options.seq_len or text_defaults(metadata, path).seq_len,
    )
    with waiting(progress, "finding the model that the weights are of"):
        model = find_model(wanted)
    require_known(val.tokens, model, sources.tokenizer)
    length = options.seq_len or text_defaults(metadata, path).seq_len or model.seq_len
    if length is None:
        raise DataError("the length of a sequence is not known for this model; give it as --seq-len N")
    if model.longest is not None and length > model.longest:
        raise DataError(
            f"windows of {length:,} tokens are more than this model reads; give --seq-len {model.longest}"
        )
    guessed = bool(model.how) and not model.evidence and options.seq_len is None
    hint = probe.shorter_windows(model.build, length) if guessed else ""
    notes = [sources.note, sources.val.lost if isinstance(sources.val, DocumentTokens | ShardTokens) else ""]
    if counted and options.seq_len is None and SHORTEST < len(val) <= length:
        length = 1 << (len(val) - 1).bit_length() - 1
        notes.append(f"windows of {length} tokens: the validation text has {len(val):,}; give more for longer ones")
    if model.how:
        notes.append(f"model: {model.how}; windows of {length} tokens{hint}; --model, --set and --seq-len change it")
    calib = sources.calib
    if sources.split is not None and calib is not None:
        calib = ApartTokens(calib, val.tokens, sources.tokenizer)
    told = "model_config" in metadata and not options.set and options.model is None
    text = Text(
        model=model,
        val=val.first(len(trim(val.tokens, length, options.max_tokens))),
        calib=calib,
        tokenizer=sources.tokenizer,
        seq_len=length,
        device=device,
        counted=counted,
        notes=tuple(note for note in notes if note),
        variant="" if told else model.config,
        split_digest=_split_digest(sources),
        validates=sources.validates,
    )
    if names_both(options):
        text.first_calib_tokens(Calibrate().count)
    return text


def require_model(checkpoint: Checkpoint, tokenizer: Tokenizer, options: BenchOptions) -> None:
    """Raises: PgpackError for a model that flags name or change and that cannot be had. Where only a loss on text
    would tell, nothing is said: no text is read."""
    probe = cast(Probe, _Unread())
    known = (checkpoint.metadata, checkpoint.shapes, tokenizer.vocab_size)
    with contextlib.suppress(_TextNeeded):
        find_model(Wanted(*known, probe, options.model, options.set, checkpoint.companions, options.seq_len))


class _TextNeeded(Exception):
    pass


class _Unread:
    """In the place of the probe that reads a text."""

    def __getattr__(self, name: str) -> NoReturn:
        raise _TextNeeded(name)


def _probed(path: Path, sources: Sources, val: TokenizedText, options: BenchOptions) -> Tokens:
    """What tells models apart. Shards for calibration do as well as what is evaluated, and leave that alone."""
    if not sources.validates:
        return cast(Tokens, NoText(str(path)))
    if isinstance(sources.val, DocumentTokens) or sources.calib is None or options.calib == RANDOM:
        return val.tokens
    return sources.calib.tokens(PROBED)


def _split_digest(sources: Sources) -> str | None:
    if sources.split is None or not isinstance(sources.val, DocumentTokens):
        return None
    return hashlib.sha256(f"{sources.split.rule}|{sources.val.read.hexdigest()}".encode()).hexdigest()


def known_tokens(model: FoundModel, tokenizer: Tokenizer) -> int:
    """How many tokens, from 0 on, tokenizer and model both know."""
    return min(tokenizer.vocab_size, model.vocab_size or tokenizer.vocab_size)


def require_known(tokens: Tokens, model: FoundModel, tokenizer: Tokenizer) -> None:
    """Raises DataError for a token beyond the model's table: the tokenizer is another model's."""
    largest, known = int(tokens.max(initial=0)), known_tokens(model, tokenizer)
    if largest >= known:
        raise DataError(
            f"the text holds token {largest:,} and the model knows only {known:,} of the tokenizer's "
            f"{tokenizer.vocab_size:,}; give the tokenizer that it was trained with as --tokenizer FILE"
        )


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or this machine does not have."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise DataError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise DataError("no CUDA device is available here; use --device cpu")
