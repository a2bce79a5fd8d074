"""The text that a checkpoint names itself, in its `data_defaults` metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgpack.errors import CheckpointError


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
        folder = _folder_of(checkpoint_path, str(values["tokenizer"]))
        val, calib, model = (str(folder / values[key]) for key in ("val", "calib", "tokenizer"))
        return TextDefaults(val, calib, Path(model), int(values["seq_len"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{checkpoint_path}: its data_defaults metadata is not readable") from error


def _folder_of(checkpoint_path: Path, tokenizer: str) -> Path:
    """The folder that the paths of a checkpoint are seen from: where it lies, of a link also where that leads."""
    here, there = checkpoint_path.absolute().parent, checkpoint_path.resolve().parent
    return there if not (here / tokenizer).exists() and (there / tokenizer).exists() else here
