"""Where the tokens of a bench come from: which text validates, which calibrates, which tokenizer cuts it.

    --text PATH ...           documents, split by their content       a folder of `pgtrain data`: its two globs
    --val NAME --calib NAME   shards or documents each                neither: what the checkpoint names
    the names of MADE         no file: what the model writes, or pieces drawn at random

Owns the order in which these are asked. Refuses both at once.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.folders import CONFIG
from pgpack.errors import DataError
from pgpack.stages import did_you_mean
from pgpack.text.data import Tokens
from pgpack.text.documents import WITH_FIELDS, text_kind
from pgpack.text.find_tokenizer import load_tokenizer, tokenizer_of
from pgpack.text.made import MADE, RANDOM, SELF
from pgpack.text.random_pieces import random_text
from pgpack.text.shard_files import find_shards
from pgpack.text.source import BUILTIN, Split, is_text, open_source, split
from pgpack.text.stream import DocumentTokens, ShardTokens, TokenSource
from pgpack.text.text_folder import VAL_GLOB, TextFolder
from pgpack.text.tokenizer import TokenizedText, Tokenizer
from pgpack.text.tokenizer_files import TOKENIZER_FLAG, files_of_tokenizer

from .defaults import TextDefaults, text_defaults
from .options import VAL_TOKENS, BenchOptions

EXCLUSIVE = "give either text, or val and calib"
MAX_OVERLAP = 0.02

Written = Callable[[Tokenizer, str], DocumentTokens]


@dataclass(frozen=True, eq=False)
class Sources:
    """Both sides of a text and what cuts it. `split`: how documents were parted, where they were. `validates`:
    whether a loss on `val` says anything."""

    tokenizer: Tokenizer
    val: TokenSource
    calib: TokenSource | None
    split: Split | None = None
    validates: bool = True

    def evaluated(self, max_tokens: int | None) -> TokenizedText:
        """What is scored, and the token before it: all of shards, 2^16 tokens of documents, `max_tokens` at most."""
        n_scored = max_tokens or (VAL_TOKENS if isinstance(self.val, DocumentTokens) else None)
        return self.val.counted(None if n_scored is None else n_scored + 1)

    @property
    def note(self) -> str:
        """What a user should hear about the text; '' for shards, which say it all."""
        if not isinstance(self.val, DocumentTokens):
            return ""
        if self.split is None:
            return f"text: {self.val.name}"
        cut = ", cut into parts" if self.split.source.document_parts == 1 else ""
        return f"text: {self.val.name}{cut}; about {self.split.share:.0%} of its documents validate"


def calibrating(source: TokenSource, n_tokens: int | None) -> Tokens:
    """The tokens that are looked for in the evaluated text, where `n_tokens` are calibrated on.

    Shards are looked at whole: what is refused must not depend on how much is used.
    """
    return source.tokens(None if isinstance(source, ShardTokens) else n_tokens)


def refuse_overlap(share: float, name: str) -> None:
    """Raises: DataError where more than 2 % of the evaluated windows occur in the calibration text `name`."""
    if share > MAX_OVERLAP:
        raise DataError(
            f"{share:.1%} of the evaluated text also occurs in the calibration text {name} (windows of 64 tokens, or "
            f"of 256 letters whatever stands between them; at most {MAX_OVERLAP:.0%} is allowed): results would be "
            "tuned on their own test; give other text as --calib GLOB"
        )


def names_both(options: BenchOptions) -> bool:
    """Whether flags name both sides: overlap is then refused even where nothing calibrates."""
    return not {None, *MADE} & {options.val, options.calib}


def open_sources(path: Path, checkpoint: Checkpoint, options: BenchOptions, written: Written) -> Sources:
    """The sources of the checkpoint in `path`; what the options say wins over its metadata.

    `written`: (tokenizer, "val" or "calib") -> what the model writes itself, where `SELF` is asked for.
    Raises: DataError, saying which flag to give.
    """
    defaults = ready(path, checkpoint, options)
    tokenizer = tokenizer_for(path, checkpoint, defaults)

    def made(name: str, side: str) -> DocumentTokens:
        return random_text(tokenizer, side) if name == RANDOM else written(tokenizer, side)

    if options.text and defaults.val is None:
        parted = split(open_source(options.text, options.field))
        name = _spoken(options.text)
        val, calib = (DocumentTokens(side, tokenizer, name) for side in (parted.val(), parted.calib()))
        if options.calib in MADE:
            calib = made(options.calib, "calib")
        return Sources(tokenizer, val, calib, parted)

    def source(side: str, name: str) -> TokenSource:
        return made(name, side) if name in MADE else _source(name, tokenizer, options.field)

    calibrates = None if defaults.calib is None else source("calib", defaults.calib)
    return Sources(tokenizer, source("val", defaults.val or RANDOM), calibrates, validates=defaults.val is not None)


def ready(path: Path, checkpoint: Checkpoint, options: BenchOptions) -> TextDefaults:
    """What names the text of the checkpoint in `path`; no text and no tokenizer is read.

    Raises: DataError, saying which flag to give, for what lacks or is not there.
    """
    defaults = _named(text_defaults(checkpoint.metadata, path), options)
    if defaults.val == RANDOM:
        raise DataError(f"{RANDOM} pieces calibrate and validate nothing; give --val {SELF}, or text as --text PATH")
    if not options.text and defaults.val is None and defaults.calib != RANDOM:
        also = "" if _has_tokenizer(checkpoint, defaults) else " and no tokenizer"
        flags = f", and {TOKENIZER_FLAG}" if also else ""
        raise DataError(
            f"{path} names no validation text{also}; give text as --text PATH (files, folders, or {BUILTIN}), "
            f"or its shards as --val GLOB{flags}{_other_flags(checkpoint, options)}"
        )
    _require_remembered(path, checkpoint, defaults)
    if not _has_tokenizer(checkpoint, defaults):
        if options.model is None and CONFIG in checkpoint.companions:
            from pgpack.models.huggingface import require_causal

            require_causal(checkpoint.companions[CONFIG])  # what no tokenizer would help is said first
        raise _no_tokenizer(path, _other_flags(checkpoint, options))
    tokenizer_files(path, checkpoint.metadata, options)
    _refuse_idle_field(path, checkpoint, options)
    return defaults


def require_calibration_text(path: Path, checkpoint: Checkpoint, options: BenchOptions, purpose: str) -> None:
    """Raises: DataError, naming every flag that `purpose` lacks, where no text to calibrate on is named."""
    needed = {
        "--calib GLOB": options.calib,
        TOKENIZER_FLAG: options.tokenizer or any("tokenizer" in name for name in checkpoint.companions),
        "--val GLOB": options.val or options.calib == RANDOM,
    }
    lacking = [flag for flag, value in needed.items() if not value and not options.text]
    if lacking and "data_defaults" not in checkpoint.metadata:
        told = "model_config" in checkpoint.metadata or CONFIG in checkpoint.companions
        if options.model is None and not told:
            lacking.append("for a model that is not pgtrain's --model FILE.py:build --seq-len N")
        raise DataError(
            f"{purpose} runs the model on calibration text, and {path} names none; "
            f"give {', '.join(lacking)} (the evaluated text of --val is kept out of it); "
            "or text for both as --text PATH"
        )


def _refuse_idle_field(path: Path, checkpoint: Checkpoint, options: BenchOptions) -> None:
    """Raises: DataError for a `field` where there are no rows to read it of."""
    if options.field is None:
        return
    found = files_of(path, checkpoint.metadata, options)
    if not any(text_kind(file) in WITH_FIELDS for files in found.values() for file in files):
        raise DataError(f"--field {options.field} is of {' and '.join(WITH_FIELDS)}, and the text has neither")


def files_of(path: Path, metadata: Mapping[str, str], options: BenchOptions) -> dict[str, list[Path]]:
    """The files of the text of the checkpoint in `path`: those of `text`, or those of `val` and of `calib`.

    Raises: DataError where there are none.
    """
    named = _named(text_defaults(metadata, path), options)
    if named.val is None and options.text:
        return {"text": list(open_source(options.text, options.field).files)}
    names = {side: getattr(named, side) for side in ("val", "calib")}
    return {side: _files(name) for side, name in names.items() if name not in (None, *MADE)}


def require_named(path: Path, options: BenchOptions) -> None:
    """Raises: DataError for text or a tokenizer that flags name and that is not there."""
    files_of(path, {}, options)
    tokenizer_files(path, {}, options)


def tokenizer_files(path: Path, metadata: Mapping[str, str], options: BenchOptions) -> list[Path]:
    """The files of the tokenizer that flags or metadata name; none where it is one of the checkpoint's companions."""
    named = _named(text_defaults(metadata, path), options).tokenizer
    return [] if named is None else list(files_of_tokenizer(named).values())


