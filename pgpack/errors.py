"""The error tree. Every failure that a user can cause is one of these; its message is one clear sentence.

    PgpackError                    exit code 1
    +-- SettingError               2  a field or a value that settings do not have
    +-- RecipeError                2  the recipe text or table is wrong
    |   +-- CoverageError          2  a rule matches nothing, or a tensor has no rule
    +-- CheckpointError            1  a checkpoint cannot be read as tensors
    +-- CalibrationError           1  calibration is missing, incomplete or does not fit
    +-- DataError                  1  shards, tokenizers and text that do not hold what they must
    +-- ToolMissing                1  an external program or optional package is not installed
    +-- InputChanged               1  a file was replaced or cut while it was read; stops the whole run
    +-- StudyError                 1  a study directory that cannot be continued or read
    +-- SubmissionError            1  a submission folder cannot be made from what was given
    +-- WorkersLost                5  what measured trials is gone for now; the same command goes on later
    +-- BudgetExceeded             3  nothing fits the byte budget
    +-- RoundTripError             4  decode(encode(x)) != x: a bug in pgpack, never the user's fault
    +-- FormatError                4  bytes that are not a well-formed artifact
        +-- NoArtifact             1  no artifact at all: a folder, a device, a checkpoint, another kind of file
        +-- CorruptArtifact        4  integrity check failed
        +-- TruncatedArtifact      4  the file ends before its declared length
        +-- UnsupportedVersion     4  written by another format version

Exit codes are a table in the command line (`cli/screen/output.py`); libraries only raise.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "free some space{room} and repeat the same command",
    errno.EDQUOT: "free some of your quota{room} and repeat the same command",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and repeat the same command",
    errno.EROFS: "give a directory on a file system that is not read-only",
    errno.ENOLCK: "give a directory on a file system that has locks",
}
_DENIED = (errno.EACCES, errno.EPERM)


class PgpackError(Exception):
    """Root of all errors that pgpack raises on purpose."""

    exit_code = 1


class SettingError(PgpackError):
    exit_code = 2


class RecipeError(PgpackError):
    exit_code = 2


class CoverageError(RecipeError):
    pass


class CheckpointError(PgpackError):
    pass


class CalibrationError(PgpackError):
    pass


class DataError(PgpackError):
    pass


class ToolMissing(PgpackError):
    pass


class InputChanged(PgpackError):
    pass


class StudyError(PgpackError):
    pass


class SubmissionError(PgpackError):
    pass


class WorkersLost(PgpackError):
    exit_code = 5


class BudgetExceeded(PgpackError):
    """`smallest`: bytes of the smallest artifact that was found, where one was."""

    exit_code = 3

    def __init__(self, message: str, smallest: int | None = None) -> None:
        super().__init__(message)
        self.smallest = smallest


class RoundTripError(PgpackError):
    exit_code = 4


class FormatError(PgpackError):
    exit_code = 4


class NoArtifact(FormatError):
    """What is named is no artifact at all: a folder, a device, a checkpoint, another kind of file."""

    exit_code = 1


class CorruptArtifact(FormatError):
    pass


class TruncatedArtifact(FormatError):
    pass


class UnsupportedVersion(FormatError):
    pass


def no_file(path: Path) -> str:
    """What a path is that is no file to read, as the end of a sentence: only what is not there "does not exist"."""
    if path.is_dir():
        return "is a folder"
    if path.exists():
        return "is a pipe or a device, and a file is needed"
    return "is a link to nothing" if path.is_symlink() else "does not exist"


def remedy(error: OSError) -> str:
    """What to do about a refusal of the operating system; '' where nobody knows."""
    needed = getattr(error, "n_bytes", None)
    room = "" if needed is None else f" ({needed:,} bytes are needed)"
    if error.errno in _DENIED and isinstance(error.filename, str):
        return _let_in(Path(error.filename))
    return _REMEDIES.get(error.errno or 0, "").format(room=room)


def _let_in(path: Path) -> str:
    """Whom to ask for what where access to `path` is denied: told by what may be done there."""
    above = [folder for folder in path.absolute().parents if os.path.isdir(folder)]
    closed = next((folder for folder in reversed(above) if not os.access(folder, os.X_OK)), None)
    if closed is not None:
        return f"have the owner of {closed} let you in"
    if os.path.isfile(path) and not os.access(path, os.R_OK):
        return "have its owner let you read it"
    if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        return "have its owner change its mode"
    return "give a directory that you may write to, or have its owner change its mode"
