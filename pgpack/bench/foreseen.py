"""What a dry run knows of its subject: sizes of weights and lengths of text, without torch and without reading text.

Shapes are read as the commands themselves read them; of text only sizes of files are looked at. A torch file so old
that it takes torch counts by its bytes.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgpack.calibration.calibration import load_calibration
from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.files import opens_without_torch, require_file
from pgpack.errors import DataError
from pgpack.files import contents
from pgpack.formats.own.header import Header
from pgpack.formats.own.layout import MAGIC, unframe
from pgpack.loss.evaluator import whole_windows
from pgpack.recipe.directives import Calibrate
from pgpack.recipe.selector import Shapes
from pgpack.text.compressed import PACKED
from pgpack.text.letters import Overlap
from pgpack.text.made import SELF
from pgpack.text.random_pieces import random_text
from pgpack.text.shard_files import SUFFIXES, shard_length
from pgpack.text.source import BUILTIN, VAL_SHARE, open_source

from .artifact import read_artifact_file
from .defaults import text_defaults
from .options import VAL_TOKENS, BenchOptions
from .rates import BUILTIN_BYTES
from .sources import (
    calibrating,
    files_of,
    names_both,
    open_sources,
    ready,
    refuse_overlap,
    tokenizer_for,
)

COMPARED = 64 << 20  # bytes of shards that a dry run reads, to look for what is evaluated: two seconds
HOPELESS = 8_000_000  # values of a model that a dry run packs as coarsely as can be, against a hopeless budget
BYTES_PER_TOKEN = 3.5
PACKED_SHARE = 3  # bytes of text in one of a compressed file


@dataclass(frozen=True)
class Foreseen:
    """`shapes` of the stored tensors; `n_evaluated` tokens of text, 0 where none is known, in windows of
    `seq_len`, None where that is the model's to say, by `n_models`: two where one is compared with another."""

    shapes: Shapes
    n_evaluated: int
    seq_len: int | None = None
    n_models: int = 1

    @property
    def n_run(self) -> int:
        """Tokens that a model is run over, by all of them."""
        return self.n_models * self.n_evaluated

    @property
    def n_values(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())


def foreseen_run(path: Path, options: BenchOptions) -> Foreseen:
    """A checkpoint and the text that it would be run on.

    Raises: as `foreseen`; DataError where no text is named, or no tokenizer.
    """
    found = foreseen(path, options)
    if not found.n_evaluated and opens_without_torch(path):
        ready(path, open_merged(path, options.base, options.key), options)
    return found


def foreseen(path: Path, options: BenchOptions) -> Foreseen:
    """A checkpoint and the text that it would be run on, where one is named.

    Raises: CheckpointError, DataError, CalibrationError for what a run refuses before it reads any text.
    """
    require_file(path)
    if not opens_without_torch(path):
        n_values = path.stat().st_size // 4
        return Foreseen({path.name: (n_values,)}, evaluated_tokens(path, None, options))
    loaded = open_merged(path, options.base, options.key)
    length = options.seq_len or text_defaults(loaded.metadata, path).seq_len
    return Foreseen(loaded.stored_shapes, evaluated_tokens(path, loaded, options), length)


def foreseen_eval(
    file: Path, checkpoint: Path | None, options: BenchOptions, max_bytes: int | None = None
) -> Foreseen:
    """As `foreseen_file`. Raises: as that, and as `foreseen_run` for what names the text."""
    if checkpoint is not None:
        return dataclasses.replace(foreseen_run(checkpoint, options), n_models=2)
    if artifact_values(file, max_bytes) is None:
        return foreseen_run(file, options)
    return foreseen_file(file, None, options, max_bytes)


def foreseen_file(
    file: Path, checkpoint: Path | None, options: BenchOptions, max_bytes: int | None = None
) -> Foreseen:
    """An artifact or a checkpoint, on the text of `checkpoint` where that is given.

    Raises: as `foreseen`; FormatError for a damaged artifact.
    """
    if checkpoint is not None:
        return dataclasses.replace(foreseen(checkpoint, options), n_models=2)
    if (n_values := artifact_values(file, max_bytes)) is None:
        return foreseen(file, options)
    return Foreseen({file.name: (n_values,)}, evaluated_tokens(file, None, options))


