"""A checkpoint of a public training script made into one that knows its model, and its text if that is given.

    final_model.pt --read, unbanked--> --without_unused--> checked against the config --> OUT.safetensors + metadata

Owns the metadata of an adopted checkpoint. Refuses to guess: the caller names the system, and its tensors must be
exactly those that the system has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from pgpack.errors import CheckpointError
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.text_folder import TextFolder
from pgtrain.model.dialects import systems_with, without_unused
from pgtrain.model.model_config import FORMAT, GPTConfig
from pgtrain.model.tensor_table import check_shapes, count_parameters

from .presets import PRESETS


@dataclass(frozen=True)
class Adopted:
    """What was written: parameters, whether banks were split, names that the model never reads and that were left."""

    parameters: int
    was_banked: bool
    left_out: tuple[str, ...]
    n_bytes: int


def adopt(source: Path, config: GPTConfig, out: Path, folder: TextFolder | None = None) -> Adopted:
    """Write `out` with the tensors of `source` under our names and `config` as its model; values stay as they are.

    Raises: CheckpointError when `source` is not readable or its tensors are not those of `config`.
    """
    checkpoint = load_checkpoint(source)
    flat = dict(checkpoint.items())
    held = without_unused(config, flat)
    _check(config, checkpoint.shapes, held)
    metadata = {
        "format": FORMAT,
        "model_config": config.to_json(),
        "adopted_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    if folder is not None:
        metadata |= {
            "tokenizer_sha256": SentencePiece.load(folder.tokenizer_path).sha256,
            "data_defaults": folder.as_defaults(out, config.seq_len),
        }
    n_bytes = save_tensors(out, held, metadata)
    return Adopted(
        count_parameters(config),
        checkpoint.dialect.startswith("banked"),
        tuple(sorted(set(flat) - set(held))),
        n_bytes,
    )


def _check(config: GPTConfig, stored: Mapping[str, tuple[int, ...]], held: Mapping[str, NDArray[np.float32]]) -> None:
    """Refuse tensors that are not the config's, and say whose they are when a preset has exactly these."""
    try:
        check_shapes(config, {name: tuple(array.shape) for name, array in held.items()})
    except CheckpointError as error:
        whose = systems_with(stored, {name: preset.model for name, preset in PRESETS.items()})
        if not whose:
            raise
        raise CheckpointError(
            f"the tensors are not those of the preset; they are those of {', '.join(whose)}"
        ) from error
