"""A count in a calibration file of a stranger: of too many digits, or digits that are no numbers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pgpack.calibration.calibration import load_calibration


@pytest.mark.parametrize(("said", "n"), [("12", 12), ("9" * 5000, 0), ("\u00b2", 0), ("-1", 0), ("1e3", 0)])
def test_a_calibration_whose_count_is_no_number_counts_nothing(said: str, n: int, tmp_path: Path) -> None:
    header = b'{"__metadata__":{"n_tokens":"%s"},"w.fisher":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    text = header % said.encode()
    (tmp_path / "c.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + struct.pack("<f", 1))
    assert load_calibration(tmp_path / "c.safetensors").n_tokens == n
