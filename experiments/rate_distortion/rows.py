"""One measured point of a rate-distortion curve, and the file that keeps them.

A point that the file holds is not measured again, so that a bench goes on where it was stopped. The key names all
that a figure depends on: checkpoint, text, program version, curve and dial.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import StudyError
from pgpack.study.frontier import bd_rate
from pgpack.version import __version__


@dataclass(frozen=True)
class Row:
    """One point. Units: bytes of the file; nats per token (`kl`, to the fp32 model); seconds.

    `mse`: squared error of all matrices over their squared norm. `recipe`: what was packed, or the peer's settings.
    """

    curve: str
    dial: float
    n_bytes: int
    mse: float
    kl: float
    bpb: float
    quantize_s: float
    encode_s: float
    decode_s: float
    recipe: str


class Rows:
    """The rows of one checkpoint, in a file of JSON lines. `scope`: digests of checkpoint and text."""

    def __init__(self, path: Path, scope: str) -> None:
        self.path, self.scope = path, f"{scope} {__version__}"
        self.held: dict[tuple[str, float], Row] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                found = json.loads(line)
                if found.pop("scope") == self.scope:
                    row = Row(**found)
                    self.held[row.curve, row.dial] = row

    def measured(self, curve: str, dial: float, measure: Callable[[], Row]) -> Row:
        """The row of this point, measured if it is not there yet."""
        if (curve, dial) not in self.held:
            row = measure()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"scope": self.scope, **dataclasses.asdict(row)}) + "\n")
            self.held[curve, dial] = row
        return self.held[curve, dial]


def rate(anchor: Sequence[Row], test: Sequence[Row], metric: str) -> float | None:
    """BD-rate of `test` against `anchor` in percent, None where the curves do not overlap."""

    def curve(rows: Sequence[Row]) -> NDArray[np.float64]:
        return np.array([(row.n_bytes, getattr(row, metric)) for row in rows], np.float64).reshape(-1, 2)

    try:
        return bd_rate(curve(anchor), curve(test), "bpb" if metric == "bpb" else "kl").percent
    except StudyError:
        return None
