"""Where an artifact's weights go: one file in three forms, or a model folder that transformers loads.

Unpacked --form_of the name--> FILE.safetensors | FILE.npz | FILE.pt | FOLDER/
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.dialects import banked as in_banks
from pgpack.checkpoint.folders import CONFIG, config_of
from pgpack.checkpoint.model_folder import OURS, write_folder
from pgpack.checkpoint.stored import without_values
from pgpack.checkpoint.writing import FLOATS, Outgoing, outgoing, write_npz, write_safetensors, write_torch
from pgpack.errors import SettingError
from pgpack.files import refuse_occupied
from pgpack.formats.gguf.writer import TYPES, GgufSource, write_gguf
from pgpack.tensors.masks import is_mask
from pgpack.unpack import Decoded, Unpacked

ENDINGS = {".safetensors": "safetensors", ".npz": "npz", ".pt": "pt", ".pth": "pt", ".gguf": "gguf"}
FOLDER, GGUF, NPZ = "folder", "gguf", "npz"
FORMS = (*dict.fromkeys(ENDINGS.values()), FOLDER)


def form_of(out: Path | str, companions: Mapping[str, bytes]) -> str:
    """The form that the name of `out` asks for: by its ending; NAME/ or one that is there is a folder; without an
    ending a folder where the artifact can fill one, else safetensors.

    Raises: SettingError for another ending, or for a folder where there is no config.json to go into it.
    """
    path, runs = Path(out), CONFIG in companions
    names = "NAME.safetensors, NAME.npz, NAME.pt or NAME.gguf"
    if str(out).endswith("/") or path.is_dir():
        if not runs:
            raise SettingError(
                f"{out} is a folder, and the artifact holds no config.json to go with the weights; give {names}"
            )
        return FOLDER
    if not path.suffix:
        return FOLDER if runs else "safetensors"
    if path.suffix.lower() not in ENDINGS:
        raise SettingError(
            f"{out}: nothing is written with the ending {path.suffix}; give {names}, or NAME/ for a folder"
        )
    return ENDINGS[path.suffix.lower()]


def write_unpacked(
    out: Path,
    unpacked: Unpacked,
    form: str,
    metadata: Mapping[str, str],
    dtype: str = "f32",
    banked: bool = False,
    force: bool = False,
) -> Mapping[str, NDArray[Any]]:
    """Write the decoded weights, and return them, decoded when asked for; `form` is one of FORMS.

    Raises: SettingError, CheckpointError, FormatError for what the form cannot hold; OSError when `out` cannot be
    written.
    """
    known = TYPES if form == GGUF else FLOATS
    if dtype not in known:
        raise SettingError(f"no {form} is written in {dtype}; give {', '.join(known)}")
    decoded = unpacked.decoded()
    if not decoded.records:
        raise SettingError("the artifact holds no tensors, and no checkpoint is without any")
    shapes = {name: tuple(record.shape) for name, record in decoded.records.items()}
    if empty := without_values(shapes):
        raise SettingError(f"{len(empty)} of {len(shapes)} tensors hold no value, and no checkpoint is made of such")
    if form != NPZ:
        _require_finite(decoded)
    if form == GGUF:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(out, _gguf_source(unpacked, decoded), dtype)
        return decoded
    weights: Mapping[str, NDArray[Any]] = in_banks(dict(decoded)) if banked else decoded
    tensors = _banks(weights, dtype) if banked else _outgoing(decoded, dtype)
    if form == FOLDER:
        write_folder(out, tensors, unpacked.companions, unpacked.aliases, force)
        return decoded
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "pt":
        write_torch(out, tensors, unpacked.aliases)
    elif form == NPZ:
        write_npz(out, tensors)
    else:
        write_safetensors(out, tensors, metadata)
    return weights


def _require_finite(decoded: Decoded) -> None:
    """Raises: SettingError for what no reader of checkpoints takes: NaN, infinity outside of a mask."""
    for name, array in decoded.items():  # decoded one at a time
        if not np.isfinite(array).all() and not is_mask(array):
            raise SettingError(
                f"{name} holds NaN or infinity, which no checkpoint may; give NAME.npz to look at the values"
            )


def refuse_folder(out: Path, force: bool) -> None:
    """Raises: FileExistsError where a model folder would take the place of something: known before the work."""
    refuse_occupied(out, OURS if force else ())


def _outgoing(decoded: Decoded, dtype: str) -> list[Outgoing]:
    return [
        outgoing(name, tuple(record.shape), record.dtype, partial(decoded.__getitem__, name), dtype)
        for name, record in decoded.records.items()
    ]


def _banks(banks: Mapping[str, NDArray[Any]], dtype: str) -> list[Outgoing]:
    return [
        outgoing(name, array.shape, array.dtype.name, partial(banks.__getitem__, name), dtype)
        for name, array in banks.items()
    ]


def _gguf_source(unpacked: Unpacked, decoded: Decoded) -> GgufSource:
    tensors = {
        name: (tuple(record.shape), partial(decoded.__getitem__, name)) for name, record in decoded.records.items()
    }
    return GgufSource(config_of(unpacked.companions), unpacked.companions, tensors, unpacked.aliases)
