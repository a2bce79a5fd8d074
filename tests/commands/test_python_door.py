"""The Python door: what is public is listed, documented, cheap to import, and every example of it runs."""

from __future__ import annotations

import doctest
import inspect
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pgpack
from tests.commands.workshop import pgpack as command
from tests.commands.workshop import succeed
from tests.house.api_page import NOUNS, PAGE, member, page
from tests.models.tiny_hf import write_folder, write_tokenizer

DOCUMENTED = ["Recipe", "open_artifact", "open_bench", "open_checkpoint", "open_study"]
SPACE = ("--recipe", "role:control=cast; *=rtn(bits={3:5})|rans")


@pytest.fixture(scope="module")
def folder(model: Path, text_folder: Path, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name: model.safetensors, text, model.pgpack, study and tiny-llama.pgpack."""
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("door")
    write_tokenizer(write_folder(home / "tiny-llama", "llama-tied"))
    succeed(command("pack", home / "tiny-llama", "--recipe", "*=cast", "-o", home / "tiny-llama.pgpack", "-q"))
    shutil.copytree(text_folder, home / "text")
    for file in (model, artifact):
        shutil.copy(file, home / file.name)
    succeed(command("sweep", home / "model.safetensors", *SPACE, "--out", home / "study", "-q"))
    return home


def public_things() -> Iterator[tuple[str, Any]]:
    for name in pgpack.__all__:
        yield name, getattr(pgpack, name)
    for noun, names in NOUNS.items():
        for name in names:
            thing = member(noun, name)
            if inspect.isfunction(thing) and inspect.isfunction(inspect.getattr_static(noun, name)):
                yield f"{noun.__name__}.{name}", thing


def test_the_door_has_the_documented_names_and_no_other() -> None:
    assert pgpack.__all__ == DOCUMENTED
    assert {*DOCUMENTED, "__version__"} == set(dir(pgpack))
    with pytest.raises(AttributeError, match="no attribute 'pack_all'"):
        _ = pgpack.pack_all  # type: ignore[attr-defined]


def test_nouns_introduce_themselves_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    study = pgpack.open_study("study")
    nouns = (pgpack.open_checkpoint("model.safetensors"), pgpack.open_bench("model.safetensors", cache=False))
    for noun in (*nouns, pgpack.open_artifact("model.pgpack"), study, study.frontier()):
        assert len(repr(noun)) < 90, repr(noun)[:200]


def test_importing_the_door_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, pgpack; dir(pgpack); sys.exit(bool({'torch', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_says_what_the_docstrings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize(
    ("name", "thing"), list(public_things()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_example_runs(name: str, thing: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    tests = finder.find(thing, name, globs={"pgpack": pgpack})
    examples = sum(len(test.examples) for test in tests)
    if name != "Recipe":
        assert examples, f"{name} has no example"
    for test in tests:
        assert runner.run(test).failed == 0
