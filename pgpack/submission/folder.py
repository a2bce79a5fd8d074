"""Everything measured of a submission, and the files that it becomes (FOLDER.md).

    runs, code files, decoder --files--> name -> bytes --write_folder--> DIR

A folder appears whole or not at all: it is made beside DIR and renamed. Refuses a DIR that exists, a total above the
budget, two runs of one seed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pgpack.errors import SubmissionError

TRAIN, DECODE, REQUIREMENTS = "train_gpt.py", "decode.py", "requirements.txt"


def write_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder whole: it is made beside its place and renamed.

    Raises SubmissionError when something is there already, OSError when the disk refuses.
    """
    require_new(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        made.chmod(0o755)
        for name, data in files.items():
            (made / name).write_bytes(data)
        if directory.is_dir():
            directory.rmdir()  # empty, as `require_new` has seen; anything written since is kept by this failing
        os.rename(made, directory)
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(made)


def require_new(directory: Path) -> None:
    """Raises SubmissionError unless `directory` is not there, or empty."""
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise SubmissionError(f"{directory} exists and is not an empty folder; give another --submission DIR")
