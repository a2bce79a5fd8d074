"""Files that tools leave behind: what Python keeps in __pycache__ and git in .git. Anything else there is a file."""

from __future__ import annotations

import re
import zlib

CACHES = ("__pycache__", ".git")
COMPILED_BYTES = 1 << 20  # of one compiled module
_SOURCE = re.compile(r"^(.*?)\.[\w-]+(?:\.opt-\d)?\.pyc$")
_OBJECT = re.compile(r"objects/[0-9a-f]{2}/[0-9a-f]{38,}$")
_OBJECTS = (b"blob ", b"tree ", b"commit ", b"tag ")
_GIT = (b"PACK\x00\x00\x00", b"\xfftOc", b"DIRC", b"RIDX", b"CGPH", b"MIDX")  # packs, their indices, the index


def is_in_cache(name: str) -> bool:
    """Whether a file lies in a folder of that kind."""
    return any(part in CACHES for part in name.split("/")[:-1])


def source_of(name: str) -> str:
    """The file that __pycache__ keeps compiled under this name, '' when it is none."""
    folder, _, base = name.rpartition("__pycache__/")
    found = _SOURCE.match(base)
    return f"{folder}{found[1]}.py" if found else ""


def is_left_by_tool(name: str, head: bytes, n_bytes: int, has_source: bool) -> bool:
    """Whether a file in a cache is what the tool leaves there, by its first bytes."""
    if "__pycache__" in name.split("/"):
        return has_source and head[2:4] == b"\r\n" and n_bytes <= COMPILED_BYTES
    if head.startswith(_GIT):
        return True
    try:
        start = zlib.decompressobj().decompress(head, 16) if _OBJECT.search(name) else b""
    except zlib.error:
        return False
    return start.startswith(_OBJECTS)
