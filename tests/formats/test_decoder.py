"""What the engine writes: the same bytes every time, the same weights whoever decodes with however many threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pgpack.calibration.calibration import from_arrays
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe

# byte codecs of the standard library; brotli, the default, saves 0.04 % and needs its own module to decode
RECIPE = parse_recipe(
    "ndim<=1=cast|shuffle|zlib; *=tcq(step=0.02,states=64)|rans_scaled(states=64); @container=pgpack|lzma"
)
DECODE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocked())
from pathlib import Path
from pgpack.unpack import check_digest, unpack
unpacked = unpack(Path(sys.argv[1]).read_bytes())
print(check_digest(unpacked))
"""


def model() -> Checkpoint:
    rng = np.random.default_rng(0)
    tensors = {f"blocks.{i}.w": rng.standard_normal((192, 96)).astype(np.float32) / 9 for i in range(3)}
    return from_tensors({**tensors, "gain": np.ones(96, np.float32)})


def packed() -> bytes:
    rng = np.random.default_rng(1)
    arrays = {}
    for i in range(3):
        x = rng.standard_normal((400, 96)).astype(np.float32) * np.exp(rng.normal(0, 1, 96)).astype(np.float32)
        arrays[f"blocks.{i}.w.hessian"] = x.T @ x / np.float32(len(x))
        arrays[f"blocks.{i}.w.fisher"] = rng.gamma(1.0, 1.0, 192).astype(np.float32)
    return pack(model(), RECIPE, from_arrays(arrays, "", 400)).data


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decoder") / "model.pgpack"
    path.write_bytes(packed())
    return path


def decoded_digest(path: Path, threads: int, blocked: tuple[str, ...]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    program = DECODE.format(blocked=blocked)
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packing_again_gives_the_same_bytes(artifact: Path) -> None:
    assert packed() == artifact.read_bytes()


def test_the_decoder_needs_numpy_alone_and_no_number_of_threads(artifact: Path) -> None:
    blocked = ("torch", "numba", "scipy", "brotli", "zstandard", "safetensors", "matplotlib")
    found = {decoded_digest(artifact, threads, blocked) for threads in (1, 2, 4)}
    assert len(found) == 1
    assert found == {decoded_digest(artifact, 1, ())}


def test_a_blocked_module_is_really_blocked(artifact: Path) -> None:
    with pytest.raises(AssertionError, match="blocked: numpy"):
        decoded_digest(artifact, 1, ("numpy",))