def evaluated_tokens(path: Path, checkpoint: Checkpoint | None, options: BenchOptions) -> int:
    """How many tokens of the text of the checkpoint in `path` would be evaluated; 0 where none is named.

    `checkpoint`: None where it is not read, or is an artifact.
    Raises: DataError, CalibrationError for what a run refuses before it reads any text.
    """
    _require_given(options)
    metadata = {} if checkpoint is None else checkpoint.metadata
    if not options.names_text and text_defaults(metadata, path).val is None:
        return 0
    files = files_of(path, metadata, options)
    if checkpoint is not None:
        defaults = ready(path, checkpoint, options)
        if options.model is not None or options.set:
            from .text import require_model  # takes torch: only who names one waits for it

            require_model(checkpoint, tokenizer_for(path, checkpoint, defaults), options)
        if names_both(options) and _shard_bytes(files) <= COMPARED:
            sources = open_sources(path, checkpoint, options, random_text)
            assert sources.calib is not None
            calib = calibrating(sources.calib, Calibrate().count)
            val = sources.evaluated(options.max_tokens).tokens
            refuse_overlap(Overlap(sources.tokenizer).share(calib, val), sources.calib.name)
    validating = files.get("val", files.get("text", []))
    if validating and all(file.suffix in SUFFIXES for file in validating):
        n_tokens = sum(map(shard_length, validating))
        if length := options.seq_len or text_defaults(metadata, path).seq_len:
            whole_windows(n_tokens, length, options.max_tokens)
        return n_tokens if options.max_tokens is None else min(options.max_tokens, n_tokens)
    limit = options.max_tokens or VAL_TOKENS
    if options.val == SELF:
        return limit
    n_bytes = sum(map(_unpacked_bytes, validating)) or BUILTIN_BYTES
    share = VAL_SHARE if "text" in files else 1.0
    return min(limit, max(1, int(share * n_bytes / BYTES_PER_TOKEN)))


def _require_given(options: BenchOptions) -> None:
    """Raises: CalibrationError, DataError for a calibration, a model's file or a device that flags name and that is
    not there. The latter two take torch: only who names one waits for it."""
    if options.calibration is not None:
        load_calibration(options.calibration)
    if options.model is not None and ".py" in options.model:
        from pgpack.models.adapter_file import require_model_file

        require_model_file(options.model)
    if options.device not in (None, "cpu"):
        from .text import check_device

        check_device(str(options.device))


def _shard_bytes(files: Mapping[str, Sequence[Path]]) -> int:
    return sum(file.stat().st_size for side in files.values() for file in side if file.suffix in SUFFIXES)


def artifact_values(path: Path, max_bytes: int | None = None) -> int | None:
    """Values of the weights in an artifact: of ours by its header, of the field's by decoding it; None for another
    file.

    Raises: FormatError for a damaged file.
    """
    with path.open("rb") if path.is_file() else io.BytesIO() as opened:
        is_ours = opened.read(len(MAGIC)) == MAGIC
    if is_ours:
        return sum(math.prod(tensor.shape) for tensor in Header.from_json(unframe(contents(path))[0]).tensors)
    found = read_artifact_file(path, max_bytes) if path.is_file() else None
    return None if found is None else sum(math.prod(record.shape) for record in found.unpacked.records)


def largest_file(folder: Path) -> Path:
    """The largest file of a folder. Raises: DataError for one that holds none."""
    files = sorted((path.stat().st_size, path) for path in folder.iterdir() if path.is_file())
    if not files:
        raise DataError(f"{folder} holds no file")
    return files[-1][1]


def text_bytes(names: Iterable[str]) -> int:
    """About the bytes of a text: files, folders, nothing or `builtin`. Raises: DataError where there is none."""
    return sum(map(_unpacked_bytes, open_source([*names] or [BUILTIN]).files)) or BUILTIN_BYTES


def _unpacked_bytes(file: Path) -> int:
    return file.stat().st_size * (PACKED_SHARE if file.name.lower().endswith(PACKED) else 1)
