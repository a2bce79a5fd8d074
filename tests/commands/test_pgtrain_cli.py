"""The pgtrain command: answers quickly, refuses clearly, runs end to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pgpack_cli.pgtrain_app import VERBS, app
from pgpack_cli.screen.output import run

from pgpack.errors import PgpackError

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--layers",
    "2",
    "--dim",
    "16",
    "--heads",
    "2",
    "--kv-heads",
    "1",
    "--seq-len",
    "32",
    "--batch-tokens",
    "128",
    "--steps",
    "4",
    "-q",
]
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "and",
    "runs",
    "to",
    "the",
    "old",
    "river",
    "bank",
    "again",
]


def pgtrain(*arguments: object) -> str:
    """Standard output of a command that must succeed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards made by the command from sixty short documents."""
    folder = tmp_path_factory.mktemp("cli")
    documents = [
        " ".join(WORDS[(i * k + k) % len(WORDS)] for k in range(120)) + f". Document {i}." for i in range(60)
    ]
    (folder / "docs.txt").write_text("\n\0\n".join(documents), encoding="utf-8")
    pgtrain("data", folder / "docs.txt", "-o", folder / "text", "--vocab-size", 310, "--val-fraction", 0.2, "-q")
    return folder / "text"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)])
def test_help_never_loads_torch(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom pgpack_cli.pgtrain_app import app\n"
        f"app.main({arguments!r}, prog_name='pgtrain', standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'sentencepiece'} & set(sys.modules), 'help is not allowed to load them'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if arguments[-1] == "--help" and len(arguments) > 1:
        assert "Example" in done.stdout


def test_dry_run_prints_the_plan_without_torch(text: Path, tmp_path: Path) -> None:
    arguments = ["run", "--data", str(text), "-o", str(tmp_path / "m.safetensors"), "--dry-run", "--json", *SMALL]
    program = (
        "import sys\nfrom pgpack_cli.pgtrain_app import app\n"
        f"app.main({arguments!r}, prog_name='pgtrain', standalone_mode=False)\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["tokens_seen"] == 4 * 128
    assert plan["model"]["vocab_size"] == 310
    assert plan["parameters"] > 310 * 16
    assert not (tmp_path / "m.safetensors").exists()


def test_from_text_to_bits_per_byte(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    trained = json.loads(pgtrain("run", "--data", text, "-o", out, "--json", *SMALL))
    measured = json.loads(pgtrain("eval", out, "--json", "-q"))
    assert measured["bpb"] == pytest.approx(trained["bpb"], rel=1e-6)
    assert (trained["steps"], trained["tokens"], trained["resumed_from"]) == (4, 512, 0)
    assert measured["n_text_bytes"] > measured["n_tokens"] > 100
    assert len(measured["digest"]) == 64
    assert "bpb" in pgtrain("eval", out, "--max-tokens", 64)
    with pytest.raises(PgpackError, match="too few for one window of 32"):
        pgtrain("eval", out, "--max-tokens", 2)


def test_nothing_is_overwritten_without_force(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"precious")
    command = ["run", "--data", str(text), "-o", str(out), *SMALL]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert out.read_bytes() == b"precious"
    again = CliRunner().invoke(app, ["data", "-o", str(text)])
    assert again.exit_code == 2
    pgtrain(*command, "--force")
    assert out.read_bytes() != b"precious"


def test_ctrl_c_exits_5_and_the_same_command_finishes(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pgtrain.training.train import Trainer

    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    pgtrain("run", "--data", text, "-o", whole, *SMALL)
    step = Trainer._step

    def step_then_interrupt(self, progress, clock):
        row = step(self, progress, clock)
        if row.step == 2:
            signal.raise_signal(signal.SIGINT)
        return row

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step_then_interrupt)
        patch.setattr(sys, "argv", ["pgtrain", "run", "--data", str(text), "-o", str(parts), *SMALL])
        with pytest.raises(SystemExit) as exit_:
            run(app, "pgtrain")
    assert exit_.value.code == 5
    assert "repeat the same command" in capsys.readouterr().err
    resumed = json.loads(pgtrain("run", "--data", text, "-o", parts, "--json", *SMALL))
    assert resumed["resumed_from"] == 2
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["eval", "missing.safetensors"], 1, "missing.safetensors does not exist"),
        (["data", "missing.txt", "-o", "out"], 1, "missing.txt does not exist"),
        (["run", "--data", "missing", "-o", "m.safetensors"], 1, "pgtrain data -o missing"),
        (["run", "--data", "missing", "-o", "m.pt"], 2, "must end in .safetensors"),
        (["run", "--data", "missing", "-o", "m.safetensors", "--preset", "huge"], 2, "`pgtrain ls` shows all"),
        (["run", "--data", "missing", "-o", "m.safetensors", "--preset", "lane"], 2, "near it: lanes"),
        (["curve", "/bin/true", "-o", "c.svg"], 1, "holds no step"),
        (["walk"], 2, "walk"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_a_code(
    arguments: list[str], code: int, sentence: str, tmp_path: Path
) -> None:
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pgpack_cli.pgtrain_app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
