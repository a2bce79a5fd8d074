"""The cache under studies: what one has measured, the next takes over, and losses only of the same model."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgpack.cache import store as cache_module
from pgpack.cache.store import Cache
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.loss.evaluator import BitsPerByte
from pgpack.measure import Measurer
from pgpack.recipe.spaces import read_space
from pgpack.study.card import StudyMeta
from pgpack.study.study import recording
from pgpack.sweep.runner import jobs_of, run_jobs
from tests.cache.test_cache import CONTROL, disk_in, files_of, model_like


class ErrorOfWeights:
    """An evaluator that counts its calls."""

    digest = "error of the weights"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.n_calls = checkpoint, 0

    def evaluate(self, tensors: Mapping[str, Any]) -> BitsPerByte:
        self.n_calls += 1
        error = sum(float(np.abs(tensors[name] - array).mean()) for name, array in self.checkpoint.items())
        return BitsPerByte(error, error / 2, error / 3, 10, 20, 0.0)


SPACE = CONTROL + "*=rtn(bits={4,6})|{raw,zlib,bitpack}"


def sweep(folder: Path, cache: Cache, evaluator: ErrorOfWeights | None = None, model: str | None = "m") -> list[Any]:
    """What a study says about six recipes, times aside."""
    checkpoint = model_like()
    evaluator = evaluator or ErrorOfWeights(checkpoint)
    meta = StudyMeta(
        checkpoint="w",
        checkpoint_digest=checkpoint.digest,
        evaluator_digest=evaluator.digest,
        pgpack_version="1",
        created="2000-01-01T00:00:00+00:00",
    )
    with recording(folder, meta) as (study, journal):
        measurer = Measurer(checkpoint, evaluator, lambda recipe: None, cache, model_digest=model)
        measurer.fp32_loss()
        trials = run_jobs(lambda setting: measurer, jobs_of(read_space(SPACE)), study, journal)
    return [(t.key, t.n_bytes, t.bpb, t.nats, t.kl, t.weights_digest, t.error) for t in trials]


def test_a_second_study_of_the_same_recipes_measures_nothing(tmp_path: Path) -> None:
    evaluator = ErrorOfWeights(model_like())
    first = sweep(tmp_path / "a", Cache(disk_in(tmp_path / "cache")), evaluator)
    assert len(first) == 6
    assert evaluator.n_calls == 3  # fp32 and one for each quantizer
    later = Cache(disk_in(tmp_path / "cache"))
    assert sweep(tmp_path / "b", later, evaluator) == first
    assert (evaluator.n_calls, later.misses.total()) == (3, 0)


@pytest.mark.parametrize("model", [None, "another model"])
def test_a_loss_is_kept_on_disk_only_under_its_model(model: str | None, tmp_path: Path) -> None:
    evaluator = ErrorOfWeights(model_like())
    sweep(tmp_path / "a", Cache(disk_in(tmp_path / "cache")), evaluator)
    sweep(tmp_path / "b", Cache(disk_in(tmp_path / "cache")), evaluator, model)
    assert evaluator.n_calls == 6


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_costs_one_note_and_no_trial(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, pieces: object) -> None:
        raise OSError(code, os.strerror(code))

    undisturbed = sweep(tmp_path / "plain", Cache())
    said: list[str] = []
    monkeypatch.setattr(cache_module, "_write_aside", refuse)
    assert sweep(tmp_path / "refused", Cache(disk_in(tmp_path / "cache", trouble=said.append))) == undisturbed
    assert len(said) == 1
    assert os.strerror(code) in said[0]
    assert files_of(tmp_path / "cache") == []
