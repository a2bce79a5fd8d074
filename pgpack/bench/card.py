"""What a sweep writes on its study's card."""

from __future__ import annotations

from dataclasses import replace

from pgpack.errors import SettingError
from pgpack.study.card import StudyCheckpoint, StudyMeta
from pgpack.study.frontier import Metric
from pgpack.study.trial import timestamp
from pgpack.sweep.executors.jobs import Setting
from pgpack.version import __version__

from .benches import Benches


def study_card(
    benches: Benches, budget: int | None, space: str, search: str, metric: Metric | None = None
) -> StudyMeta:
    """The study's card without the losses of the fp32 models. Raises: SettingError for a metric it lacks."""
    _require_measured(metric, benches.first.has_text)
    options = benches.first.options
    checkpoints = checkpoints_of(benches)
    card = StudyMeta(
        checkpoint=checkpoints[0].checkpoint,
        checkpoint_digest=checkpoints[0].checkpoint_digest,
        evaluator_digest=benches(Setting()).digest,
        pgpack_version=__version__,
        created=timestamp(),
        calibration_digest=benches.first.file_calibration.digest if options.calibration is not None else None,
        budget=budget,
        space=space,
        search=search,
        metric=metric,
        data_flags=options.as_flags(),
        split_digest=benches.first.text.split_digest if options.text else None,
        model=benches.first.text.model.evidence or None if benches.first.has_text else None,
    )
    return card.with_checkpoints(checkpoints)


def checkpoints_of(benches: Benches) -> tuple[StudyCheckpoint, ...]:
    """What a card says of the weights, in the order given; no model and no text is read for it."""
    return tuple(
        StudyCheckpoint(
            checkpoint=str(bench.path),
            checkpoint_digest=bench.checkpoint.digest,
            fp32_n_bytes=bench.checkpoint.fp32_bytes,
        )
        for bench in benches.all
    )


def _require_measured(metric: Metric | None, on_text: bool) -> None:
    if metric == "error" and on_text:
        raise SettingError("--metric error is of sweeps without text; with text give --metric kl, bpb or nats")
    if metric not in (None, "error") and not on_text:
        raise SettingError(
            f"--metric {metric} is measured on text, and none is known: give --text PATH, or --metric error"
        )


def default_metric_of(benches: Benches) -> Metric:
    """What the trials of a new study are compared by, where nobody chose."""
    return "kl" if benches.first.has_text else "error"


def completed(benches: Benches, card: StudyMeta) -> StudyMeta:
    """The card with its metric, the default one unless somebody chose, and with the losses of the fp32 models,
    measured unless an earlier run has; without text it has none."""
    card = replace(card, metric=card.metric or default_metric_of(benches))
    if not benches.first.has_text:
        return card
    numbers = {bench.checkpoint.digest: number for number, bench in enumerate(benches.all)}
    block_bytes = card.block_bytes

    def filled(each: StudyCheckpoint) -> StudyCheckpoint:
        nonlocal block_bytes
        number = numbers.get(each.checkpoint_digest)
        if each.fp32_bpb is not None or number is None:
            return each
        loss = benches(benches.settings()[number]).fp32_loss()
        block_bytes = loss.block_bytes or block_bytes
        return replace(each, fp32_bpb=loss.bpb, fp32_nats=loss.nats)

    checkpoints = tuple(map(filled, card.checkpoints))
    return replace(card.with_checkpoints(checkpoints), block_bytes=block_bytes)
