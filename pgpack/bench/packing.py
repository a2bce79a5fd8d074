"""What a bench packs: by a recipe, or the best within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pgpack.calibration.coverage import covered
from pgpack.calibration.distortion import vanished
from pgpack.errors import BudgetExceeded, CheckpointError, DataError, ToolMissing
from pgpack.fit.budget import fit_budget
from pgpack.fit.effort import Effort
from pgpack.pack import Artifact, pack_applied
from pgpack.progress import shown
from pgpack.recipe.applied import apply
from pgpack.recipe.preset_candidates import field_presets
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.spaces import Candidate
from pgpack.study.frontier import Metric
from pgpack.sweep.executors.machine import usable_cores
from pgpack.tensors.trellis_grid import TrellisGrid

from .doomed import refuse_doomed, refuse_hopeless, without_companions
from .packed import Packed, evidence_of, needed_calibration
from .sources import require_named
from .training import Training
from .workpiece import Workpiece


def pack_recipe(bench: Workpiece, recipe: Recipe, evaluate: bool) -> Packed:
    """The artifact of `recipe`, its loss measured if asked for."""
    if recipe.trains:
        bench.calib_tokens("tuning", 1)  # missing text is known before the work, not after
    if recipe.container.is_field and bench.checkpoint.carried:
        bench.note(f"the field's files hold weights alone: {', '.join(bench.checkpoint.carried)} are left out")
    refuse_doomed(bench, [recipe])
    measurer = bench.measurer(evaluate)
    bench.tell_what_lacks()
    runs = evaluate or recipe.trains or measurer.needs_calibration(recipe)
    read = bench.has_text or bench.options.calib is not None
    if read and not runs and (idle := bench.options.idle("no model runs for this recipe; --eval measures the loss")):
        bench.note(idle)
    calibration = needed_calibration(bench, recipe)
    if bench.options.strict:
        applied, statistics = apply(recipe, bench.checkpoint.stored_shapes), calibration
    else:
        whole = covered(bench.checkpoint, recipe, calibration, bench.token_shares)
        applied, statistics = whole.applied, whole.calibration
        bench.note_once(whole.note)
    sizes = {name: math.prod(shape) for name, shape in bench.checkpoint.stored_shapes.items()}
    with shown(bench.progress, sum(sizes.values()), "value", "quantizing") as bar:
        artifact = pack_applied(
            bench.checkpoint,
            applied,
            statistics,
            cache=bench.cache,
            progress=lambda name: bar.update(sizes.get(name, 0)),
            trainer=Training(bench),
            threads=usable_cores(),
        )
    _warn_of_small_steps(bench, artifact)
    return Packed(recipe, artifact, calibration, measurer.evaluate(artifact), measurer.evaluator, evidence_of(bench))


def fit_packed(
    bench: Workpiece,
    budget: int,
    effort: Effort,
    presets: Sequence[Candidate] | None = None,
    metric: Metric | None = None,
) -> Packed:
    """The best artifact within `budget` bytes; measured by loss where the checkpoint's text is known.

    `metric`: the loss that decides; None: KL, or where none can be measured the error of the weights, with a note.
    `presets`: None for those of the field, which a model folder leaves out: their files hold no companions.
    """
    companions = bench.checkpoint.carried
    also = without_companions(bench.checkpoint)
    refuse_hopeless(bench.checkpoint, budget, also)  # before any text is opened
    calibrating = _calibrating(bench, effort)
    bench = calibrating or bench
    try:
        measurer = bench.measurer(evaluate=metric != "error")
    except (DataError, CheckpointError) as error:
        if metric is not None or bench.options.names_text:
            raise  # who names a text wants it used: to go on without it would be another job
        require_named(bench.path, bench.options)
        bench.note(f"no loss is measured, the error of the weights decides ({error})")
        measurer = bench.measurer(evaluate=False)
    bench.tell_what_lacks()
    measurer = replace(measurer, threads=usable_cores())
    if effort != effort.untrained:
        bench.calib_tokens(effort.label, 1)  # missing text is known before the search, not after
    if calibrating is None:
        measurer = replace(measurer, calibrate=lambda recipe: None)
    with shown(bench.progress, None, "artifact", "searching") as bar:
        if presets is None:
            presets = () if companions else field_presets(bench.checkpoint.stored_shapes)
        try:
            fitted = fit_budget(measurer, budget, presets, bar, effort, metric)
        except BudgetExceeded as error:
            raise BudgetExceeded(f"{error}{also}", error.smallest) from None
    calibration = None if calibrating is None else needed_calibration(bench, fitted.recipe)
    _warn_of_small_steps(bench, fitted.artifact)
    return Packed(fitted.recipe, fitted.artifact, calibration, fitted.loss, measurer.evaluator, evidence_of(bench))


def _calibrating(bench: Workpiece, effort: Effort) -> Workpiece | None:
    """The bench with the calibration text of the effort, unless flags name one; None where no model runs on it."""
    if effort.calib is None or bench.options.calib is not None or bench.options.calibration is not None:
        return bench
    drawn = replace(bench, options=replace(bench.options, calib=effort.calib), _observed={})
    try:
        _ = drawn.text
    except (DataError, CheckpointError, ToolMissing) as error:
        bench.note(f"calibrated on nothing, packed by the weights alone ({error})")
        return None
    bench.note(f"calibrated on {effort.calib} pieces: --calib, or another --effort, takes text")
    return drawn


def _warn_of_small_steps(bench: Workpiece, artifact: Artifact) -> None:
    if names := vanished(bench.checkpoint, artifact.records):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        weighed = {
            record.name
            for record in artifact.records
            if any(part.grid.kind == TrellisGrid.kind for part in record.parts)
        }
        why = (
            "at this step they cost more bits than they are worth"
            if weighed >= set(names)
            else "the weights are too small for the step that stores them"
        )
        bench.note(f"{names[0]}{more} became all zero: {why}; give a finer recipe, or cast(dtype=fp32)")
    if names := [record.name for record in artifact.records if record.underflows]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        bench.note(
            f"{names[0]}{more} lost precision: 16 bits hold steps this small only roughly; store it with "
            "cast(dtype=fp32), or by tcq, whose step is not of 16 bits"
        )