def absolute(name: str) -> str:
    """A text as other working directories name it."""
    return name if name in (BUILTIN, *MADE) else os.path.abspath(name)


def _files(name: str) -> list[Path]:
    if is_text(name):
        return list(open_source([name]).files)
    try:
        return find_shards(name)
    except DataError as error:
        raise DataError(f"{error}{did_you_mean(name, (BUILTIN, *MADE))}") from None


def _shard_folder(options: BenchOptions) -> TextFolder | None:
    """The folder of `pgtrain data` that --text names; None where it names anything else."""
    if len(options.text) != 1 or not any(Path(options.text[0]).glob(VAL_GLOB)):
        return None
    folder = Path(options.text[0])
    given = Path(options.tokenizer) if options.tokenizer else None
    return TextFolder.open(folder, given)


def _named(defaults: TextDefaults, options: BenchOptions) -> TextDefaults:
    """What flags and metadata name together; no `val` where --text names documents."""
    if options.text and (options.val is not None or options.calib not in (None, *MADE)):
        raise DataError(EXCLUSIVE)
    given = Path(options.tokenizer) if options.tokenizer else defaults.tokenizer
    if (folder := _shard_folder(options)) is not None:
        trained: str = options.calib or folder.train_glob
        return TextDefaults(folder.val_glob, trained, folder.tokenizer_path, defaults.seq_len)
    if options.text:
        return TextDefaults(None, None, given, defaults.seq_len)
    val, calib = options.val or defaults.val, options.calib or defaults.calib
    return dataclasses.replace(defaults, val=val, calib=calib, tokenizer=given)


