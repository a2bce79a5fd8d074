"""No name of a file reaches a terminal as a control sequence, and what a stranger's file may take is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pgpack.tables import escaped, escaped_lines, table
from tests.commands.workshop import pgpack
from tests.hostile.artifacts import ATTACKS
from tests.hostile.crafting import constant

RED, BACKWARDS = "\x1b[31mred", "a\u202eb"


def test_what_steers_a_terminal_is_escaped_and_letters_are_not() -> None:
    assert escaped("é 漢 \U0001f600") == "é 漢 \U0001f600"
    assert escaped(RED + "\x9b2J\x7f\n") == r"\x1b[31mred\x9b2J\x7f\n"
    assert escaped(BACKWARDS + "\u2028\udc80") == r"a\u202eb\u2028\udc80"
    assert escaped_lines("a\tb\nc\x07") == "a\tb\nc\\x07"


def test_columns_line_up_by_what_is_shown() -> None:
    lines = table(("name", "n"), [(RED, 1), ("plain", 22)]).splitlines()
    assert lines == ["name          n", r"\x1b[31mred   1", "plain        22"]


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_checkpoint_with_such_names_is_listed_without_them(flags: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({RED: np.ones((4, 4), np.float32), BACKWARDS: np.ones(3, np.float32)}, path, {"note": "\x1b[2J"})
    done = pgpack("inspect", path, *flags)
    assert done.code == 0
    assert not {"\x1b", "\u202e"} & set(done.out + done.err)
    assert "1b[31mred" in done.out


def test_such_a_name_is_not_packed_and_the_sentence_says_which(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({RED: np.ones((4, 4), np.float32)}, path)
    done = pgpack("pack", path, "--recipe", "*=cast", "-o", tmp_path / "m.pgpack")
    assert done.code != 0
    assert r"\x1b[31mred" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "m.pgpack").exists()


@pytest.mark.parametrize("verb", ["verify", "inspect", "unpack"])
@pytest.mark.parametrize("rule", ["names", "digest", "output"])
def test_every_command_refuses_with_exit_4_and_one_sentence(verb: str, rule: str, tmp_path: Path) -> None:
    path, out = tmp_path / "a.pgpack", tmp_path / "o.npz"
    path.write_bytes(next(iter(ATTACKS[rule].values()))())
    done = pgpack(verb, path, *(("-o", out) if verb == "unpack" else ()))
    assert done.code == 4
    assert "Traceback" not in done.err
    assert "\x1b" not in done.out + done.err
    assert not out.exists()


def test_max_bytes_lets_a_file_through(tmp_path: Path) -> None:
    path = tmp_path / "a.pgpack"
    path.write_bytes(constant([1 << 12, (1 << 12) + 1], 1 << 30))
    assert "--max-bytes" in pgpack("inspect", path).err
    assert pgpack("inspect", path, "--max-bytes", "1GB").code == 0
