"""Every folder of the corpus has its right verdict, by the rule that it is about."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pgpack.referee.verdict import judge
from tests.referee.corpus import cases
from tests.referee.folder_case import Case

CASES = cases()


def wrong(case: Case, folder: Path) -> str:
    """How the verdict over a folder differs from the right one, '' when it does not."""
    verdict = judge(folder)
    found = verdict[case.rule]
    failed = ", ".join(f"{rule.id}: {finding.detail}" for rule, finding in verdict.of("fail"))
    right = {
        "accepted": verdict.ok and found.status in ("ok", "skip"),
        "refused": found.status == "fail",
        "warned": verdict.ok and found.status == "warn",
        "flagged": found.status in ("fail", "warn"),
    }[case.verdict]
    if not right:
        return f"{case.verdict} is right, found {found.status}: {found.detail}; failed: {failed or 'nothing'}"
    return "" if re.search(case.words, found.detail) else f"{case.words!r} is not in: {found.detail}"


@pytest.mark.parametrize("name", CASES)
def test_a_folder_of_the_corpus_has_its_right_verdict(name: str, tmp_path: Path) -> None:
    folder = CASES[name].write(tmp_path / name)
    assert wrong(CASES[name], folder) == ""
    shutil.rmtree(folder)
