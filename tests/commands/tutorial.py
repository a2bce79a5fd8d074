"""The tutorial as a program: its Python is saved or run, its commands are run, and what they print is compared.

    python -m tests.commands.tutorial      writes what the commands print today into pgpack/TUTORIAL.md

What is printed differs from machine to machine in its numbers and in what a model says, so that pages are compared
by `alike`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.commands.workshop import pgpack, succeed

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "pgpack" / "TUTORIAL.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n", re.S | re.M)
NUMBER = re.compile(r"-?\b[0-9a-f]{8,16}\b|[-+]?\d[\w.,]*")
BY_CHANCE = re.compile(r"(?<=^model\.)\S+|; error feedback .*")  # which tensor is the largest, what its error means
SAID_BY_A_MODEL = ("pgpack generate", "pgpack compare")


def played(text: str, home: Path) -> str:
    """The tutorial with what its commands print, run in `home`, where it finds pgpack's documents."""
    for path in (ROOT / "pgpack").glob("**/*.md"):
        copy = home / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path != TUTORIAL:  # or what it prints would depend on itself
            shutil.copy(path, copy)
    place = [home]

    def answer(block: re.Match[str]) -> str:
        kind, body = block.groups()
        if kind == "python":
            if body.startswith('"""'):
                (place[0] / "train.py").write_text(body)
                return block[0]
            asked, _, _ = body.partition("\n# ")
            said = _run([sys.executable, "-c", asked], place[0])
            printed = "".join(f"# {line}" for line in said.splitlines(keepends=True))
            return f"```python\n{asked.rstrip()}\n{printed}```\n"
        commands = [line for line in body.splitlines() if line.startswith("$ ")]
        printed = "".join(line + "\n" + _step(line[2:], place) for line in commands)
        return f"```sh\n{printed}```\n"

    return BLOCK.sub(answer, text)


def _step(line: str, place: list[Path]) -> str:
    """What a line of the shell prints; `place` is where it is. Commands of pgpack run in this process, which has
    loaded torch once."""
    word, *rest = shlex.split(line)
    if word == "cd":
        place[0] = place[0] / rest[0]
        return ""
    if word == "pgpack":
        with contextlib.chdir(place[0]):
            return _neat(succeed(pgpack(*rest)).out)
    return _run(["sh", "-c", line], place[0])


def _run(command: list[str], place: Path) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        command, cwd=place, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return _neat(done.stdout)


def _neat(said: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in said.splitlines())


def alike(text: str) -> list[list[str]]:
    """The blocks of a tutorial, each as its sorted lines without numbers, digests, columns, or a model's words."""
    blocks = []
    for _, body in BLOCK.findall(text):
        first = body.partition("\n")[0].removeprefix("$ ")
        lines = [first] if first.startswith(SAID_BY_A_MODEL) else body.splitlines()
        blocks.append(sorted(" ".join(NUMBER.sub("#", BY_CHANCE.sub("", line)).split()) for line in lines))
    return blocks


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        TUTORIAL.write_text(played(TUTORIAL.read_text(encoding="utf-8"), Path(home)), encoding="utf-8")
