"""What `pgtrain data` recorded of the folder that it wrote, and whether shards and tokenizer are still those.

    corpus.json: counts, sha256 of the tokenizer, of the tokens of each side and of each shard, checksum

Owns the record and its checks. A folder without one, or with another program's corpus.json, is read as it is; records
from before there were digests of shards vouch for a side as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from pgpack.errors import DataError
from pgpack.files import checked_json, contents

from .tokenizer_files import JSON, MODEL

RECORD_NAME = "corpus.json"
SIDES = ("train", "val")
_SHARD = re.compile(r"corpus_(train|val)_[0-9]{6,}\.bin")
_LONGEST = 1 << 24  # bytes of a record
_MEND = (
    f"run the `pgtrain data` that wrote the folder again, with --force, or remove {RECORD_NAME} to read it as it is"
)


@dataclass(frozen=True)
class CorpusRecord:
    """What `pgtrain data` made. Units: bytes are UTF-8 bytes of the documents before tokenizing; `shards`: file name
    -> `digest_tokens` of it."""

    vocab_size: int
    tokenizer_sha256: str
    train_documents: int
    val_documents: int
    train_bytes: int
    val_bytes: int
    train_tokens: int
    val_tokens: int
    train_sha256: str
    val_sha256: str
    val_text_bytes: int
    shards: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises: TypeError for values of other types, as a file may hold."""
        for name, kind in self.__annotations__.items():
            value = getattr(self, name)
            if kind in ("int", "str") and type(value).__name__ != kind:
                raise TypeError(f"{name} is {value!r}")
        if not isinstance(self.shards, dict) or not all(isinstance(each, str) for each in self.shards.values()):
            raise TypeError("shards are no names with digests")

    @property
    def val_bytes_per_token(self) -> float:
        return self.val_text_bytes / max(self.val_tokens, 1)

    def side_digest(self, side: str) -> str:
        return self.train_sha256 if side == SIDES[0] else self.val_sha256


def record_of(folder: Path) -> CorpusRecord | None:
    """The record of a folder; None where there is none, or a corpus.json of something else.

    Raises: DataError for a damaged one; OSError.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        found = checked_json(contents(path, _LONGEST).decode("utf-8"))
        if not isinstance(found, dict) or not {"train_sha256", "tokenizer_sha256"} & found.keys():
            return None
        return CorpusRecord(**found)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged, or not the record of `pgtrain data`; {_MEND}") from error


def check_whole(paths: Sequence[Path], pattern: str) -> None:
    """Raises: DataError where `pattern`, which found `paths`, names a recorded shard that is gone; OSError."""
    wanted = re.compile(translate(Path(pattern).name))
    for folder in _folders(paths):
        record = record_of(folder)
        for name in () if record is None else record.shards:
            if wanted.fullmatch(name) and not (folder / name).exists():
                raise DataError(f"{folder / name}, which {RECORD_NAME} beside it tells of, is gone; {_MEND}")


def check_shards(paths: Sequence[Path], digest: Callable[[Sequence[Path]], str]) -> None:
    """Whether the shards of recorded folders hold what was written. `digest`: sha256 of the tokens of some of them.

    Raises: DataError where one does not; OSError.
    """
    for folder in _folders(paths):
        record = record_of(folder)
        for side in () if record is None else SIDES:
            mine = sorted(path for path in paths if path.parent == folder and _side(path) == side)
            changed = None if record is None else _changed(record, side, mine, digest)
            if changed is not None:
                raise DataError(
                    f"{changed} does not hold the tokens that {RECORD_NAME} beside it tells of: it was changed, or "
                    f"comes from elsewhere; {_MEND}"
                )


def _changed(
    record: CorpusRecord, side: str, mine: Sequence[Path], digest: Callable[[Sequence[Path]], str]
) -> Path | None:
    """The first shard of a side that is not as recorded; an older record vouches for no part of a side."""
    if record.shards:
        return next((path for path in mine if record.shards.get(path.name) != digest([path])), None)
    if not mine or len({*mine}) < sum(_side(path) == side for path in mine[0].parent.iterdir()):
        return None
    return None if digest(mine) == record.side_digest(side) else mine[0]


def check_tokenizer(path: Path) -> None:
    """Raises: DataError where the tokenizer of a recorded folder is not the one that wrote the shards; OSError."""
    record = record_of(path.parent) if path.name in (MODEL, JSON) else None
    if record is not None and hashlib.sha256(contents(path)).hexdigest() != record.tokenizer_sha256:
        raise DataError(
            f"{path} is not the tokenizer that {RECORD_NAME} beside it tells of: it was changed, or comes from "
            f"elsewhere; {_MEND}"
        )


def _folders(paths: Sequence[Path]) -> list[Path]:
    """Where those lie that are called as `pgtrain data` calls them."""
    return [*dict.fromkeys(path.parent for path in paths if _side(path) is not None)]


def _side(path: Path) -> str | None:
    found = _SHARD.fullmatch(path.name)
    return None if found is None else found[1]
