"""The bench: a checkpoint with its model and text, and what can be done with it. What Python programs hold in hand.

plan(recipe)   calibrate(n_tokens)   pack(recipe)   fit(budget)   measure(artifact)   sweep(budget, to)
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pgpack.calibration.calibration import Calibration, save_calibration
from pgpack.calibration.coverage import covered
from pgpack.errors import PgpackError
from pgpack.files import alone
from pgpack.fit.effort import DEFAULT, LEVELS
from pgpack.loss.evaluator import BitsPerByte
from pgpack.plan import Plan, plan
from pgpack.recipe.applied import apply
from pgpack.recipe.directives import Calibrate
from pgpack.recipe.recipe import Recipe
from pgpack.sizes import Size, bytes_of
from pgpack.study.frontier import Metric
from pgpack.study.study import Study
from pgpack.sweep.space import Space

from .artifact import ArtifactFile, open_artifact
from .packed import Packed, write_packed
from .packing import fit_packed, pack_recipe
from .sweeping import study_of
from .workpiece import Workpiece


class Bench(Workpiece):
    """A checkpoint with its model and its text. Opened by `pgpack.open_bench`; what is costly is opened when needed.

    A recipe is given as a `Recipe` or as its text. Sizes are bytes or text such as "16MB"; "90%" is of
    the fp32 size.
    """

    def __repr__(self) -> str:
        return f"<Bench {self.path}: {self.checkpoint.n_params:,} parameters>"

    def plan(self, recipe: Recipe | str) -> Plan:
        """What `recipe` does to each tensor, and an estimate of the bytes, before any work.

        Of bytes that only calibration on the text tells there is None.
        Raises: RecipeError; CoverageError where a tensor has no rule or a rule no tensor.

        >>> plan = pgpack.open_bench("model.safetensors").plan("role:control=cast; *=rtn(bits=4)|rans")
        >>> {tensor.name: tensor.shape for tensor in plan.tensors}["tok_emb.weight"]
        (310, 16)
        """
        chosen = _recipe(recipe)
        needy = apply(chosen, self.checkpoint.stored_shapes).needs_calibration
        known = self.file_calibration if needy and self.options.calibration else None
        if self.options.strict or (known is None and self.can_calibrate):
            return plan(self.checkpoint, chosen, known)
        whole = covered(self.checkpoint, chosen, known, self.token_shares)
        return plan(self.checkpoint, whole.applied.recipe, whole.calibration)

    def calibrate(self, n_tokens: int = Calibrate().count, to: Path | str | None = None) -> Calibration:
        """Hessians `(in, in)` and Fisher weights `(out,)` of every matrix on the first `n_tokens` calibration tokens.

        `to`: a file to write them into as well. Raises: DataError without calibration text, CalibrationError where no
        matrix was seen.

        >>> pgpack.open_bench("model.safetensors", text="text").calibrate(64).n_tokens
        64
        """
        with nullcontext() if to is None else alone(Path(to)):
            calibration = self.observe(n_tokens)
            if to is not None:
                save_calibration(Path(to), calibration)
        return calibration

    def pack(self, recipe: Recipe | str, to: Path | str, *, force: bool = False) -> ArtifactFile:
        """The artifact that `recipe` makes, written to `to` with its manifest, TO.json; decoded once and compared.

        Raises: RecipeError, CalibrationError; FileExistsError unless `force`.

        >>> bench = pgpack.open_bench("model.safetensors", text="text")
        >>> bench.pack("role:control=cast; *=rtn(bits=6)|rans", to="six.pgpack").n_bytes < 12_000
        True
        """
        with _alone(Path(to), force):
            return self._written(pack_recipe(self, _recipe(recipe), evaluate=False), Path(to))

    def fit(
        self,
        budget: Size,
        to: Path | str,
        *,
        metric: Metric | None = None,
        effort: int = DEFAULT,
        compensate: int | None = None,
        tune: int | None = None,
        force: bool = False,
    ) -> ArtifactFile:
        """The best artifact within `budget`, written to `to` with its manifest.

        The step sizes are searched on real bytes, and the loss decides between what fits: `metric`, "kl" (as without
        it), "bpb" or "nats", or "error", that of the weights, as where no text is known. `effort`: 0 (no text)
        to 9, what is spent on it (`pgpack.fit.effort`); `compensate` and `tune`: optimizer steps on calibration text,
        if not those of the effort.
        Raises: BudgetExceeded when nothing fits; FileExistsError unless `force`.

        >>> bench = pgpack.open_bench("model.safetensors", text="text", max_tokens=1024)
        >>> bench.fit("9kB", to="small.pgpack").n_bytes <= 9_000
        True
        """
        spent = LEVELS[effort].trained_by(compensate, tune)
        with _alone(Path(to), force):
            packed = fit_packed(self, bytes_of(budget, self.checkpoint.fp32_bytes), spent, metric=metric)
            return self._written(packed, Path(to))

    def measure(self, artifact: ArtifactFile | Path | str | None = None) -> BitsPerByte:
        """The loss of an artifact's decoded weights on the validation text, with its KL to this checkpoint.

        None: the checkpoint's own. Units: `nats` and `kl` per token, `bpb` bits per byte.
        Raises: DataError without text; PgpackError where the artifact is of another model.

        >>> bench = pgpack.open_bench("model.safetensors", text="text", max_tokens=1024)
        >>> bench.measure("model.pgpack").kl < 0.1, bench.measure().kl
        (True, 0.0)
        """
        if artifact is None:
            return self.measurer().fp32_loss()
        opened = artifact if isinstance(artifact, ArtifactFile) else open_artifact(artifact)
        tensors = opened.tensors()
        if {name: array.shape for name, array in tensors.items()} != dict(self.checkpoint.shapes):
            raise PgpackError(f"{opened.path} does not hold the tensors of {self.path}: it is of another model")
        return self.evaluator.evaluate(tensors)

    def sweep(
        self,
        *,
        to: Path | str,
        space: Iterable[str] | None = None,
        budget: Size | None = None,
        metric: Metric | None = None,
    ) -> Study:
        """Measure many recipes into the study in `to`; repeated, it goes on where it stopped.

        `space`: recipe templates with {a,b} or {lo:hi:step} wherever something varies; None: a sensible space, whose
        last recipe is tuned to `budget`. `metric`: what recipes are compared by, "kl" (as without it), "bpb" or
        "nats"; without text "error". The folder also gets frontier.csv, pictures, report.html and best.pgpack.
        Raises: RecipeError for a template; StudyError where the folder belongs to other work.

        >>> bench = pgpack.open_bench("model.safetensors", text="text", max_tokens=1024)
        >>> study = bench.sweep(to="bench-study", space=["role:control=cast; *=rtn(bits={4,6})|rans"])
        >>> [trial.ok for trial in study.trials]
        [True, True]
        """
        chosen = None if space is None else Space.of(space)
        limit = None if budget is None else bytes_of(budget, self.checkpoint.fp32_bytes)
        return study_of(self, Path(to), chosen, limit, metric)

    def _written(self, packed: Packed, out: Path) -> ArtifactFile:
        write_packed(out, packed, self)
        return ArtifactFile(out, packed.artifact.data, lambda: packed.artifact.decoded)


@contextmanager
def _alone(path: Path, force: bool) -> Iterator[None]:
    """`alone`. Raises: FileExistsError when `path` exists, unless `force`: known before the work, not after."""
    with alone(path):
        if path.exists() and not force:
            raise FileExistsError(errno.EEXIST, "exists; give another name, or force=True to replace it", str(path))
        yield


def _recipe(recipe: Recipe | str) -> Recipe:
    return Recipe.parse(recipe) if isinstance(recipe, str) else recipe
