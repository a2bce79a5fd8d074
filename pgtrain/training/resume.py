"""The state of an unfinished run on disk: weights, optimizer, average, step; exact to the bit.

Owns the state file beside the checkpoint (`OUT.state`). Refuses to continue a run with other settings.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.checkpoint.files import read_file
from pgpack.errors import CheckpointError, DataError
from pgpack.files import remove

from .averaging import WeightAverage

MORE, SEAL = "more/", "crc32"
SAVE_SHARE = 0.1  # saving may cost this share of the run


def state_path(checkpoint: Path) -> Path:
    """Where the run that will write `checkpoint` keeps its state."""
    return checkpoint.with_name(checkpoint.name + ".state")


class RunState:
    """Saves and restores one run; saves as often as costs at most a tenth of the time.

    A small model is therefore saved at every step, and a kill loses only the step in flight; where writing the
    state takes long, the saves are ten times their own duration apart.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self._last_save_s = 0.0
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether saving now keeps the cost of saving below its share."""
        return time.monotonic() - self._saved_at >= self._last_save_s / SAVE_SHARE

    def save(
        self,
        model: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        average: WeightAverage,
        progress: Mapping[str, Any],
        more: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Replace the state file; `progress` holds the step and what the log needs (plain JSON values), `more` what
        `restore_` gives back to whom it belongs."""
        started = time.monotonic()
        tensors: dict[str, Tensor] = {f"model/{name}": p for name, p in model.named_parameters()}
        tensors |= {f"average/{name}": tensor for name, tensor in average.tensors.items()}
        for kind, optimizer in optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{kind}/{index}/{slot}": torch.as_tensor(v) for slot, v in slots.items()}
        tensors |= {f"{MORE}{name}": tensor for name, tensor in (more or {}).items()}
        arrays = {name: tensor.detach().cpu().float().numpy() for name, tensor in tensors.items()}
        metadata = {"settings": json.dumps(self.settings), "progress": json.dumps(dict(progress))}
        metadata["averaged"] = str(average.count)
        metadata[SEAL] = _seal(arrays, metadata)
        save_tensors(self.path, arrays, metadata)
        self._saved_at = time.monotonic()
        self._last_save_s = self._saved_at - started

    def restore_(
        self,
        model: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        average: WeightAverage,
        take: Callable[[Mapping[str, Tensor], Mapping[str, Any]], None] = lambda more, progress: None,
    ) -> dict[str, Any] | None:
        """Fill model, optimizers and average from the file; its progress comes back, None without a file. `take` is
        given what was saved as `more`, and the progress.

        Raises: DataError when the file is damaged, or belongs to a run with other settings.
        """
        if not self.path.exists():
            return None
        arrays, metadata = self._read()
        self._refuse_other(json.loads(metadata["settings"]))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[f"model/{name}"])
                average.tensors[name].copy_(tensors[f"average/{name}"])
        for kind, optimizer in optimizers.items():
            state = optimizer.state_dict()
            slots: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"{kind}/"):
                    _, index, slot = name.split("/")
                    slots.setdefault(int(index), {})[slot] = tensor
            optimizer.load_state_dict({"state": slots, "param_groups": state["param_groups"]})
        average.count = int(metadata["averaged"])
        progress: dict[str, Any] = json.loads(metadata["progress"])
        take({n.removeprefix(MORE): tensor for n, tensor in tensors.items() if n.startswith(MORE)}, progress)
        return progress

    def _read(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """What `save` wrote, of older programs too, which sealed nothing. Raises: DataError."""
        try:
            stored = read_file(self.path)
            arrays, metadata = {name: stored.load(name) for name in stored.shapes}, dict(stored.metadata)
            seal = metadata.pop(SEAL, None)
            if not metadata.keys() >= {"settings", "progress", "averaged"}:
                raise CheckpointError("it does not say what it is of")
            if seal is not None and seal != _seal(arrays, metadata):
                raise CheckpointError("its checksum is that of other values")
        except CheckpointError as error:
            raise DataError(
                f"{self.path}: the state of an unfinished run is damaged ({error}); add --restart to begin anew"
            ) from None
        return arrays, metadata

    def _refuse_other(self, saved: Mapping[str, Any]) -> None:
        changed = [
            f"{key} {saved.get(key)} then, {self.settings.get(key)} now"
            for key in sorted({*saved, *self.settings})
            if saved.get(key) != self.settings.get(key)
        ]
        if changed:
            raise DataError(
                f"{self.path} is an unfinished run with other settings ({'; '.join(changed[:3])}); "
                "repeat its command to finish it, or add --restart to discard it"
            )

    def discard(self) -> None:
        """Remove the state file, if there is one."""
        remove(self.path)


def _seal(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    """CRC-32 over all of a state, as 8 hex digits: of what a disk does to it, not of what somebody does."""
    found = zlib.crc32(json.dumps(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        found = zlib.crc32(f"{name}{array.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return f"{found:08x}"
