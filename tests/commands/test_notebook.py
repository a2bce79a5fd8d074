"""The README's notebook passage, executed by a real notebook kernel; its last line shows a picture."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSAGE = re.compile(r"## From Python.*?```python\n(.*?)```", re.S)


@pytest.mark.skipif(
    find_spec("nbclient") is None or find_spec("ipykernel") is None, reason="needs nbclient and ipykernel"
)
def test_the_readmes_passage_runs_in_a_notebook_and_ends_with_a_picture(
    model: Path, text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    shutil.copytree(text_folder, tmp_path / text_folder.name)  # the checkpoint names its text relative to itself
    shutil.copy(model, tmp_path / "model.safetensors")
    found = PASSAGE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(found[1])])
    NotebookClient(notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    streams = "".join(out["text"] for out in notebook.cells[0].outputs if out["output_type"] == "stream")
    assert re.fullmatch(r"\d+ \d\.\d+ True\n", streams)
    (shown,) = (out["data"] for out in notebook.cells[0].outputs if out["output_type"] == "execute_result")
    assert shown["image/svg+xml"].lstrip().startswith("<?xml")
    assert "bytes" in shown["text/html"]
    (tmp_path / "shown.svg").write_text(shown["image/svg+xml"], encoding="utf-8")
