"""What a user says of a folder that is judged. Plain values; importing this loads nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FolderOptions:
    """`scorer`: FILE.py:score, which may learn while it scores; `documents` are claimed to be apart; `stride` of a
    sliding window in tokens; `strict` refuses warnings; `only`: ids of the rules that are judged, none for all.
    Units: `timeout_s` seconds per decode."""

    scorer: str | None = None
    documents: bool = False
    stride: int | None = None
    strict: bool = False
    only: tuple[str, ...] = ()
    timeout_s: float = 600.0
