"""torch.save streams in one piece."""

from __future__ import annotations

from typing import Any

from pgpack.formats.torch_files.stream import pieces


def save(value: dict[str, Any]) -> bytes:
    """The stream of a dictionary."""
    return b"".join(pieces(value))
