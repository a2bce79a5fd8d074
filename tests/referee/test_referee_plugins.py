"""A rule of another package is found by its entry point, and judges like ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpack.errors import SettingError
from pgpack.referee.table import GROUP, RULES, all_rules
from tests.commands.workshop import pgpack
from tests.submission.submission_folder import write_good

MODULE = """
from pgpack.referee.findings import Rule, fail, ok

def judge(evidence):
    return ok("here") if evidence.folder.entry("LICENCE") else fail("no LICENCE among the files")

RULE = Rule("ignored", "A licence is there", "house rules", judge)
"""


def install(site: Path, name: str, value: str) -> None:
    """A package of one module and one entry point, as pip would lay it out."""
    (site / "licence_rule.py").write_text(MODULE)
    metadata = site / "licence_rule-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: licence-rule\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")


def test_a_rule_of_another_package_judges_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "licence", "licence_rule:RULE")
    monkeypatch.syspath_prepend(site)
    folder = write_good(tmp_path / "submission", [42])
    refused = pgpack("verify", folder, "--json")
    assert refused.code == 4
    assert [check["id"] for check in refused.json["checks"]] == [*(rule.id for rule in RULES), "licence"]
    assert refused.json["checks"][-1]["detail"] == "no LICENCE among the files"
    (folder / "LICENCE").write_text("MIT")
    assert pgpack("verify", folder).code == 0


@pytest.mark.parametrize(
    ("name", "value", "words"), [("cap", "licence_rule:RULE", "taken"), ("x", "gone:R", "loaded")]
)
def test_a_rule_that_cannot_be_added_is_named(
    name: str, value: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, name, value)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingError, match=f"{name} .*{words}"):
        all_rules()
