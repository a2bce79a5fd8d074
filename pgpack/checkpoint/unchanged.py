"""Files that are read a tensor at a time stay what they were when reading began, or the work stops.

    path --identity--> reading ... --same identity before and after, same contents as before--> array, or InputChanged

Digests, cache keys and the packed weights of one run come of one reading or of readings that agree. Owns the check;
what is read and how is the caller's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import InputChanged

Load = Callable[[str], NDArray[Any]]
Identity = tuple[int, ...]


def _identity(path: Path) -> Identity | None:
    """What tells a file from another in its place: device, number, size, time of change; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Unchanged:
    """What `files` were when this was made."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = {path: _identity(path) for path in files}

    def check(self) -> None:
        """Raises InputChanged when a file is another one, or gone."""
        for path, was in self.files.items():
            if _identity(path) != was:
                raise InputChanged(
                    f"{path} was replaced, changed or cut while it was read; nothing is made of two versions: "
                    "run the same command again once it stays as it is"
                )

    def watched(self, load: Load) -> Load:
        """`load`, which raises InputChanged where a file changed meanwhile or a key gives other contents than before.

        Contents are compared by CRC-32: changes, not attacks, are looked for.
        """
        seen: dict[str, int] = {}

        def read(key: str) -> NDArray[Any]:
            self.check()
            try:
                array = load(key)
            except Exception:
                self.check()  # a file that was cut fails in many ways
                raise
            self.check()
            found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            if seen.setdefault(key, found) != found:
                raise InputChanged(f"{key} of {', '.join(map(str, self.files))} reads differently than before")
            return array

        return read
