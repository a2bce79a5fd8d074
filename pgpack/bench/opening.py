"""The doors to checkpoints, benches and studies for Python programs; `pgpack.open_...` are these.

path (+ text) --> Checkpoint, Bench, Study        long work says how far it is through `progress` and never prints
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path

from pgpack.cache.opening import open_cache
from pgpack.cache.options import CacheOptions
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.errors import DataError
from pgpack.progress import Progress
from pgpack.study.study import Study
from pgpack.text.corpus import write_text_folder
from pgpack.text.documents import read_documents
from pgpack.text.text_folder import TextFolder
from pgpack.text.tokenizer import Tokenizer

from .bench import Bench
from .defaults import text_defaults
from .options import BenchOptions

VAL_FRACTION = 0.1  # of the documents of `text`, chosen by a hash of their names
EXCLUSIVE = "give either text, or val and calib"


def open_checkpoint(path: Path | str) -> Checkpoint:
    """The named tensors of a safetensors file, a torch file, or the shards of an index (told apart by content).

    Shape: each tensor as it is stored, float32 when it is read; nothing is unpickled.
    Raises: CheckpointError when it is missing, unreadable, or no state dict.

    >>> checkpoint = pgpack.open_checkpoint("model.safetensors")
    >>> checkpoint.shapes["tok_emb.weight"], checkpoint.tensor("tok_emb.weight").dtype
    ((310, 16), dtype('float32'))
    """
    return load_checkpoint(path)


def open_bench(
    path: Path | str,
    text: Path | str | Iterable[Path | str] | None = None,
    *,
    val: str | None = None,
    calib: str | None = None,
    tokenizer: Path | str | None = None,
    seq_len: int | None = None,
    max_tokens: int | None = None,
    model: str | None = None,
    settings: Mapping[str, object] | None = None,
    calibration: Path | str | None = None,
    device: str | None = None,
    cache: bool | Path | str = True,
    progress: Progress = None,
) -> Bench:
    """A checkpoint with its model and its text, ready to plan, pack, fit, sweep and measure recipes.

    `text`: a folder that `pgtrain data` wrote, or files of text (.txt, .md, .jsonl, also .xz, .zst) whose documents
    are split into calibration and validation by a hash of their names; or say both as globs of token shards, `val`
    and `calib`. `tokenizer`: a SentencePiece model. What is not given is what the checkpoint itself names; without
    any text sizes are still known, losses are not. `model`: FILE.py:build, or a name that an installed model source
    knows; `settings`: fields of that model. `calibration`: a finished one, instead of text. `cache`: whether, or in
    which folder, work is kept between runs. Units: `seq_len`, `max_tokens` tokens.
    Raises: CheckpointError, DataError; CalibrationError for a `calibration` that is none.

    >>> bench = pgpack.open_bench("model.safetensors", text="text", max_tokens=2048)
    >>> bench.checkpoint.n_params
    9716
    """
    path = Path(path)
    checkpoint = load_checkpoint(path)
    held = None
    if text is not None:
        if val is not None or calib is not None:
            raise DataError(EXCLUSIVE)
        known = tokenizer or text_defaults(checkpoint.metadata, path).tokenizer
        folder, held = _folder_of(text, Path(known) if known else None)
        val, calib, tokenizer = folder.val_glob, folder.train_glob, folder.tokenizer_path
    options = BenchOptions(
        val=val,
        calib=calib,
        tokenizer=None if tokenizer is None else str(tokenizer),
        seq_len=seq_len,
        max_tokens=max_tokens,
        device=device,
        model=model,
        set=tuple(f"{name}={value}" for name, value in (settings or {}).items()),
        calibration=None if calibration is None else str(calibration),
    )
    kept = CacheOptions(folder=None if isinstance(cache, bool) else Path(cache), off=cache is False)
    bench = Bench(path, checkpoint, options, progress=progress, cache=open_cache(kept))
    if held is not None:
        weakref.finalize(bench, held.cleanup)
    return bench


def open_study(folder: Path | str) -> Study:
    """The study that `Bench.sweep` or `pgpack sweep` wrote, as it stands; safe while one still writes.

    Raises: StudyError when there is none, or it cannot be read.

    >>> study = pgpack.open_study("study")
    >>> len(study.trials) >= 2
    True
    """
    return Study.load(Path(folder))


def _folder_of(
    text: Path | str | Iterable[Path | str], tokenizer: Path | None
) -> tuple[TextFolder, tempfile.TemporaryDirectory[str] | None]:
    """The shards of `text`, and the temporary folder that holds them where they had to be made."""
    sources = [Path(text)] if isinstance(text, (str, Path)) else [Path(each) for each in text]
    if len(sources) == 1 and any(sources[0].glob("*_val_*.bin")):
        return TextFolder.open(sources[0], tokenizer if not any(sources[0].glob("*.model")) else None), None
    if tokenizer is None:
        raise DataError("text must be cut into tokens; give tokenizer=FILE.model")
    held = tempfile.TemporaryDirectory(prefix="pgpack-text-")
    write_text_folder(read_documents(sources), Path(held.name), Tokenizer.load(tokenizer), 0, VAL_FRACTION)
    return TextFolder.open(Path(held.name)), held
