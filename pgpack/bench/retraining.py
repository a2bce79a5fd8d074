"""A workpiece whose weights are trained on: calibrated as they move, and written as what they were read from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.checkpoint.folders import CONFIG
from pgpack.checkpoint.model_folder import write_folder
from pgpack.checkpoint.writing import outgoing
from pgpack.text.data import digest_tokens

from .defaults import text_defaults
from .unpacking import refuse_folder
from .workpiece import Workpiece, under_stored_names


@dataclass(frozen=True)
class Retraining:
    """`n_tokens` of calibration text are observed each time."""

    bench: Workpiece
    n_tokens: int

    @property
    def is_folder(self) -> bool:
        """Whether weights are written as a model folder: what came with a config.json."""
        return CONFIG in self.bench.checkpoint.companions

    def refuse_occupied(self, out: Path, force: bool) -> None:
        """Raises: FileExistsError where the folder would take the place of something."""
        if self.is_folder:
            refuse_folder(out, force)

    def observe(self, weights: Mapping[str, NDArray[np.float32]]) -> Calibration:
        """Statistics of the model with these stored tensors."""
        import torch

        from pgpack.calibration.observe import observe

        bench, text = self.bench, self.bench.text
        named = {**weights, **{alias: weights[stored] for alias, stored in bench.checkpoint.aliases.items()}}
        model = text.build({name: torch.tensor(array, device=text.device) for name, array in named.items()})
        tokens = bench.calib_tokens("training for the packer", self.n_tokens)
        found = observe(
            model, tokens, text.seq_len, token_digest=digest_tokens(tokens), output_rows=0,
            text=text.calib_tokens, stored=bench.checkpoint.shapes,
        )  # fmt: skip
        return under_stored_names(found, bench.checkpoint.aliases)

    def write(self, out: Path, weights: Mapping[str, NDArray[Any]], told: Mapping[str, str], force: bool) -> None:
        """Write stored tensors with their companions, or as one file with the metadata that was there and `told`.

        Raises: as `pgpack.checkpoint.model_folder.write_folder`.
        """
        checkpoint = self.bench.checkpoint
        named = {**weights, **{alias: weights[stored] for alias, stored in checkpoint.aliases.items()}}
        if self.is_folder:
            tensors = [
                outgoing(name, array.shape, array.dtype.name, partial(np.asarray, array), "f32")
                for name, array in named.items()
            ]
            write_folder(out, tensors, checkpoint.companions, checkpoint.aliases, force)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(out, named, {**checkpoint.metadata, **self._defaults(out), **told})

    def _defaults(self, out: Path) -> dict[str, str]:
        """Where the text lies, as seen from `out`."""
        metadata = self.bench.checkpoint.metadata
        if "data_defaults" not in metadata:
            return {}
        found, here = text_defaults(metadata, self.bench.path), out.resolve().parent
        paths = {"val": found.val, "calib": found.calib, "tokenizer": found.tokenizer}
        seen = {name: Path(os.path.relpath(str(path), here)).as_posix() for name, path in paths.items()}
        return {"data_defaults": json.dumps({**seen, "seq_len": found.seq_len}, sort_keys=True)}
