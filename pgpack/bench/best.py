"""The best artifacts of a sweep: one for each of its checkpoints, all of one recipe."""

from __future__ import annotations

from pathlib import Path

from pgpack.formats.own.manifest import Manifest, manifest_path
from pgpack.recipe.recipe import parse_recipe
from pgpack.report.intact import anatomy_fault, artifact_fault
from pgpack.report.outputs import ANATOMY_FILE, write_anatomy
from pgpack.study.files import refusing
from pgpack.study.study import BEST_FILE, Study
from pgpack.study.trial import Trial
from pgpack.sweep.runner import trial_loss

from .benches import Benches
from .packed import Packed, needed_calibration, write_packed
from .workpiece import Workpiece

Parts = list[tuple[str, int]]


def write_best(benches: Benches, study: Study) -> tuple[Trial | None, tuple[Path, ...], Parts]:
    """Write the best recipe's artifacts with their manifests; (the row of the best recipe, the artifacts, the bytes
    of the parts of the first)."""
    whole, best = study.merged, study.frontier().best
    paths = [study.directory / BEST_FILE]
    if len(benches.all) > 1:
        paths = [study.directory / f"best-{name}.pgpack" for name in benches.names]
    if best is None:  # artifacts of an earlier budget would pass for the best of this one
        for stale in (*paths, *map(manifest_path, paths), study.directory / ANATOMY_FILE):
            stale.unlink(missing_ok=True)
        return None, (), []
    made = {best.checkpoint_digest: best}
    if best.key in whole.seeds:
        made = {trial.checkpoint_digest: trial for trial in whole.seeds[best.key].trials}
    written = [
        _write(bench, made[bench.checkpoint.digest], path, study, is_first=bench is benches.first)
        for bench, path in zip(benches.all, paths, strict=True)
    ]
    return best, tuple(paths), [item for part in written[0].sizes.values() for item in part.items()]


def _write(bench: Workpiece, trial: Trial, path: Path, study: Study, is_first: bool) -> Manifest:
    """The manifest of the artifact at `path`, which is packed again unless it is that of `trial` already, byte for
    byte, and the anatomy beside it, where it belongs to the first, is of the same bytes."""
    anatomy = study.directory / ANATOMY_FILE if is_first else None
    fault, written = artifact_fault(path, {trial.checkpoint_digest: trial})
    if written is not None and not fault and (anatomy is None or not anatomy_fault(anatomy, written)):
        return written
    recipe = parse_recipe(trial.recipe)
    artifact = bench.measurer(evaluate=False).pack(recipe)
    loss, evaluator = (trial_loss(trial), bench.text.evaluator()) if bench.has_text else (None, None)
    packed = Packed(recipe, artifact, needed_calibration(bench, recipe), loss, evaluator)
    with refusing(path, "write it"):
        manifest = write_packed(path, packed, bench)
    if is_first:
        write_anatomy(study.directory, artifact, bench.checkpoint, recipe, packed.calibration)
    return manifest
