"""A program that is ended from outside puts away what it laid aside, and tells its caller which signal ended it."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HOLDING = """
    import sys, time, click
    from pathlib import Path
    from pgpack.files import alone, replacing
    from pgpack_cli.screen.output import run

    @click.command()
    def command():
        out = Path({out!r})
        with alone(out), replacing(out):
            print("holding", flush=True)
            time.sleep(60)

    sys.argv = ["pgpack"]
    run(command, "pgpack")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_it_leaves_nothing_behind(number: int, code: int, tmp_path: Path) -> None:
    out = tmp_path / "new" / "m.pgpack"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDING.format(out=str(out)))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "holding\n"
        assert list(out.parent.iterdir())
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stderr.read().strip() == "interrupted"
    assert not list(tmp_path.iterdir())


def test_a_signal_that_the_caller_has_it_ignore_stays_ignored(tmp_path: Path) -> None:
    out = tmp_path / "m.pgpack"
    code = "import os, signal; signal.signal(1, signal.SIG_IGN)\n" + textwrap.dedent(
        HOLDING.format(out=str(out))
    ).replace("time.sleep(60)", "os.kill(os.getpid(), 1)")
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0
