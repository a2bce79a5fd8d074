"""pgpack/STAGES.md says what the stages say of themselves."""

from __future__ import annotations

from pgpack.recipe.policy import KINDS
from pgpack.recipe.presets import PRESETS
from tests.house.stages_page import PAGE, page


def test_the_page_of_stages_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.house.stages_page writes it anew"


def test_the_page_names_every_stage_and_preset() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in (*PRESETS, *(name for _, table in KINDS for name in table.built_in)):
        assert f"| `{name}` | " in text
