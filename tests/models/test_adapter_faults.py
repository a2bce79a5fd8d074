"""What the user's own code raises is said in a sentence with its line, never as a traceback of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pgpack.errors import DataError
from pgpack.loss.bpb import TextEvaluator
from pgpack.models.adapter_file import find
from pgpack.models.source import Wanted
from pgpack.text.tokenizer import TokenizedText


def build_of(path: Path, code: str):
    path.write_text(code)
    wanted = Wanted({}, {}, 16, None, f"{path}:build", (), {})  # type: ignore[arg-type]
    found = find(wanted)
    assert found is not None
    return found.build


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def build(state):\n    return state['emb']\n", r"failed at line 2: KeyError: 'emb'"),
        ("def build(state):\n    a, b = state['w'].shape\n", r"failed at line 2: ValueError: not enough values"),
        (
            "def build(state):\n    raise RuntimeError('a\\nb')\n",
            r"failed at line 2: RuntimeError: a b \(raise RuntimeError",
        ),
    ],
)
def test_a_build_function_that_fails_is_named_with_its_line(tmp_path: Path, code: str, said: str) -> None:
    build = build_of(tmp_path / "m.py", code)
    with pytest.raises(DataError, match=said):
        build({"w": torch.ones(3)})


@pytest.mark.parametrize("code", ["def build(:\n", "import no_such_package_at_all\n", "1 / 0\n"])
def test_a_file_that_does_not_run_is_refused(tmp_path: Path, code: str) -> None:
    with pytest.raises(DataError, match=r"m\.py:build failed"):
        build_of(tmp_path / "m.py", code)


def test_a_model_that_fails_on_the_text_says_so() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.emb = nn.Embedding(4, 16)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.emb(ids)

    import numpy as np

    text = TokenizedText(np.arange(9, dtype=np.uint16), np.ones(9, np.int32))
    evaluator = TextEvaluator(lambda state: Small(), text, 16, 4)
    with pytest.raises(DataError, match=r"the model fails on this text \(\w+: .*the tokenizer or --seq-len does not"):
        evaluator.evaluate({})


def test_the_users_own_line_is_shown_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgpack.models.adapter_file import said

    (tmp_path / "beside.py").write_text("def pick(state):\n    return state['gone']\n")
    file = tmp_path / "own.py"
    file.write_text("import beside\n\ndef build(state):\n    return beside.pick(state)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in (file, Path("own.py")):
        code = compile(file.read_text(), str(path), "exec")
        space: dict[str, object] = {}
        exec(code, space)
        told = r"own failed at line 2 of beside.py: KeyError: 'gone' \(return state\['gone'\]\)"
        with pytest.raises(DataError, match=told), said("own", path):
            space["build"]({})  # type: ignore[operator]


def test_a_place_that_was_not_filled_in_is_one_sentence(tmp_path: Path) -> None:
    from pgpack_cli.verbs.init_adapter import template

    from pgpack.models.adapter_file import said

    file = tmp_path / "adapter.py"
    file.write_text(template("adapter.py", {}, ""))
    space: dict[str, object] = {"__name__": "adapter"}
    exec(compile(file.read_text(), str(file), "exec"), space)
    told = r"^adapter is not filled in yet at line \d+: make your model here"
    with pytest.raises(DataError, match=told), said("adapter", file):
        space["build"]({})  # type: ignore[operator]
