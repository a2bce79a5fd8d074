"""Bytes of every tensor in every artifact of a study: DIR/tensors.jsonl, beside the journal.

    {"names": ["blocks.0.attn.c_q.weight", ...]}     the tensors that the next rows are of
    {"key": "...", "n_bytes": [31414, ...]}          a trial's artifact; what is in no tensor is left out

Owns the file. Refuses nothing: it serves a page, and a study without it, or with a torn line, is whole. It is written
by the process that holds the journal's lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pgpack.files import refusing

TENSORS_FILE = "tensors.jsonl"


class TensorBytes:
    """The file in `directory`; what is asked of it is `of`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / TENSORS_FILE
        self._names: tuple[str, ...] = ()

    def append(self, key: str, n_bytes: Mapping[str, int]) -> None:
        """Add the tensors of a trial's artifact. Raises: StudyError when the disk refuses."""
        if not n_bytes:
            return
        names = tuple(n_bytes)
        lines = [] if names == self._names else [{"names": names}]
        text = "".join(json.dumps(line) + "\n" for line in (*lines, {"key": key, "n_bytes": list(n_bytes.values())}))
        with refusing(self._path, "write it"), self._path.open("a", encoding="utf-8") as file:
            file.write(text if file.tell() == 0 or self._names else f"\n{text}")  # behind what a crash tore
        self._names = names

    def of(self) -> dict[str, dict[str, int]]:
        """Key of a trial -> name of a tensor -> its bytes; empty where nothing is kept."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        found: dict[str, dict[str, int]] = {}
        names: list[str] = []
        for line in lines:
            try:
                row = json.loads(line)
                if "names" in row:
                    names = [str(name) for name in row["names"]]
                else:
                    found[str(row["key"])] = dict(zip(names, map(int, row["n_bytes"]), strict=True))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return found
