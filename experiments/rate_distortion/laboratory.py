"""A checkpoint on the bench: recipes and peers measured on it, each point once.

recipe --pack--> real bytes --decode--> tensors --evaluator--> KL, bits per byte      one Row
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.replication.packing import NO_TEXT, Bench, fresh_cache, relative_error
from pgpack.bench.options import BenchOptions
from pgpack.calibration.calibration import LOOKUP, Calibration, from_arrays
from pgpack.loss.evaluator import Tensors
from pgpack.pack import Artifact, Trainer
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.recipe.selector import Shapes
from pgpack.tensors.roles import role_of

from .nncodec_peer import run_nncodec, settings_of
from .rows import Row, Rows

NO_LOOK_UPS = "no-look-ups"


class Laboratory(Bench):
    """One checkpoint with its text; rows and calibration are kept in `folder`.

    `calibrated` is the directive of recipes that do not say themselves how many tokens they are calibrated on.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        folder: Path,
        max_tokens: int,
        calibrated: str = "",
        text: BenchOptions = NO_TEXT,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(path, max_tokens, keep_in=folder, text=text)
        self.name, self.calibrated = name, calibrated
        self.rows = Rows(folder / "rows.jsonl", f"{self.checkpoint.digest} {self.piece.evaluator.digest}")
        self.calibrations: dict[str, Calibration] = {}

    @property
    def shapes(self) -> Shapes:
        return self.checkpoint.stored_shapes

    @cached_property
    def matrices(self) -> list[str]:
        """Names of the tensors that an entropy coder is for."""
        return [name for name, shape in self.shapes.items() if len(shape) > 1 and role_of(name, shape) != "control"]

    def calibration(self, kind: str, recipe: Recipe) -> Calibration:
        """`observed`, or with one of its parts taken away.

        `no-fisher`: all Fisher weights alike; `diagonal`: Hessians without their off-diagonal, so that GPTQ feeds
        nothing back; `no-look-ups`: tables weighed by their products alone; `plain`: identity Hessians and equal
        Fisher weights, for which the loss is the squared error.
        """
        corrects = bool(apply(recipe.without_idle_rules(self.shapes), self.shapes).corrects_rows)
        key = f"{kind} {recipe.calib.count} {corrects}"
        if key not in self.calibrations:
            observed = self.piece.calibration(recipe)
            assert observed is not None  # a laboratory has text
            self.calibrations[key] = observed if kind == "observed" else _reduced(kind, observed)
        return self.calibrations[key]

    def recipe(self, text: str) -> Recipe:
        """The recipe, calibrated as the laboratory's are unless it says otherwise."""
        if self.calibrated and "@calib" not in text:
            text = f"{text}; {self.calibrated}"
        return parse_recipe(text).without_idle_rules(self.shapes)

    def pack(self, recipe: Recipe, kind: str = "observed", trainer: Trainer | None = None) -> Artifact:
        """The artifact of `recipe` under a kind of calibration; nothing is shared with other packs, for the clock.

        `none`: of the weights alone. `trainer`: in place of the workpiece's.
        """

        def calibrate(recipe: Recipe) -> Calibration | None:
            return None if kind == "none" else self.calibration(kind, recipe)

        trainer = trainer or self.measurer.trainer
        return replace(self.measurer, calibrate=calibrate, cache=fresh_cache(), trainer=trainer).pack(recipe)

    def recipe_row(
        self, curve: str, dial: float, text: str, kind: str = "observed", trainer: Trainer | None = None
    ) -> Row:
        """The point of a recipe."""

        def measure() -> Row:
            recipe = self.recipe(text)
            artifact = self.pack(recipe, kind, trainer)
            times = (artifact.quantize_s, artifact.encode_s, artifact.decode_s)
            return self.row_of(curve, dial, artifact.n_bytes, artifact.decoded.tensors(), times, str(recipe))

        return self.rows.measured(curve, dial, measure)

    def nncodec_row(self, curve: str, qp: int, rate_weight: float, python: str) -> Row:
        """The point of NNCodec at `qp`."""

        def measure() -> Row:
            stored = {name: self.checkpoint.tensor(name) for name in self.shapes}
            coded = run_nncodec(python, stored, settings_of(qp, rate_weight, self.shapes))
            times = (0.0, coded.encode_s, coded.decode_s)
            tensors = coded.tensors | {alias: coded.tensors[name] for alias, name in self.checkpoint.aliases.items()}
            recipe = f"nncodec qp={qp} lambda_scale={rate_weight:g}"
            return self.row_of(curve, qp, coded.n_bytes, tensors, times, recipe)

        return self.rows.measured(curve, qp, measure)

    def row_of(
        self, curve: str, dial: float, n_bytes: int, tensors: Tensors, times: tuple[float, float, float], recipe: str
    ) -> Row:
        """The point of decoded weights."""
        loss = self.piece.evaluator.evaluate(tensors)
        assert loss.kl is not None
        error = relative_error(self.tensors, tensors, self.matrices)
        return Row(curve, dial, n_bytes, error, loss.kl, loss.bpb, *times, recipe)

    def rms(self) -> float:
        """Root mean square of all matrices' weights."""
        power = sum(float(np.square(self.tensors[n], dtype=np.float64).sum()) for n in self.matrices)
        return float(np.sqrt(power / sum(self.tensors[n].size for n in self.matrices)))


def _reduced(kind: str, observed: Calibration) -> Calibration:
    arrays: dict[str, NDArray[np.float32]] = {}
    if kind == NO_LOOK_UPS:
        arrays = {key: observed.load(key) for key in observed.shapes if LOOKUP not in key}
        return from_arrays(arrays, observed.token_digest, observed.n_tokens)
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
