"""A GGUF as a checkpoint: tensors under transformers' names, and the files that would lie beside them.

    fields --> config.json, tokenizer.json, tokenizer_config.json, generation_config.json     made when asked for
    tensors --dequantized, renamed, rows and columns in transformers' order--> one at a time

A family that `pgpack.formats.gguf.families` does not know keeps llama.cpp's names, has no config, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pgpack.errors import CheckpointError, FormatError
from pgpack.formats.gguf import families
from pgpack.formats.gguf.families import FAMILIES, ROPE_FREQS, Family
from pgpack.formats.gguf.reader import GgufFile, read_gguf
from pgpack.formats.gguf.tokenizer import (
    generation_config_json,
    tokenizer_config_json,
    tokenizer_json,
    why_no_tokenizer,
)

from .folders import CONFIG
from .stored import Stored, require_possible

IMATRIX = "imatrix"
MARK = "gguf"  # metadata: "1" of a checkpoint that came as a GGUF, with its plain fields as gguf.NAME


def read_gguf_file(path: Path) -> Stored:
    """What a GGUF holds. Raises: CheckpointError when it is damaged, or lacks a part."""
    try:
        file = read_gguf(path)
    except FormatError as error:
        raise CheckpointError(str(error)) from None
    if file.fields.get("general.type") == IMATRIX:
        raise CheckpointError(f"{path}: an importance matrix of llama.cpp, statistics of inputs and not a model")
    if not file.tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    require_possible(path, {name: tensor.shape for name, tensor in file.tensors.items()})
    metadata = {MARK: "1"} | {f"{MARK}.{name}": _told(value) for name, value in file.fields.items() if _plain(value)}
    arch = str(file.fields.get("general.architecture", ""))
    try:
        if arch not in FAMILIES:
            raise ValueError(f"models of {arch or 'no architecture'}")
        config = _config(file)
        names = _names(file, FAMILIES[arch])
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        reason = f"the field {error}" if isinstance(error, KeyError) else str(error)
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        note = f"{path.name}: not a model that transformers builds from a GGUF ({reason}); its tensors are plain ones"
        return Stored(shapes, partial(_load, file), metadata, notes=(note,))
    companions: dict[str, Callable[[], bytes]] = {
        CONFIG: partial(_json, config),
        "generation_config.json": partial(generation_config_json, file.fields),
    }
    lacking = why_no_tokenizer(file.fields)
    notes = (f"{path.name}: its tokenizer is not rebuilt ({lacking}); give --tokenizer FILE",) if lacking else ()
    if not lacking:
        companions["tokenizer.json"] = partial(tokenizer_json, file.fields)
        companions["tokenizer_config.json"] = partial(tokenizer_config_json, file.fields)
    heads = families.heads_of(file.fields)
    family = FAMILIES[arch]
    shapes = {ours: family.shape(theirs, file.tensors[theirs].shape) for ours, theirs in names.items()}

    def load(name: str) -> NDArray[Any]:
        return family.to_transformers(names[name], _load(file, names[name]), heads)

    return Stored(shapes, load, metadata, companions=companions, notes=notes)


def _config(file: GgufFile) -> dict[str, Any]:
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    rope = file.load(ROPE_FREQS) if ROPE_FREQS in file.tensors else None
    return families.config_fields(file.fields, shapes, rope)


def _names(file: GgufFile, family: Family) -> dict[str, str]:
    """Our name of a tensor -> the file's."""
    return {family.renamed(name) or name: name for name in file.tensors if name != ROPE_FREQS}


def _load(file: GgufFile, name: str) -> NDArray[Any]:
    try:
        return file.load(name)
    except FormatError as error:
        raise CheckpointError(str(error)) from None


def _plain(value: Any) -> bool:
    """Whether metadata can hold it: no list, and no chat template (tokenizer_config.json has that)."""
    return not isinstance(value, list) and not (isinstance(value, str) and "\n" in value)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()
