"""The memory of a trial is its own: the mark is set back before it, and nobody is believed who does not tell."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pgpack.sweep.executors.peak import begin_peak, peak_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_peak_is_of_the_work_since_the_mark() -> None:
    if not begin_peak():
        pytest.skip("this system does not set the mark back")
    np.ones(30_000_000, np.float64).sum()
    large = peak_bytes()
    assert begin_peak()
    np.ones(1_000, np.float64).sum()
    small = peak_bytes()
    assert large is not None
    assert small is not None
    assert large - small > 150_000_000


def test_without_a_word_from_the_system_nothing_is_claimed(tmp_path: Path) -> None:
    assert peak_bytes(tmp_path) is None
    assert not begin_peak(tmp_path / "gone")
    (tmp_path / "status").write_text("VmHWM:\t  123 kB\n")
    assert peak_bytes(tmp_path) == 123 * 1024
