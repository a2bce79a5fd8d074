"""NNCodec as a peer: Fraunhofer HHI's coder of ISO/IEC 15938-17 (DeepCABAC with dependent quantization).

Its dial is `qp`, a quantization step of (4 + qp mod 4) 2^(qp // 4 - 2) for every matrix; control tensors and vectors
get its own fine `nonweight_qp`. A benchmark's peer only: it runs in another interpreter (`nncodec_driver.py`).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import PgpackError
from pgpack.tensors.roles import role_of

DRIVER = Path(__file__).with_name("nncodec_driver.py")
FINE_QP = -75  # NNCodec's default for tensors that are no weights
QP_PER_OCTAVE = 4  # its default density


@dataclass(frozen=True, eq=False)
class Coded:
    """What NNCodec made of a state dict. Units: bytes, seconds."""

    n_bytes: int
    encode_s: float
    decode_s: float
    tensors: dict[str, NDArray[np.float32]]


def settings_of(qp: int, rate_weight: float, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Arguments of its `compress`: dependent quantization on, parameters of the coder optimized."""
    is_fine = {name: len(shape) < 2 or role_of(name, shape) == "control" for name, shape in shapes.items()}
    return {
        "qp": qp,
        "nonweight_qp": FINE_QP,
        "qp_per_tensor": {name: FINE_QP if fine else qp for name, fine in is_fine.items()},
        "use_dq": True,
        "param_opt": True,
        "lambda_scale": rate_weight,
    }


def run_nncodec(python: str, tensors: Mapping[str, NDArray[np.float32]], settings: Mapping[str, Any]) -> Coded:
    """Compress and decode `tensors`. Raises PgpackError with its last line when NNCodec fails."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "tensors.npz"), Path(folder, "decoded.npz")
        arrays: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in tensors.items()}
        np.savez(source, **arrays)
        command = [python, str(DRIVER), str(source), str(target), json.dumps(dict(settings))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PgpackError(f"NNCodec failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        found = json.loads(done.stdout.splitlines()[-1])
        with np.load(target) as file:
            return Coded(**found, tensors={name: file[name] for name in file.files})
