"""What a second newcomer stumbled over, an hour with README alone: each stumble as a kind."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from pgpack.checkpoint.analysis import analyze
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint, save_tensors
from pgpack.progress import progress_bar
from pgpack.sizes import parse_size
from pgpack.text.text_folder import VAL_GLOB
from tests.commands.workshop import pgpack, pgtrain, succeed


@pytest.fixture(scope="module")
def bare(model: Path) -> Path:
    """The model without its metadata: a state dict of which nobody says how long windows are."""
    path = model.with_name("bare.safetensors")
    save_tensors(path, dict(load_checkpoint(model).items()), {})
    return path


@pytest.mark.parametrize("text", ["12,5%", "1,5MB", "1,50kB", "0,5M", "1_5", "1,000_000"])
def test_a_decimal_comma_is_no_part_of_thousands(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text, whole=10**6)


def test_commas_part_thousands() -> None:
    assert [parse_size(text) for text in ("1,000,000", "16_000_000", "12,345 kB")] == [10**6, 16 * 10**6, 12_345_000]


def test_text_that_is_named_is_never_left_out_because_it_cannot_be_used(
    bare: Path, text_folder: Path, tmp_path: Path
) -> None:
    shards = text_folder / VAL_GLOB
    out = tmp_path / "x.pgpack"
    given = ("pack", bare, "--budget", "9kB", "--effort", 0, "--val", shards, "-o", out, "-q")
    refused = pgpack(*given)  # the shards are there, and no tokenizer says how many bytes a token is
    assert refused.code == 1
    assert "--tokenizer" in refused.err
    assert "error of the weights decides" not in refused.err
    assert not out.exists()
    succeed(pgpack(*given, "--metric", "error"))


def test_paths_in_a_line_to_copy_are_quoted_for_the_shell(artifact: Path, tmp_path: Path) -> None:
    spaced = tmp_path / "my model ü.pgpack"
    spaced.write_bytes(artifact.read_bytes())
    assert f"pgpack unpack '{spaced}' -o decoded.pt" in pgpack("pack", spaced, "--budget", "9kB", "-o", "x").err
    adapter = tmp_path / "my adapter.py"
    assert f"python '{adapter}' CHECKPOINT" in succeed(pgpack("init-adapter", "-o", adapter)).out


def test_every_command_that_writes_takes_o(tmp_path: Path) -> None:
    out = tmp_path / "a.py"
    succeed(pgpack("init-adapter", "-o", out))
    assert out.exists()
    twice = pgpack("init-adapter", tmp_path / "b.py", "-o", tmp_path / "c.py")
    assert (twice.code, "not both" in twice.err) == (2, True)


def test_no_line_shows_an_older_spelling(tmp_path: Path) -> None:
    assert "--out" not in succeed(pgpack("demo", "--dry-run")).out
    (tmp_path / "train.log").write_text("step 1\n")
    assert "--out" not in pgpack("sweep", "--check", tmp_path).err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("--json", "inspect", "x"), "no option '--json' of pgpack; the flags of a command stand behind it"),
        (("--verison",), "no option '--verison' of pgpack; did you mean '--version'?"),
        (("compare", "one", "--prompt", "hi"), "give two models or more"),
        (("sweep", "x", "--recipe", "a", "--recipe", "b"), "give it once, or put the templates into a file"),
    ],
)
def test_a_wrong_order_of_words_is_told_what_is_right(line: tuple[str, ...], said: str) -> None:
    refused = pgpack(*line)
    assert (refused.code, said in refused.err) == (2, True), refused.err


def test_a_prompt_before_its_model_is_told_so(artifact: Path) -> None:
    refused = pgpack("generate", "Once upon a time", artifact)
    assert (refused.code, "the model comes first" in refused.err) == (2, True), refused.err


def test_a_mistyped_stage_is_told_the_nearest(model: Path) -> None:
    refused = pgpack("plan", model, "--recipe", "*=rnt(bits=4)|rans")
    assert "did you mean 'rtn'?" in refused.err


def test_a_calibration_of_another_model_is_named_as_such(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    succeed(pgpack("calibrate", model, "-o", other, "--tokens", 64, "-q"))
    renamed = tmp_path / "renamed.safetensors"
    save_tensors(renamed, {f"mine_{name}": tensor for name, tensor in load_checkpoint(model).items()}, {})
    refused = pgpack("plan", renamed, "--recipe", "*=tcq(step=0.001)|rans_scaled", "--calibration", other)
    assert "the calibration knows no tensor of this checkpoint" in refused.err
    assert "--calibration FILE" in refused.err


def test_a_folder_is_told_what_to_name_in_it(tmp_path: Path) -> None:
    (tmp_path / "run.txt").write_text("step 1\n")
    curve = pgtrain("curve", tmp_path, "-o", tmp_path / "c.svg")
    assert (curve.code, "name the OUT.log.jsonl" in curve.err) == (2, True)
    resumed = pgpack("sweep", "--resume", tmp_path)
    assert (resumed.code, "it holds no study.json" in resumed.err) == (2, True)


@pytest.mark.parametrize("text", ["The old man was here, and he said nothing.\n" * 20, "# Notes\n\nwords of mine\n"])
def test_a_text_is_not_suspected_of_running_code(tmp_path: Path, text: str) -> None:
    file = tmp_path / "model.pt"
    file.write_text(text)
    refused = pgpack("inspect", file)
    assert refused.code == 1
    assert "text, not weights" in refused.err
    assert "run code" not in refused.err


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    for name in ("model.pt", "model.safetensors", "model.pgpack"):
        file = tmp_path / name
        file.touch()
        assert "empty" in pgpack("inspect", file).err, name


def test_inspect_does_not_repeat_what_transformers_calls_its_format(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"w": np.ones((4, 4), np.float32)}, {"format": "pt", "author": "me"})
    out = succeed(pgpack("inspect", path)).out
    assert "author" in out
    assert "format" not in out


def test_attention_of_a_llama_is_analysed() -> None:
    shape = {"self_attn.o_proj.weight": (8, 8), "mlp.down_proj.weight": (8, 16), "input_layernorm.weight": (8,)}
    tensors = {f"model.layers.0.{name}": np.ones(size, np.float32) for name, size in shape.items()}
    [block] = analyze(from_tensors(tensors)).blocks
    assert (block.attn_norm, block.mlp_norm) == (8.0, pytest.approx(np.sqrt(128)))


def test_a_short_help_is_a_whole_sentence() -> None:
    out = succeed(pgpack("cache", "--help")).out
    assert "..." not in out.partition("Commands:")[2].partition("Examples:")[0]


@pytest.mark.parametrize(("n", "said"), [(0, "0 artifacts"), (1, "1 artifact"), (2, "2 artifacts")])
def test_a_bar_counts_in_the_plural(n: int, said: str) -> None:
    with progress_bar(None, "artifact", "searching", quiet=False) as bar:
        bar.update(n)
        assert str(bar).startswith(f"searching: {said} after ")


DROPPED = """
    import signal, sys, time, click
    from pgpack_cli.screen.output import run

    class Leaving:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)  # as when Ctrl-C comes while libraries let go of their objects

    @click.command()
    def command():
        leaving = Leaving()
        del leaving
        time.sleep(60)
        print("went on")

    sys.argv = ["pgpack"]
    run(command, "pgpack")
"""


def test_a_ctrl_c_that_python_drops_still_ends_the_command() -> None:
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DROPPED)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.strip() == "interrupted"
    assert time.monotonic() - started < 55


def test_every_program_says_where_its_flags_stand() -> None:
    assert "stand behind it" in pgtrain("--json", "ls").err


def test_on_a_terminal_work_of_unknown_length_is_named_before_it_moves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(None, "artifact", "searching", quiet=False):
        assert "searching: 0 artifacts after" in capsys.readouterr().err
