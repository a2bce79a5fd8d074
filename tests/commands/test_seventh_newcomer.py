"""What a seventh newcomer stumbled over, each as the kind that it is of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pgpack_cli.lazy import OTHER_WORDS
from pgpack_cli.pgpack_app import VERBS as PGPACK
from pgpack_cli.pgtrain_app import VERBS as PGTRAIN

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.progress import progress_bar
from pgpack.tables import table
from tests.commands.workshop import pgpack, pgtrain, succeed

RECIPE = (
    "ndim<=1=cast(dtype=fp16)|shuffle|brotli(quality=11); *=tcq(step=0.0002619177,states=64)|rans_scaled(states=64)"
)
FRONTIER = table(
    ("", "bytes", "bpb", "+-", "above best", "KL", "+-", "name", "recipe"),
    [
        ("", 27_820, "3.5663", "0.00131", "+0.01122 +-0.00111", 0.005331, "0.00033", "", RECIPE),
        ("*", 39_966, "3.5550", "0.00055", "+0.00000 +-0.00000", 0.001385, "0.000080", "tuned to the budget", RECIPE),
    ],
)


@pytest.mark.parametrize("columns", range(40, 140, 4))
def test_no_value_with_an_interval_and_no_name_is_cut_at_any_width(columns: int) -> None:
    lines = FRONTIER.within(columns).splitlines()
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    for value in ("+0.01122 +-0.00111", "+0.00000 +-0.00000", "0.00033", "0.000080"):
        assert text.count(value) == 1
    assert text.count("tuned to the budget") == 1
    assert all(lines)
    assert all(any(size in line for size in ("bytes", "27,820", "39,966")) for line in lines if " 0.00" in line)


@pytest.mark.parametrize("columns", range(40, 100, 4))
def test_every_row_of_a_table_stands_under_its_own_name_at_any_width(columns: int) -> None:
    names = [f"model.layers.{i}.self_attn.q_proj.weight" for i in (0, 1)]
    rows = [(name, "attention", "64x64", "cast(dtype=fp16)", 6_850 + i, 13.38 + i) for i, name in enumerate(names)]
    text = table(("tensor", "role", "shape", "policy", "est. bytes", "bits/weight"), rows).within(columns)
    assert text.count("cast(dtype=fp16)") == 2
    if names[1] in text:
        first, _, second = text.partition(names[1])
        assert ("6,850" in first, "13.38" in first, "6,851" in second, "14.38" in second) == (True,) * 4


@pytest.mark.parametrize("suffix", [".gguf", ".safetensors", ".npz", ".pt", ".GGUF"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_an_artifact_is_not_written_under_the_name_of_another_format(
    suffix: str, dry: tuple[str, ...], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"small{suffix}"
    done = pgpack("pack", model, "--recipe", "*=rtn(bits=4)|rans", "-o", out, *dry)
    assert done.code == 2
    assert f"give {tmp_path / 'small.pgpack'}" in done.err
    assert not out.exists()


def test_names_that_say_no_format_and_those_of_the_field_are_taken(model: Path, tmp_path: Path) -> None:
    for name, flags in {
        "a.pgpack": ("--recipe", "*=rtn(bits=4)|rans"),
        "model": ("--recipe", "*=rtn(bits=4)|rans"),
        "v1.2": ("--recipe", "*=rtn(bits=4)|rans"),
        "final_model.int8.pt": ("--preset", "baseline-int8-zlib"),
    }.items():
        succeed(pgpack("pack", model, *flags, "-o", tmp_path / name, "--dry-run"))


def test_other_commands_that_write_one_format_refuse_the_names_of_others(model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "a.pgpack"
    succeed(pgpack("pack", model, "--recipe", "*=rtn(bits=4)|rans", "-o", packed))
    for done, given in (
        (pgpack("transcode", packed, "-o", tmp_path / "b.gguf"), "b.pgpack"),
        (pgpack("transcode", packed, "-o", tmp_path / "b.x", "--equal-loss", tmp_path / "c.npz"), "c.pgpack"),
        (pgpack("calibrate", model, "-o", tmp_path / "h.pt"), "h.safetensors"),
        (pgtrain("finetune", model, "--for-packer", "9kB", "-o", tmp_path / "f.pt"), "f.safetensors"),
    ):
        assert done.code == 2
        assert f"give {tmp_path / given}" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pgpack", "a.pgpack.json"]


def test_a_log_of_bars_below_one_another_has_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar(2, "artifact", "searching", quiet=False) as outer:
        with progress_bar(3, "tok", "calibrating", quiet=False) as inner:
            inner.delay = outer.delay = 0.0
            outer.refresh()
            for _ in range(3):
                inner.update(1)
                inner.refresh()
        outer.update(2)
    text = capfd.readouterr().err
    assert "calibrating: 100%" in text
    assert all(line.strip() and line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("verb", ["pack", "eval", "sweep"])
def test_what_no_tokenizer_and_no_newer_library_can_help_is_said_at_once(verb: str, tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vit"}')
    save_tensors(folder / "model.safetensors", {"layer.0.weight": np.ones((8, 8), "f4")}, {})
    flags = {"pack": ("--budget", "50%", "-o", tmp_path / "a"), "sweep": ("-o", tmp_path / "s"), "eval": ()}[verb]
    said = pgpack(verb, folder, "--text", "builtin", *flags)
    assert said.code == 1
    assert "only models that go on from text are run here" in said.err
    assert "--tokenizer" not in said.err
    assert "install -U" not in said.err


def test_the_flags_that_an_evaluation_asks_for_are_its_own(tmp_path: Path) -> None:
    file, text = tmp_path / "bare.safetensors", tmp_path / "a.jsonl"
    save_tensors(file, {"a.weight": np.ones((8, 8), "f4")}, {})
    said = pgtrain("eval", file).err
    own = pgtrain("eval", "--help").out
    named = set(re.findall(r"--[a-z][a-z-]+", said))
    assert "--text" in named
    assert {flag for flag in named if flag not in own} == set()
    text.write_text("".join(f'{{"body": "the quick brown fox {i} jumps over {i}"}}\n' for i in range(400)))
    said = pgtrain("eval", file, "--text", text, "--field", "body").err
    assert "names no tokenizer" in said


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (pgpack, ("train", "model/"), "that is pgtrain run"),
        (pgtrain, ("pack", "m.safetensors"), "that is pgpack pack"),
        (pgtrain, ("train",), "did you mean 'run'?"),
        (pgtrain, ("list",), "did you mean 'ls'?"),
        (pgpack, ("quantize", "model/"), "did you mean 'pack'?"),
        (pgpack, ("decompress",), "did you mean 'unpack'?"),
        (pgpack, ("pakc",), "did you mean 'pack'?"),
        (pgpack, ("unpack",), "Decode ARTIFACT"),
        (pgpack, ("pack",), "Pack CHECKPOINT by a recipe"),
        (pgtrain, ("curve",), "Draw training loss"),
        (pgpack, ("completion",), "Choose from"),
    ],
)
def test_what_is_mistyped_or_missing_is_answered_with_what_to_type(
    command: Any, words: tuple[str, ...], said: str
) -> None:
    done = command(*words)
    assert (done.code, said in done.err) == (2, True), done.err


def test_every_word_of_other_programs_leads_to_a_command_that_is_there() -> None:
    for verbs, program in ((PGPACK, "pgpack"), (PGTRAIN, "pgtrain")):
        assert set(OTHER_WORDS[program]) <= set(verbs)
        assert not set(" ".join(OTHER_WORDS[program].values()).split()) & {*PGPACK, *PGTRAIN}


def test_a_folder_without_shards_says_what_makes_them(tmp_path: Path) -> None:
    (tmp_path / "my docs").mkdir()
    said = pgtrain("run", "--data", tmp_path / "my docs", "-o", tmp_path / "m.safetensors").err
    assert f"pgtrain data '{tmp_path / 'my docs'}' -o text" in " ".join(said.split())


def test_a_folder_that_is_judged_from_inside_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my record"
    folder.mkdir()
    (folder / "train_gpt.py").write_text("print(1)\n")
    monkeypatch.chdir(folder)
    said = pgpack("verify", ".").out
    assert said.rstrip().endswith("not measured: my record")
    assert "1 plain file\n" in said


def test_a_template_that_is_run_as_it_says_answers_with_one_sentence(tmp_path: Path) -> None:
    file, adapter = tmp_path / "bare.safetensors", tmp_path / "adapter.py"
    save_tensors(file, {"a.weight": np.ones((8, 8), "f4")}, {})
    succeed(pgpack("init-adapter", adapter, "--checkpoint", file))
    for words, said in {
        (): "give a checkpoint: python adapter.py CHECKPOINT",
        (str(file),): "not filled in yet: make your model here",
        ("nothere",): "error: checkpoint nothere does not exist",
    }.items():
        done = subprocess.run([sys.executable, str(adapter), *words], capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (1, True, 1), done.stderr


def test_another_model_into_a_study_is_refused_with_its_name_and_a_short_digest(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_tensors(other, {"a.weight": np.ones((8, 8), "f4"), "b.weight": np.full((16, 8), 0.5, "f4")}, {})
    once = tmp_path / "once.safetensors"
    save_tensors(once, {"a.weight": np.zeros((8, 8), "f4") + 2, "b.weight": np.full((16, 8), 0.25, "f4")}, {})
    line = ("--recipe", "*=rtn(bits=4)|rans", "-o", tmp_path / "study")
    succeed(pgpack("sweep", once, *line))
    said = pgpack("sweep", other, *line).err
    assert f"it began with {once}, this run has {other}" in said
    assert not re.search(r"[0-9a-f]{20}", said.partition("is a study")[2])


def test_a_study_without_statistics_has_no_column_that_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "bare.safetensors"
    save_tensors(file, {"a.weight": np.eye(16, dtype="f4"), "b.weight": np.full((16, 8), 0.5, "f4")}, {})
    shown = succeed(pgpack("sweep", file, "--recipe", "*=rtn(bits={3,5})|rans", "-o", tmp_path / "study")).out
    assert "relative error" in shown
    assert "expected loss" not in shown
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "relative error" in page
    assert "expected loss" not in page


def test_a_page_that_is_drawn_again_is_the_one_that_the_sweep_wrote(tmp_path: Path) -> None:
    file, study, again = tmp_path / "bare.safetensors", tmp_path / "study", tmp_path / "again.html"
    save_tensors(file, {"a.weight": np.eye(16, dtype="f4"), "b.weight": np.full((16, 8), 0.5, "f4")}, {})
    succeed(pgpack("sweep", file, "--recipe", "*=rtn(bits={3,5})|rans", "-o", study))
    written = (study / "report.html").read_bytes()
    assert b"Bytes of the best artifact" in written
    succeed(pgpack("report", study))
    assert (study / "report.html").read_bytes() == written
    succeed(pgpack("sweep", "--check", study))
    succeed(pgpack("frontier", study, "-o", again))
    assert again.read_bytes() == written