def _require_remembered(path: Path, checkpoint: Checkpoint, used: TextDefaults) -> None:
    """Raises DataError where the text that a checkpoint names itself is used and is not there any more."""
    remembered = text_defaults(checkpoint.metadata, path)
    named = {
        "val": ("validation text", "--val GLOB, or --text PATH"),
        "tokenizer": ("tokenizer", TOKENIZER_FLAG),
    }
    for what, (kind, flag) in named.items():
        name = getattr(remembered, what)
        if name is not None and getattr(used, what) == name and not glob(str(name)):
            raise DataError(f"{path} names {name} as its {kind}, and there is no such file; give it as {flag}")


def _has_tokenizer(checkpoint: Checkpoint, defaults: TextDefaults) -> bool:
    return defaults.tokenizer is not None or any("tokenizer" in name for name in checkpoint.companions)


def _no_tokenizer(path: Path, also: str = "") -> DataError:
    return DataError(f"{path} names no tokenizer; give it as {TOKENIZER_FLAG}{also}")


def _other_flags(checkpoint: Checkpoint, options: BenchOptions) -> str:
    """What else bare tensors need, as the end of a sentence: nobody should learn of it flag by flag."""
    if "model_config" in checkpoint.metadata or checkpoint.companions:
        return ""
    template = "--model FILE.py:build (`pgpack init-adapter` writes a template)"
    needed = {template: options.model, "--seq-len N": options.seq_len}
    flags = " and ".join(flag for flag, given in needed.items() if given is None)
    return f"; of a model that is neither pgtrain's nor a public script's also {flags}" if flags else ""


def tokenizer_for(path: Path, checkpoint: Checkpoint, defaults: TextDefaults) -> Tokenizer:
    """The tokenizer that was named, or the checkpoint's own. Raises: DataError where there is none, or another."""
    if defaults.tokenizer is not None:
        found: Tokenizer | None = load_tokenizer(defaults.tokenizer)
    else:
        found = tokenizer_of(checkpoint.companions, str(path))
    if found is None:
        raise _no_tokenizer(path)
    trained_with = checkpoint.metadata.get("tokenizer_sha256", found.sha256)
    if found.sha256 != trained_with:
        raise DataError(
            f"{found.source} is not the tokenizer that {path} was trained with "
            f"(sha256 {found.sha256[:12]}, trained with {trained_with[:12]})"
        )
    return found


def _source(name: str, tokenizer: Tokenizer, field: str | None) -> TokenSource:
    if is_text(name):
        return DocumentTokens(open_source([name], field).parts(), tokenizer, _spoken([name]))
    return ShardTokens(name, tokenizer)


def _spoken(names: tuple[str, ...] | list[str]) -> str:
    if names[0] == BUILTIN:
        return f"{BUILTIN}, the documentation inside CPython {sys.version_info.major}.{sys.version_info.minor}"
    return ", ".join(names)
