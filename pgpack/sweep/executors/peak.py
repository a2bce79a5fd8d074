"""The most memory that this process holds during a piece of work, where the system tells (Linux).

Writing 5 into /proc/self/clear_refs sets the high-water mark back, so that each trial has one of its own.
"""

from __future__ import annotations

from pathlib import Path

PROCESS = Path("/proc/self")


def begin_peak(process: Path = PROCESS) -> bool:
    """Set the mark back; whether that worked, without which `peak_bytes` is not of this work alone."""
    try:
        (process / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes(process: Path = PROCESS) -> int | None:
    """Resident bytes at the peak since the mark was set back; None where nobody says."""
    try:
        lines = (process / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found and found[0].isdigit() else None
