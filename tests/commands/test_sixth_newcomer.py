"""What a sixth newcomer stumbled over: a model of one's own, logs of long work, narrow terminals, several seeds."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from pgpack_cli.lazy import LazyGroup
from pgpack_cli.pgpack_app import app as pgpack_app
from pgpack_cli.pgtrain_app import app as pgtrain_app
from pgpack_cli.screen import live_table
from pgpack_cli.screen.live_table import LiveTable
from pgpack_cli.screen.output import note

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.progress import progress_bar, shown, waiting
from pgpack.report.templates import breakable_label
from pgpack.study.comparison import half_width_text
from pgpack.sweep.pace import Pace
from pgpack.tables import decimals
from tests.commands.test_live_table import JOBS, row, study, terminal
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.models.tiny_hf import write_tokenizer
from tests.synthetic_study import write_study

ROOT = Path(__file__).resolve().parents[2]
OWN = """
from net import Net

def build(state_dict):
    from later import scaled

    model = scaled(Net())
    model.load_state_dict(state_dict)
    return model
"""
NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.out = torch.nn.Embedding(310, 8), torch.nn.Linear(8, 310, bias=False)

    def forward(self, ids):
        return self.out(self.emb(ids))
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A state dict that nothing is known of."""
    noise = np.random.default_rng(0)
    path = tmp_path / "bare.safetensors"
    table, head = (noise.standard_normal((310, 8)).astype("f4") for _ in range(2))
    save_tensors(path, {"emb.weight": table, "out.weight": head}, {})
    return path


def test_a_model_file_imports_its_neighbours_as_a_script_does(bare: Path, text_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "adapter.py").write_text(OWN)
    (folder / "net.py").write_text(NET)
    (folder / "later.py").write_text("def scaled(model):\n    return model\n")
    before = list(sys.path)
    flags = ("--model", folder / "adapter.py:build", "--text", text_folder, "--seq-len", 32, "--max-tokens", 256)
    document = succeed(pgpack("eval", bare, *flags, "--json")).json
    assert document["bpb"] > 0
    assert sys.path == before


def test_all_that_bare_tensors_lack_is_said_at_once(bare: Path) -> None:
    for flags in (("--text", "builtin"), ()):
        said = pgpack("eval", bare, *flags).err
        for flag in ("--tokenizer PATH", "--seq-len N", "--model FILE.py:build (`pgpack init-adapter`"):
            assert flag in said
    assert "--seq-len" not in pgpack("eval", bare, "--text", "builtin", "--seq-len", 32).err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("pgtrain", "run"), "Missing option '--data'. Folder of `pgtrain data`."),
        (("pgpack", "compare", "a", "b"), "Missing option '--prompt'. What A goes on from."),
    ],
)
def test_an_option_that_is_missing_is_explained(command: tuple[str, ...], said: str) -> None:
    finished = {"pgtrain": pgtrain, "pgpack": pgpack}[command[0]](*command[1:])
    assert finished.code == 2
    assert said in finished.err


def _verbs() -> Iterator[tuple[str, click.Context]]:
    for program, app in (("pgpack", pgpack_app), ("pgtrain", pgtrain_app)):
        assert isinstance(app, LazyGroup)
        context = click.Context(app, info_name=program, **app.context_settings)
        for verb in app.list_commands(context):
            if (command := app.get_command(context, verb)) is not None:
                yield f"{program} {verb}", click.Context(command, context, verb)


def test_no_help_page_shows_a_bound_that_is_none() -> None:
    for name, context in _verbs():
        page = context.get_help()
        assert not re.search(r"x[<>]|None\]", page), name
    assert "[0 to 9]" in pgpack("pack", "--help").out
    assert "above 0 and below 1" in re.sub(r"\s+", " ", pgtrain("data", "--help").out)


def test_a_mistyped_rule_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert "no rule is called capp; did you mean 'cap'?" in pgpack("verify", "--explain", "capp").err
    assert "; there are files, required," in pgpack("verify", "--explain", "zzzz").err


@pytest.mark.parametrize(
    "command", [("run", "--data", "text"), ("adopt", "final_model.pt"), ("curve", "a.log.jsonl")]
)
def test_a_name_that_cannot_be_written_is_refused_with_one_that_can(command: tuple[str, ...]) -> None:
    right = "x.svg" if command[0] == "curve" else "x.safetensors"
    finished = pgtrain(*command, "-o", "x.pt")
    assert finished.code == 2
    assert f"give {right}" in finished.err


