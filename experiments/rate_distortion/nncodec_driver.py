"""Runs NNCodec in an environment of its own: tensors in, bitstream length and decoded tensors out.

    python nncodec_driver.py TENSORS.npz DECODED.npz '{"qp": -32, ...}'      prints one line of JSON

Started by `nncodec_peer.py` with the interpreter of `--nncodec`, never imported. NNCodec imports its training
applications (torchvision, OpenCV, ...) at once; only its coder is used here, so that whatever of them is not
installed is stood in for by an empty module.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np

APPLICATIONS = ("torchvision", "cv2", "pandas", "sklearn", "h5py", "ptflops", "torchmetrics", "tensorflow", "wandb")


class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the applications' modules, all of them empty."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".", maxsplit=1)[0] in APPLICATIONS:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module: ModuleType) -> None:
        return None


def main() -> None:
    sys.meta_path.insert(0, Empty())
    from nncodec import nnc

    source, target, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    with np.load(source) as file:
        tensors = {name: file[name] for name in file.files}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        stream = nnc.compress(
            dict(tensors), bitstream_path=f"{folder}/stream.nnc", return_bitstream=True, verbose=False, **settings
        )
        encoded = time.perf_counter()
        decoded = nnc.decompress(stream)
        finished = time.perf_counter()
    arrays: dict[str, Any] = {name: np.asarray(decoded[name], np.float32) for name in tensors}
    np.savez(target, **arrays)
    print(json.dumps({"n_bytes": len(stream), "encode_s": encoded - start, "decode_s": finished - encoded}))


if __name__ == "__main__":
    main()
