"""What a sweep writes on its study's card, and which candidates the study has no row for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .text_options import Bench

if TYPE_CHECKING:
    from pgpack.search_space import Candidate
    from pgpack.sweep.journal import Study, StudyMeta
    from pgpack.sweep.runner import Measurer


def study_card(bench: Bench, budget: int | None, space: str, search: str, measurer: Measurer) -> StudyMeta:
    """The study's card without the loss of the fp32 model."""
    from pgpack import __version__
    from pgpack.sweep.journal import StudyMeta
    from pgpack.sweep.trial import timestamp

    assert measurer.evaluator is not None
    given = bench.flags.calibration
    return StudyMeta(
        checkpoint=str(bench.path),
        checkpoint_digest=bench.checkpoint.digest,
        evaluator_digest=measurer.evaluator.digest,
        pgpack_version=__version__,
        created=timestamp(),
        calibration_digest=bench.file_calibration.digest if given is not None else None,
        budget=budget,
        space=space,
        search=search,
        data_flags=bench.flags.as_flags(),
        fp32_n_bytes=4 * bench.checkpoint.n_params,
    )


def with_fp32(measurer: Measurer, card: StudyMeta) -> StudyMeta:
    """The card with the loss of the fp32 model, measured unless an earlier run has."""
    if card.fp32_bpb is not None:
        return card
    loss = measurer.fp32_loss()
    return replace(card, fp32_bpb=loss.bpb, fp32_nats=loss.nats, block_bytes=loss.block_bytes)


def missing_of(measurer: Measurer, candidates: Sequence[Candidate], study: Study) -> list[Candidate]:
    """Candidates without a row in the study. One that cannot even be resolved counts as missing: its row says why."""
    from pgpack.errors import CalibrationError, CoverageError
    from pgpack.sweep.runner import candidate_key

    assert measurer.evaluator is not None
    failed = {trial.recipe_digest for trial in study.trials if not trial.ok}
    missing = []
    for candidate in candidates:
        try:
            known = candidate_key(measurer, measurer.evaluator, candidate.recipe)[0] in study.finished_keys
        except (CalibrationError, CoverageError):
            known = candidate.recipe.digest in failed
        if not known:
            missing.append(candidate)
    return missing