def test_what_was_not_given_before_is_no_word_of_python(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    said = pgpack("sweep", "--resume", tmp_path / "study", "--budget", "20kB").err
    assert "None" not in said


def test_in_a_log_every_state_of_a_bar_is_a_line_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(True, None, "artifact", "searching") as bar:
        for n in range(3):
            bar.update()
            bar.say(f"file {n}")
    lines = capsys.readouterr().err.split("\n")
    assert not any("\r" in line for line in lines)
    assert [line for line in lines if line.startswith("file")] == ["file 0", "file 1", "file 2"]
    assert [line for line in lines if line.startswith("searching: 3 artifacts")] == [
        "searching: 3 artifacts after 00:00"
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_note_stands_above_a_bar_and_not_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_bar(None, "artifact", "searching", quiet=False) as bar:
        bar.refresh()
        note("evaluating on 5 tokens")
        with waiting(True, "loading"):
            pass
    before = screen.getvalue().partition("evaluating on 5 tokens\n")[0]
    assert before.rpartition("\r")[2] == ""
    assert before.rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_bars_of_one_of_several_checkpoints_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("seed2.safetensors", 3, "tok", "calibrating") as bar:
        bar.update(3)
        bar.say("said")
    assert "calibrating, seed2.safetensors: 100%" in capsys.readouterr().err


def test_the_benches_of_several_seeds_have_bars_with_their_names(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr("pgpack.bench.workpiece.Workpiece.__post_init__", lambda self: told.append(self.progress))
    for flags, expected in (((), ["a", "b"]), (("-q",), [False, False])):
        told.clear()
        pgpack("sweep", model, model, "--recipe", "*=rtn(bits=4)|rans", "-o", tmp_path / "study", *flags)
        assert told == ([str(model)] * 2 if expected == ["a", "b"] else expected)
    told.clear()
    pgpack("sweep", model, "--recipe", "*=rtn(bits=4)|rans", "-o", tmp_path / "one")
    assert told[0] is True


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_the_live_table_cuts_no_line_at_any_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setattr(live_table, "_size", lambda stream: (columns, 24))
    LiveTable(study(*(row(index) for index in range(7))), Pace(JOBS), None, screen).draw()
    lines = screen.lines()
    assert len(lines) <= 22
    assert all(len(line) < columns for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "sweeping 0 of 7 trials, 0 s so far" in text
    for index in (0, 6):
        assert str(JOBS[index].candidate.recipe) in text
        assert f"{1000 * (index + 1):,}" in text


def test_a_study_that_is_gone_on_with_otherwise_names_the_flags_that_differ(
    model: Path, text_folder: Path, tmp_path: Path
) -> None:
    line = (
        "sweep",
        model,
        "--recipe",
        "*=rtn(bits=4)|rans",
        "--seq-len",
        16,
        "-o",
        tmp_path / "study",
        "--max-tokens",
    )
    assert pgpack(*line, 64).code == 0
    said = pgpack(*line, 128).err
    assert "it began with --max-tokens 64, this run has --max-tokens 128; repeat" in said
    assert "--seq-len" not in said
    assert not re.search(r"[0-9a-f]{20}", said.partition("is a study")[2])


def test_tensors_of_no_known_model_say_what_a_loss_needs(bare: Path) -> None:
    assert "a loss needs --model FILE.py:build" in succeed(pgpack("inspect", bare)).out


@pytest.mark.parametrize("verb", ["generate", "eval", "compare"])
def test_a_model_that_does_not_go_on_from_text_is_refused_in_words_that_fit_the_command(
    verb: str, tmp_path: Path
) -> None:
    folder = tmp_path / "t5"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "t5"}')
    save_tensors(folder / "model.safetensors", {"shared.weight": np.ones((310, 8), "f4")}, {})
    write_tokenizer(folder)
    words = {"generate": ("hi",), "eval": ("--text", "builtin"), "compare": (folder, "--prompt", "hi")}[verb]
    said = pgpack(verb, folder, *words).err
    assert "only models that go on from text are run here; `pgpack pack` takes it without text" in said


def test_the_smallest_loss_and_its_interval_are_written_alike() -> None:
    shown = [half_width_text(width, of) for width, of in ((3.4e-6, 3.7e-5), (3.4e-5, 2e-4), (0.0, 0.0), (None, 1.0))]
    assert shown == ["3.4e-06", "0.000034", "0.0000", "-"]
    assert half_width_text(7.1e-6, 1.339e-4) == "0.0000071"
    assert decimals(3.7e-5, 5) == "3.7e-05"


def test_a_label_that_a_style_sheet_shows_breaks_between_its_parts() -> None:
    assert breakable_label("mlp.down_proj") == "mlp.\u200bdown_\u200bproj"
    assert breakable_label("v1.5") == "v1.5"


def test_training_in_a_log_is_a_line_now_and_then_and_not_one_a_step(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpack.progress.LOG_INTERVAL_S", 3600.0)
    sizes = ("--layers", 1, "--dim", 16, "--heads", 2, "--kv-heads", 1, "--seq-len", 16, "--batch-tokens", 64)
    finished = pgtrain("run", "--data", text_folder, *sizes, "--steps", 6, "-o", tmp_path / "m.safetensors")
    assert "\r" not in finished.err
    assert len([line for line in succeed(finished).err.splitlines() if "/6 [" in line]) <= 1


def test_there_is_one_kind_of_bar() -> None:
    rooms = (ROOT / room for room in ("cli", "pgpack", "pgtrain"))
    own = [path for room in rooms for path in room.rglob("*.py") if "import tqdm" in path.read_text(encoding="utf-8")]
    assert [path.name for path in own] == ["progress.py"]


def test_all_bars_are_watched_by_one_thread() -> None:
    counts = []
    for _ in range(3):
        with progress_bar(5, "step", "working", quiet=False):
            counts.append(sum("tqdm" in thread.name for thread in threading.enumerate()))
    assert counts[1:] == counts[:1] * 2


def test_the_trainer_too_shows_what_one_needs_first() -> None:
    said = pgtrain()
    assert "The commands that one needs first:" in said.out
    for verb in ("data", "run", "eval"):
        assert f"  pgtrain {verb} " in said.out
    assert "finetune" not in said.out
