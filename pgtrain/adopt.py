"""A checkpoint of a public training script made into one that knows its model, and its text if that is given.

    final_model.pt --read, unbanked--> named, or identified on the text --> --without_unused--> checked
                                                                        --> OUT.safetensors + metadata

Owns the metadata of an adopted checkpoint. Refuses to guess: the caller names the system, or gives text that tells
it, and the tensors must be exactly those that the system has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_tensors
from pgpack.errors import CheckpointError, DataError
from pgpack.models.evidence import FOUND_KEY
from pgpack.models.probe import Probe
from pgpack.text.data import read_tokens
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.text.shard_files import find_shards
from pgpack.text.text_folder import TextFolder
from pgtrain.model.dialects import systems_with, without_unused
from pgtrain.model.model_config import FORMAT, GPTConfig
from pgtrain.model.tensor_table import count_parameters

from .challenge_models import builder
from .identification.reader import TEXT, Reader
from .identify import Identified, identify, named
from .presets import PRESETS


@dataclass(frozen=True)
class Adopted:
    """What was written: parameters, whether banks were split, names that the model never reads and that were left."""

    parameters: int
    was_banked: bool
    left_out: tuple[str, ...]
    n_bytes: int
    config: GPTConfig
    identified: Identified | None = None


def adopt(
    source: Path,
    out: Path,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    folder: TextFolder | None = None,
    key: str | None = None,
) -> Adopted:
    """Write `out` with the tensors of `source` under our names and their model; values stay as they are.

    The model is the system `name` in the sizes of the tensors, or the one that the text of `folder` tells; `changes`
    are fields of it. `key`: which of several state dicts in `source`.
    Raises: CheckpointError when `source` is not readable or its tensors are not those of the model; DataError, saying
    which flag to give, where neither is enough.
    """
    checkpoint = load_checkpoint(source, key=key)
    flat = dict(checkpoint.items())
    config, identified = _model_of(checkpoint, name, changes, folder)
    held = without_unused(config, flat)
    metadata = {
        "format": FORMAT,
        "model_config": config.to_json(),
        "adopted_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    if identified is not None:
        metadata[FOUND_KEY] = identified.to_json()
    if folder is not None:
        metadata |= {
            "tokenizer_sha256": load_tokenizer(folder.tokenizer_path).sha256,
            "data_defaults": folder.as_defaults(out, config.seq_len),
        }
    n_bytes = save_tensors(out, held, metadata)
    return Adopted(
        count_parameters(config),
        checkpoint.dialect.startswith("banked"),
        tuple(sorted(set(flat) - set(held))),
        n_bytes,
        config,
        identified,
    )


def _model_of(
    checkpoint: Checkpoint, name: str | None, changes: Mapping[str, Any] | None, folder: TextFolder | None
) -> tuple[GPTConfig, Identified | None]:
    if name is not None:
        try:
            return named(name, checkpoint.shapes, changes), None
        except CheckpointError as error:
            whose = systems_with(checkpoint.shapes, {each: preset.model for each, preset in PRESETS.items()})
            if not whose or name in whose:
                raise
            raise CheckpointError(
                f"the tensors are not those of {name}; they are those of {', '.join(whose)}"
            ) from error
    if folder is None:
        raise DataError(
            "nothing in a state dict says which activation, loop or rotary setting its script ran with; give the "
            "system as --model NAME, or text that its loss tells it by as --data FOLDER"
        )
    tokenizer = load_tokenizer(folder.tokenizer_path)
    tokens = read_tokens(find_shards(folder.train_glob), tokenizer.vocab_size)[:TEXT]
    reader = Reader(Probe(lambda: dict(checkpoint.items()), tokens), builder)
    identified = identify(checkpoint.shapes, reader, changes)
    return identified.config, identified
