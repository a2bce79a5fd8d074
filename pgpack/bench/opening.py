"""The doors to checkpoints, benches and studies for Python programs; `pgpack.open_...` are these.

path (+ text) --> Checkpoint, Bench, Study        long work says how far it is through `progress` and never prints
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pgpack.cache.opening import open_cache
from pgpack.cache.options import CacheOptions
from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.progress import Progress
from pgpack.study.study import Study

from .bench import Bench
from .options import BenchOptions


def open_checkpoint(path: Path | str, base: Path | str | None = None, key: str | None = None) -> Checkpoint:
    """The named tensors of a model folder, or of a safetensors file, a torch file, an `.npz`, a GGUF or the shards
    of an index (told apart by content); with `base`, of an adapter (LoRA) merged into the model that it was trained
    on. Of several state dicts in a torch file `key` says which: "ema", or "model.module" further in.

    Shape: each tensor as it is stored, float32 when it is read; nothing is unpickled.
    Raises: CheckpointError when it is missing, unreadable, no state dict, or holds several and no `key` is given.

    >>> checkpoint = pgpack.open_checkpoint("model.safetensors")
    >>> checkpoint.shapes["tok_emb.weight"], checkpoint.tensor("tok_emb.weight").dtype
    ((310, 16), dtype('float32'))
    """
    return open_merged(path, base, key)


def open_bench(
    path: Path | str,
    text: Path | str | Iterable[Path | str] | None = None,
    *,
    field: str | None = None,
    val: str | None = None,
    calib: str | None = None,
    tokenizer: Path | str | None = None,
    seq_len: int | None = None,
    max_tokens: int | None = None,
    model: str | None = None,
    settings: Mapping[str, object] | None = None,
    calibration: Path | str | None = None,
    device: str | None = None,
    strict: bool = False,
    base: Path | str | None = None,
    key: str | None = None,
    cache: bool | Path | str = True,
    progress: Progress = None,
) -> Bench:
    """A checkpoint with its model and its text, ready to plan, pack, fit, sweep and measure recipes.

    `text`: files and folders of text (.txt, .md, .jsonl, .parquet, also .gz, .xz, .zst; `field` names what is read of
    a row), whose documents are split into calibration and validation by a hash of their contents; "builtin", a corpus
    that every Python holds; or a folder that `pgtrain data` wrote. Or say both sides, `val` and `calib`: globs of
    token shards, or a text each. `tokenizer`: a SentencePiece model, a tokenizer.json or a folder; None: the
    checkpoint's own. What is not given is what the checkpoint itself names; without any text sizes are still known,
    losses are not. `model`: FILE.py:build, or a name that an installed model source knows; `settings`: fields of that
    model. `calibration`: a finished one, instead of text. `strict`: a tensor that a recipe wants a Hessian for and
    that has none is refused, not packed by the weights alone. `base`: the folder of the model that an adapter (LoRA)
    was trained on; both are merged. `key`: which of several state dicts in a torch file. `cache`: whether, or in
    which folder, work is kept. Units: `seq_len`, `max_tokens` tokens.
    Raises: CheckpointError, DataError; CalibrationError for a `calibration` that is none.

    >>> bench = pgpack.open_bench("model.safetensors", text="text", max_tokens=2048)
    >>> bench.checkpoint.n_params
    9716
    """
    path = Path(path)
    checkpoint = open_merged(path, base, key)
    names = () if text is None else (text,) if isinstance(text, (str, Path)) else tuple(text)
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
        text=tuple(map(str, names)),
        field=field,
        strict=strict,
        base=None if base is None else str(base),
        key=key,
    )
    kept = CacheOptions(folder=None if isinstance(cache, bool) else Path(cache), off=cache is False)
    return Bench(path, checkpoint, options, progress=progress, cache=open_cache(kept))


def open_study(folder: Path | str) -> Study:
    """The study that `Bench.sweep` or `pgpack sweep` wrote, as it stands; safe while one still writes.

    Raises: StudyError when there is none, or it cannot be read.

    >>> study = pgpack.open_study("study")
    >>> len(study.trials) >= 2
    True
    """
    return Study.load(Path(folder))
