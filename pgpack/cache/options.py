"""Where the results of earlier work lie, unless a user says otherwise."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CacheOptions:
    """What a user says about the cache. Units: limit in bytes."""

    folder: Path | None = None
    off: bool = False
    limit: int | None = None


def default_folder() -> Path | None:
    """The platform's folder for a user's caches; None for a user without a home."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pgpack"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pgpack" / "Cache"
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else home / ".cache") / "pgpack"
