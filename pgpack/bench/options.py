"""What a user says about the model and the text of a checkpoint, over what the checkpoint says itself."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OF_RUNNING = ("text", "field", "val", "calib", "tokenizer", "seq_len", "max_tokens", "device", "model", "set")
VAL_TOKENS = 1 << 16  # evaluated of documents, without --max-tokens; shards are evaluated whole


@dataclass(frozen=True)
class Opening:
    """What a user says about how a checkpoint is opened. `base`: the folder of the model that an adapter (LoRA) was
    trained on; `key`: which of several state dicts in a torch file."""

    base: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class BenchOptions:
    """Plain values; None (or nothing) where the checkpoint's own metadata decides.

    `base`, `key`: as `Opening`. `text`: files and folders of text, or
    "builtin"; `field`: of .jsonl and .parquet. `val`, `calib`: globs of token shards, or a text each. `tokenizer`: a
    SentencePiece model, a tokenizer.json or a folder. `model`: FILE.py:build, or a name that a model source knows.
    `set`: FIELD=VALUE of that model. `calibration`: the file of a finished calibration, instead of text. `strict`:
    tensors that a recipe wants a Hessian for and that have none are refused, where else they are packed without.
    """

    val: str | None = None
    calib: str | None = None
    tokenizer: str | None = None
    seq_len: int | None = None
    max_tokens: int | None = None
    device: str | None = None
    model: str | None = None
    set: tuple[str, ...] = ()
    calibration: str | None = None
    text: tuple[str, ...] = ()
    field: str | None = None
    strict: bool = False
    base: str | None = None
    key: str | None = None

    @property
    def names_text(self) -> bool:
        """Whether a text to evaluate on is said."""
        return bool(self.text) or self.val is not None

    @classmethod
    def of_flags(cls, text: str) -> BenchOptions:
        """The options that `as_flags` wrote. Raises: ValueError for other text."""
        kinds = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        found: dict[str, Any] = {}
        words = iter(shlex.split(text))
        for word in words:
            name = word.removeprefix("--").replace("-", "_")
            if name not in kinds or not word.startswith("--"):
                raise ValueError(f"{word!r} is no flag of a bench")
            if kinds[name] == "bool":
                found[name] = True
                continue
            value = next(words, None)
            if value is None:
                raise ValueError(f"{word} lacks its value")
            if kinds[name].startswith("tuple"):
                found[name] = (*found.get(name, ()), value)
            else:
                found[name] = int(value) if kinds[name].startswith("int") else value
        return cls(**found)

    def as_flags(self) -> str:
        """As flags of the command line, quoted for a POSIX shell; '' when nothing is said."""
        return " ".join(self._flags([field.name for field in dataclasses.fields(self)]))

    def idle(self, why: str) -> str:
        """A sentence on the flags that were given for a model that does not run; '' where there are none."""
        flags = self._flags(OF_RUNNING)
        if not flags:
            return ""
        named = " and ".join(filter(None, (", ".join(flags[:-1]), flags[-1])))
        return f"{named} {'changes' if len(flags) == 1 else 'change'} nothing: {why}"

    def _flags(self, names: Sequence[str]) -> list[str]:
        given = [(name.replace("_", "-"), getattr(self, name)) for name in names]
        each = [(name, one) for name, value in given for one in (value if isinstance(value, tuple) else (value,))]
        said = [(name, value) for name, value in each if value is not None and value is not False]
        return [f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}" for name, value in said]
