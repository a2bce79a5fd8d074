"""Every stage and preset says when it is the one to use."""

from __future__ import annotations

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.quantizers import QUANTIZERS, TRANSFORMS
from pgpack.recipe.presets import PRESETS
from pgpack.recipe.use_when import use_when


def test_every_stage_and_preset_says_in_one_line_when_to_use_it() -> None:
    rows = use_when()
    tables = (QUANTIZERS, TRANSFORMS, SYMBOL_TRANSFORMS, CODERS, BYTE_CODECS, PRESETS)
    assert [row.name for row in rows] == [name for table in tables for name in table]
    for row in rows:
        assert 20 < len(row.line) < 110, row
        assert not row.line.endswith("."), row
