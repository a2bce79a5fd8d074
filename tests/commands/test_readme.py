"""The README is true: its commands exist, its recipe parses, its table is the published one, its links lead on."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import click
import pytest
from pgpack_cli.pgpack_app import app as pgpack
from pgpack_cli.pgtrain_app import app as pgtrain

from experiments.rate_distortion import headline
from experiments.rate_distortion.publish import markdown
from experiments.rate_distortion.summary import summary as rd_summary
from experiments.replication.pages import block
from pgpack.recipe.recipe import parse_recipe

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w*)\n(.*?)^ *```", README, re.S | re.M)


def command_lines() -> list[str]:
    shell = "".join(text.replace("\\\n", " ") for language, text in BLOCKS if language == "sh")
    return [
        line.partition("  #")[0].strip() for line in shell.splitlines() if line.split(" ")[0] in ("pgpack", "pgtrain")
    ]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_of_the_readme_parses(line: str) -> None:
    """Click accepts the verb and every flag (the files need not be there)."""
    program, verb, *rest = shlex.split(line)
    group = {"pgpack": pgpack, "pgtrain": pgtrain}[program]
    context = click.Context(group)
    command = group.get_command(context, verb)
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known


def test_the_tour_names_every_verb() -> None:
    for group, program in ((pgpack, "pgpack"), (pgtrain, "pgtrain")):
        for verb in group.list_commands(click.Context(group)):
            assert f"`{verb}`" in README or f"`{program} {verb}`" in README or f"`{verb}`," in README, verb


def test_the_recipe_of_the_readme_parses() -> None:
    recipes = [text.strip() for language, text in BLOCKS if not language]
    assert recipes
    for text in recipes:
        parse_recipe(text)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"\bmake ([a-z-]+)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    for target in targets:
        assert f"\n{target}:" in makefile, target


def test_the_table_is_the_published_one() -> None:
    results = ROOT / "results" / "demo"
    with (results / "points.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    assert block(ROOT / "README.md", "frontier") == markdown(rows, summary)


def test_the_table_of_a_real_model_is_that_of_the_bench() -> None:
    document = json.loads((ROOT / "results" / "peers-smollm.json").read_text(encoding="utf-8"))
    assert block(ROOT / "README.md", headline.BLOCK) == headline.markdown(document)


def test_the_summary_is_that_of_the_bench() -> None:
    documents = json.loads((ROOT / "results" / "rd.json").read_text(encoding="utf-8"))
    assert block(ROOT / "README.md", "rd") == rd_summary(documents)


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
