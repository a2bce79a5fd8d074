"""The text that a checkpoint names is seen from where it lies, and one that is gone is said to be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from pgpack_cli.verbs.sweep_show import require_one

from pgpack.bench.defaults import text_defaults
from pgpack.bench.options import BenchOptions
from pgpack.bench.sources import open_sources
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.errors import DataError, StudyError
from pgpack.study.study import Study
from pgpack.text.sentence_piece import SentencePiece
from tests.synthetic_study import write_study

PLACES = {"val": "../text/val_*.bin", "calib": "../text/train_*.bin", "tokenizer": "../text/t.model", "seq_len": 8}
METADATA = {"data_defaults": json.dumps(PLACES)}


def never(*_: object) -> NoReturn:
    raise AssertionError("nobody asked for the model's own writing")


def laid_out(folder: Path) -> Path:
    """runs/model.safetensors and text/t.model; the checkpoint's path."""
    for name in ("runs", "text", "elsewhere"):
        (folder / name).mkdir()
    (folder / "text" / "t.model").write_bytes(b"a tokenizer")
    (folder / "runs" / "model.safetensors").write_bytes(b"a checkpoint")
    return folder / "runs" / "model.safetensors"


def test_paths_are_seen_from_the_checkpoint_and_through_a_link_from_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    checkpoint = laid_out(tmp_path / "a")
    link = tmp_path / "link.safetensors"
    link.symlink_to(checkpoint)
    monkeypatch.chdir(tmp_path)
    for path in (checkpoint, Path("a/runs/model.safetensors"), link, Path("link.safetensors")):
        found = text_defaults(METADATA, path).tokenizer
        assert found is not None
        assert found.read_bytes() == b"a tokenizer"


def test_absolute_paths_stay_what_they_are(tmp_path: Path) -> None:
    metadata = {"data_defaults": json.dumps({**PLACES, "tokenizer": "/somewhere/t.model"})}
    assert text_defaults(metadata, laid_out(tmp_path)).tokenizer == Path("/somewhere/t.model")


@pytest.mark.parametrize(
    ("gone", "said"),
    [("t.model", r"as its tokenizer, and there is no such file; give it as --tokenizer"),
     ("val_0.bin", r"val_\*\.bin as its validation text, and there is no such file; give it as --val")],
)  # fmt: skip
def test_a_text_that_is_gone_is_named_with_the_flag_to_give(tmp_path: Path, gone: str, said: str) -> None:
    checkpoint = laid_out(tmp_path)
    (tmp_path / "text" / "val_0.bin").write_bytes(b"")
    (tmp_path / "text" / gone).unlink()
    held = from_tensors({"w": np.ones(3, np.float32)}, METADATA)
    with pytest.raises(DataError, match=said):
        open_sources(checkpoint, held, BenchOptions(), never)


def test_an_empty_file_is_no_tokenizer() -> None:
    with pytest.raises(DataError, match="holds no pieces"):
        SentencePiece(b"", "t.model")


def test_a_study_in_which_nothing_succeeded_is_an_error(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    require_one(study)
    failed = tuple(trial for trial in study.trials if not trial.ok)
    with pytest.raises(StudyError, match="none of the 2 trials succeeded; one says: RecipeError"):
        require_one(dataclasses.replace(study, trials=failed))
    require_one(Study.of(tmp_path, study.meta, ()))
