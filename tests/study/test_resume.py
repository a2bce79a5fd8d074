"""Laws of the account that a continued sweep gives: its counts are those of the study and of the candidates."""

from __future__ import annotations

from pathlib import Path

from pgpack.recipe.recipe import parse_recipe
from pgpack.study.journal import Lines
from pgpack.study.reuse import reuse
from pgpack.study.study import Study
from tests.study.test_journal import META, a_trial

RECIPES = [parse_recipe(f"*=rtn(bits={bits})|rans") for bits in range(3, 9)]
ASKED = [(META.checkpoint_digest, recipe.digest, 1.0) for recipe in RECIPES]


def study_of(*statuses: str) -> Study:
    rows = [
        a_trial(n, recipe_digest=recipe.digest, status=status, error=None if status == "ok" else "no")
        for n, (recipe, status) in enumerate(zip(RECIPES, statuses, strict=False), start=1)
    ]
    return Study(Path("study"), META, tuple(rows))


def test_a_new_study_has_nothing_to_reuse() -> None:
    account = reuse(study_of(), ASKED, ASKED, [], ())
    assert account.sentences() == ("6 recipes to measure in a new study",)
    taken_out = Lines((), ("line 1: no trial", "line 2: no trial")).sentences()
    assert reuse(study_of(), ASKED, ASKED, [], taken_out).sentences() == (
        "6 recipes to measure in a new study",
        "2 damaged lines of trials.jsonl put aside in trials.damaged; what was measured there counts as new",
    )


def test_every_row_is_counted_once_as_measured_failed_stale_or_another_recipe() -> None:
    study = study_of("ok", "failed", "ok", "ok")
    asked = ASKED[1:]  # the first row belongs to no candidate
    missing = [ASKED[3], *ASKED[4:]]  # the fourth has a row of another version
    account = reuse(study, asked, missing, ["the fp32 loss"], Lines((), torn_bytes=12).sentences())
    assert (account.n_candidates, account.n_measured, account.n_failed) == (5, 2, 1)
    assert (account.n_stale, account.n_others, account.n_rows) == (1, 1, 4)
    text = "\n".join(account.sentences())
    assert "going on with a study of 4 trials, begun 2026-01-02T03:04:05+00:00" in text
    assert "5 recipes, 2 of them measured before, 3 to measure" in text
    assert "1 of those measured before failed; --retry-failed measures them again" in text
    assert "1 were measured by another pgpack or with another calibration: measured again" in text
    assert "1 trial of other recipes stay" in text
    assert "reused besides: the fp32 loss" in text
    assert "12 bytes, torn by a crash" in text


def test_what_there_is_nothing_of_is_not_mentioned() -> None:
    study = study_of("ok", "ok")
    assert reuse(study, ASKED[:2], [], [], Lines(()).sentences()).sentences() == (
        "going on with a study of 2 trials, begun 2026-01-02T03:04:05+00:00",
        "2 recipes, 2 of them measured before, 0 to measure",
    )
