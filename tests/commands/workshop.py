"""Running commands as a shell would see them: exit code, stdout, stderr."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import click
from pgpack_cli.pgpack_app import app as pgpack_app
from pgpack_cli.pgtrain_app import app as pgtrain_app
from pgpack_cli.screen.output import run

# What the model of the session's fixture is, in Python: `pgtrain run` with the sizes of conftest.
CONFIG = "GPTConfig(vocab_size=310, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1, mlp_mult=3, seq_len=32)"


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def _shell(app: click.Command, name: str, arguments: tuple[object, ...]) -> Finished:
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [name, *(str(argument) for argument in arguments)]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run(app, name)
    except SystemExit as exit_:
        code = exit_.code
    finally:
        sys.argv = argv
    assert isinstance(code, int)
    return Finished(code, out.getvalue(), err.getvalue())


def pgpack(*arguments: object) -> Finished:
    """`pgpack ARGUMENTS`, whatever happens."""
    return _shell(pgpack_app, "pgpack", arguments)


def pgtrain(*arguments: object) -> Finished:
    """`pgtrain ARGUMENTS`, whatever happens."""
    return _shell(pgtrain_app, "pgtrain", arguments)


def succeed(finished: Finished) -> Finished:
    """The command, which must have succeeded."""
    assert finished.code == 0, finished.out + finished.err
    return finished
