"""Checkpoints of pgtrain, read with their metadata. Refuses pickles of anything but tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError

FORMAT = "pgtrain-checkpoint-1"


def read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(tensors, metadata) of a .safetensors file whose tensors numpy can hold.

    Raises: CheckpointError when it is not one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable .safetensors file: {error}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """(float32 tensors, metadata) of a .safetensors or .pt file; a .pt has no metadata.

    Raises: CheckpointError for any other content; a .pt is loaded as tensors only, nothing in it is run.
    """
    if not path.is_file():
        what = "is a folder; give the file in it" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {path} {what}")
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                metadata = dict(file.metadata() or {})
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {str(error).splitlines()[0]}") from error
    except Exception as error:
        if type(error).__name__ == "UnpicklingError":
            raise CheckpointError(f"{path} is not a plain dictionary of tensors; refused") from error
        raise
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} is not a plain dictionary of tensors")
    return {name: tensor.float().contiguous().numpy() for name, tensor in tensors.items()}, metadata
