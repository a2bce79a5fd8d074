"""The best artifacts of a sweep: one for each of its checkpoints, all of one recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from .packed import Packed, evidence_of, needed_calibration, write_packed
from .workpiece import Workpiece

Parts = list[tuple[str, int]]


def write_best(benches: Benches, study: Study) -> tuple[Trial | None, tuple[Path, ...], Parts]:
    """Write the best recipe's artifacts with their manifests; (the row of the best recipe, the artifacts, the bytes
    of the parts of the first).

    A study of several checkpoints may go on with some of them: artifacts of the others stay while they are of the
    best recipe, and go when they are of an earlier one, as all do when nothing is best.
    """
    whole, best = study.merged, study.frontier().best
    cards = study.meta.checkpoints
    names = [f"best-{name}.pgpack" for name in _short_names([card.checkpoint for card in cards])]
    names = names if len(cards) > 1 else [BEST_FILE]
    places = {card.checkpoint_digest: study.directory / name for card, name in zip(cards, names, strict=True)}
    made: dict[str, Trial] = {}
    if best is not None:
        behind = whole.seeds[best.key].trials if best.key in whole.seeds else (best,)
        made = {trial.checkpoint_digest: trial for trial in behind}
    _remove_stale(study, places, made)
    if best is None:  # artifacts of an earlier budget would pass for the best of this one
        for stale in (*places.values(), *map(manifest_path, places.values()), study.directory / ANATOMY_FILE):
            stale.unlink(missing_ok=True)
        return None, (), []
    own = study.meta.checkpoint_digest
    first = next((bench for bench in benches.all if bench.checkpoint.digest == own), benches.first)
    paths: list[Path] = []
    sizes: Mapping[str, Mapping[str, int]] = {}
    for bench in benches.all:
        digest = bench.checkpoint.digest
        paths.append(places[digest])
        manifest = _write(bench, made[digest], places[digest], study, is_first=bench is first)
        sizes = manifest.sizes if bench is first else sizes
    return best, tuple(paths), [item for part in sizes.values() for item in part.items()]


def _remove_stale(study: Study, places: Mapping[str, Path], made: Mapping[str, Trial]) -> None:
    """Remove what lies in the folder as a best artifact of one of the study's checkpoints and is none: of another
    recipe, or under a name of before more checkpoints joined."""
    for path in study.directory.glob(f"{BEST_FILE.removesuffix('.pgpack')}*.pgpack"):
        fault, manifest = artifact_fault(path, made)
        if manifest is None or manifest.checkpoint_digest not in places:
            continue  # not ours to remove
        if fault or path != places[manifest.checkpoint_digest]:
            for stale in (path, manifest_path(path)):
                stale.unlink(missing_ok=True)


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
    packed = Packed(recipe, artifact, needed_calibration(bench, recipe), loss, evaluator, evidence_of(bench))
    with refusing(path, "write it"):
        manifest = write_packed(path, packed, bench)
    if is_first:
        write_anatomy(study.directory, artifact, bench.checkpoint, recipe, packed.calibration)
    return manifest


def _short_names(files: Sequence[str]) -> tuple[str, ...]:
    """A short name for each checkpoint: the stem of its file, with its folder's where stems are equal."""
    paths = [Path(file) for file in files]
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{path.absolute().parent.name}-{path.stem}" for path in paths]
    return tuple(stems) if len(set(stems)) == len(stems) else tuple(str(i + 1) for i in range(len(stems)))
