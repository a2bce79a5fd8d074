"""A checkpoint on the bench: recipes and peers measured on it, each point once.

recipe --pack--> real bytes --decode--> tensors --evaluator--> KL, bits per byte      one Row
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgpack.bench.options import BenchOptions
from pgpack.bench.workpiece import Workpiece
from pgpack.cache.store import Cache, Memory
from pgpack.calibration.calibration import LOOKUP, Calibration, from_arrays
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.measure import Measurer
from pgpack.pack import Artifact
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.recipe.selector import Shapes
from pgpack.tensors.roles import role_of

from .nncodec_peer import Coded, run_nncodec, settings_of
from .rows import Row, Rows

CACHE_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Laboratory:
    """One checkpoint with its text. `evaluator` and calibration text never overlap (`pgpack.bench`)."""

    name: str
    checkpoint: Checkpoint
    bench: Workpiece
    rows: Rows
    calibrations: dict[str, Calibration]

    @property
    def tensors(self) -> Shapes:
        return self.checkpoint.stored_shapes

    @property
    def matrices(self) -> list[str]:
        """Names of the tensors that an entropy coder is for."""
        return [name for name, shape in self.tensors.items() if len(shape) > 1 and role_of(name, shape) != "control"]

    def calibration(self, kind: str, recipe: Recipe) -> Calibration:
        """`observed`, or with one of its parts taken away.

        `no-fisher`: all Fisher weights alike; `diagonal`: Hessians without their off-diagonal, so that GPTQ feeds
        nothing back; `plain`: identity Hessians and equal Fisher weights, for which the loss is the squared error.
        """
        key = f"{kind} {recipe.calib.count}"
        if key not in self.calibrations:
            observed = self.bench.calibration(recipe)
            self.calibrations[key] = observed if kind == "observed" else _reduced(kind, observed, self)
        return self.calibrations[key]

    def pack(self, recipe: Recipe, kind: str = "observed") -> Artifact:
        """The artifact of `recipe` under a kind of calibration."""
        measurer = Measurer(
            self.checkpoint,
            None,
            lambda r: self.calibration(kind, r),
            Cache(memory=Memory(CACHE_BYTES)),
            self.bench,
        )
        return measurer.pack(recipe)

    def recipe_row(self, curve: str, dial: float, text: str, kind: str = "observed") -> Row:
        """The point of a recipe."""

        def measure() -> Row:
            recipe = parse_recipe(text).without_idle_rules(self.tensors)
            artifact = self.pack(recipe, kind)
            tensors = artifact.decoded.tensors()
            times = (artifact.quantize_s, artifact.encode_s, artifact.decode_s)
            return self._row(curve, dial, artifact.n_bytes, tensors, times, str(recipe))

        return self.rows.measured(curve, dial, measure)

    def nncodec_row(self, curve: str, qp: int, rate_weight: float, python: str) -> Row:
        """The point of NNCodec at `qp`."""

        def measure() -> Row:
            coded = self.nncodec(qp, rate_weight, python)
            times = (0.0, coded.encode_s, coded.decode_s)
            tensors = coded.tensors | {alias: coded.tensors[name] for alias, name in self.checkpoint.aliases.items()}
            return self._row(
                curve, qp, coded.n_bytes, tensors, times, f"nncodec qp={qp} lambda_scale={rate_weight:g}"
            )

        return self.rows.measured(curve, qp, measure)

    def nncodec(self, qp: int, rate_weight: float, python: str) -> Coded:
        stored = {name: self.checkpoint.tensor(name) for name in self.checkpoint.stored_shapes}
        return run_nncodec(python, stored, settings_of(qp, rate_weight, self.checkpoint.stored_shapes))

    def _row(
        self,
        curve: str,
        dial: float,
        n_bytes: int,
        tensors: Mapping[str, NDArray[np.float32]],
        times: tuple[float, float, float],
        recipe: str,
    ) -> Row:
        loss = self.bench.evaluator.evaluate(tensors)
        assert loss.kl is not None
        return Row(curve, dial, n_bytes, self.relative_error(tensors), loss.kl, loss.bpb, *times, recipe)

    def relative_error(self, tensors: Mapping[str, NDArray[np.float32]]) -> float:
        """Squared error of all matrices over their squared norm."""
        error = power = 0.0
        for name in self.matrices:
            weight = self.checkpoint.tensor(name)
            error += float(np.square(weight - tensors[name], dtype=np.float64).sum())
            power += float(np.square(weight, dtype=np.float64).sum())
        return error / power

    def rms(self) -> float:
        """Root mean square of all matrices' weights."""
        power = sum(float(np.square(self.checkpoint.tensor(n), dtype=np.float64).sum()) for n in self.matrices)
        return float(np.sqrt(power / sum(self.checkpoint.tensor(n).size for n in self.matrices)))


def open_laboratory(path: Path, name: str, folder: Path, max_tokens: int) -> Laboratory:
    """The laboratory of a pgtrain checkpoint; rows and calibration are kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(path)
    bench = Workpiece(path, checkpoint, BenchOptions(max_tokens=max_tokens), keep_in=folder)
    scope = f"{checkpoint.digest} {bench.evaluator.digest}"
    return Laboratory(name, checkpoint, bench, Rows(folder / "rows.jsonl", scope), {})


def _reduced(kind: str, observed: Calibration, laboratory: Laboratory) -> Calibration:
    arrays: dict[str, NDArray[np.float32]] = {}
    fisher = [observed.load(key).mean() for key in observed.shapes if key.endswith(".fisher") and LOOKUP not in key]
    common = np.float32(np.exp(np.mean(np.log(fisher))))  # of all matrices, so that the dial keeps its meaning
    for key in observed.shapes:
        if key.endswith(".output"):
            continue  # what rows share goes with any part
        array = observed.load(key)
        is_hessian = key.endswith(".hessian")
        if kind == "diagonal" and is_hessian:
            array = np.diag(np.diag(array))
        elif kind == "no-fisher" and not is_hessian:
            array = np.full_like(array, common)
        elif kind == "plain":
            array = np.eye(len(array), dtype=np.float32) if is_hessian else np.ones_like(array)
        arrays[key] = array
    if kind != "diagonal":  # look-ups are Fisher weights; under plain error there is one kind of error
        arrays = {key: array for key, array in arrays.items() if LOOKUP not in key}
    return from_arrays(arrays, observed.token_digest, observed.n_tokens)
