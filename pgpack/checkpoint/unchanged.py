"""Files that are read a tensor at a time stay what they were when reading began, or the work stops.

    path --identity--> reading ... --same identity before and after, same contents as before--> array, or InputChanged

Digests, cache keys and the packed weights of one run come of one reading or of readings that agree. Owns the check of
contents (that of files is `pgpack.files.Unchanged`); what is read and how is the caller's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import InputChanged
from pgpack.files import Unchanged

Load = Callable[[str], NDArray[Any]]


def watched(load: Load, unchanged: Unchanged) -> Load:
    """`load`, which raises InputChanged where a file changed meanwhile or a key gives other contents than before.

    Contents are compared by CRC-32: changes, not attacks, are looked for.
    """
    seen: dict[str, int] = {}

    def read(key: str) -> NDArray[Any]:
        unchanged.check()
        try:
            array = load(key)
        except Exception:
            unchanged.check()  # a file that was cut fails in many ways
            raise
        unchanged.check()
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        if seen.setdefault(key, found) != found:
            raise InputChanged(f"{key} of {', '.join(map(str, unchanged.files))} reads differently than before")
        return array

    return read
