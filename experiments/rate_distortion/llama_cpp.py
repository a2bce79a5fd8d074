"""llama.cpp as a peer: its own `llama-quantize`, with an importance matrix of the same calibration.

    checkpoint --pgpack.formats.gguf--> F32 GGUF --llama-quantize TYPE--> GGUF --dequantized--> loss

The importance of a column is its mean square over the calibration text, the diagonal of the engine's Hessian;
`llama-imatrix` sums the same. Sizes are those of the tensors' blocks: tokenizer and fields of the file are left out,
as they are for every other curve. Source: tools/quantize/quantize.cpp and common/imatrix-loader.cpp of
ggml-org/llama.cpp (the older of its two layouts is written).
"""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import PgpackError
from pgpack.formats.gguf.fields import family_of
from pgpack.formats.gguf.writer import GgufSource, write_gguf

from .laboratory import Laboratory
from .rows import Row

LLAMACPP = "llama.cpp, importance matrix"
# what users choose from -> bits per weight of the blocks that most of its matrices are stored in
TYPES = {
    "Q5_K_M": 5.5,
    "Q4_K_M": 4.5,
    "IQ4_XS": 4.25,
    "Q3_K_M": 3.4375,
    "IQ3_XXS": 3.0625,
    "Q2_K": 2.625,
    "IQ2_M": 2.5625,
    "IQ2_XXS": 2.0625,
    "IQ1_S": 1.5625,
}


def llama_rows(laboratory: Laboratory, program: Path, calibration: Calibration, folder: Path) -> Iterator[Row]:
    """A row a type, of real files. `folder`: where model and importance matrix are put.

    Raises: PgpackError when the program fails, SettingError for a model that a GGUF has no place for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model, importance = folder / "model.gguf", folder / "importance.dat"
    for kind, bits in TYPES.items():

        def measure(kind: str = kind, bits: float = bits) -> Row:
            if not model.exists():
                write_importance(importance, laboratory, calibration)
                _write_model(model, laboratory)
            out = folder / f"{kind}.gguf"
            command = [str(program), "--imatrix", str(importance), str(model), str(out), kind]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise PgpackError(
                    f"{program.name} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
                )
            tensors = dict(load_checkpoint(out).items())
            row = laboratory.row_of(LLAMACPP, bits, _block_bytes(out), tensors, (0, 0, 0), kind)
            out.unlink()
            return row

        yield laboratory.rows.measured(LLAMACPP, bits, measure)


def write_importance(path: Path, laboratory: Laboratory, calibration: Calibration) -> None:
    """Mean squares of the inputs of every matrix that calibration met, by llama.cpp's names."""
    _, family = family_of(_config(laboratory))
    found = {}
    for name in laboratory.matrices:
        theirs = family.llamacpp_name(name)
        if theirs is not None and calibration.hessian_shape(name) is not None:
            found[theirs] = np.diag(calibration.load(f"{name}.hessian")).astype("<f4")
    with path.open("wb") as file:
        file.write(struct.pack("<i", len(found)))
        for theirs, squares in found.items():
            stem = theirs.encode()
            file.write(struct.pack("<i", len(stem)) + stem + struct.pack("<ii", 1, len(squares)) + squares.tobytes())


def _write_model(path: Path, laboratory: Laboratory) -> None:
    checkpoint = laboratory.checkpoint
    tensors = {name: (shape, partial(checkpoint.tensor, name)) for name, shape in laboratory.shapes.items()}
    write_gguf(path, GgufSource(_config(laboratory), checkpoint.companions, tensors, checkpoint.aliases), "f32")


def _config(laboratory: Laboratory) -> dict[str, object]:
    found: dict[str, object] = json.loads(laboratory.checkpoint.companions["config.json"])
    return found


def _block_bytes(path: Path) -> int:
    import gguf

    return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)
