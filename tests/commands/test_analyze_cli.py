"""`pgpack analyze` on a checkpoint, on its artifact, and as a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.workshop import pgpack, succeed


def test_a_checkpoint_and_its_artifact_say_nearly_the_same(model: Path, artifact: Path) -> None:
    whole, packed = (succeed(pgpack("analyze", path, "--json")).json for path in (model, artifact))
    contributions = [row["contribution"] for row in whole["blocks"]]
    assert [row["name"] for row in whole["blocks"]] == ["blocks.0", "blocks.1"]
    assert whole["ratio"] == pytest.approx(max(contributions) / min(contributions))
    assert packed["total"] == pytest.approx(whole["total"], rel=0.1)
    assert packed["dialect"] == whole["dialect"] == "unbanked"
    assert "no lanes" in whole["notes"]


def test_the_table_names_what_is_missing_and_the_picture_is_written(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "analysis.svg"
    text = succeed(pgpack("analyze", model, "-o", out)).out
    assert "contribution in all" in text
    assert "note: no embed_proj" in text
    assert out.read_text(encoding="utf-8").startswith("<?xml")
    for wrong, sentence in ((out, "exists"), (tmp_path / "a.pdf", ".png or .svg")):
        refused = pgpack("analyze", model, "-o", wrong)
        assert refused.code == 2
        assert sentence in refused.err
