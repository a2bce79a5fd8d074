"""The command to type next, as one that runs when it is pasted into a shell."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from pgpack.bench.options import BenchOptions


def pack_command(checkpoint: Path, recipe: str, text: BenchOptions | None = None) -> str:
    """`pgpack pack` of what was written to `checkpoint`, into NAME.pgpack beside it, with the text that was named.

    `text`: flags of the command that wrote it; those of what it was made from are left out, for it is merged.
    """
    out = (
        checkpoint.with_suffix(".pgpack") if checkpoint.suffix else checkpoint.with_name(f"{checkpoint.name}.pgpack")
    )
    made = shlex.join(["pgpack", "pack", str(checkpoint), "--recipe", recipe, "-o", str(out)])
    flags = dataclasses.replace(text or BenchOptions(), base=None, key=None, calibration=None).as_flags()
    return f"{made} {flags}".rstrip()
