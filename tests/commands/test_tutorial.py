"""The tutorial is true: its commands run, and print what stands under them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.commands.tutorial import BLOCK, TUTORIAL, alike, played

pytest.importorskip("transformers")
TEXT = TUTORIAL.read_text(encoding="utf-8")


@pytest.mark.timeout(600)
def test_every_command_of_the_tutorial_runs_and_prints_what_stands_under_it(tmp_path: Path) -> None:
    now = played(TEXT, tmp_path)
    assert alike(now) == alike(TEXT)
    assert BLOCK.sub("", now) == BLOCK.sub("", TEXT)
    said = [line for line in now.splitlines() if line.startswith("A recipe is")]
    assert len(said) >= 1


def test_links_of_the_tutorial_and_the_glossary_lead_on() -> None:
    for page in (TUTORIAL, TUTORIAL.with_name("GLOSSARY.md")):
        for target in re.findall(r"\]\(([^):]+)\)", page.read_text(encoding="utf-8")):
            name, _, place = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), target
            if place:
                assert f'name="{place}"' in path.read_text(encoding="utf-8"), target
