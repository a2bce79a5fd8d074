"""Pictures are read by every eye, and without colour."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pgpack.picture import COLOURS
from pgpack.study.plot import BEST, LINES, MARKERS


def luminance_distances(matrix: list[list[float]]) -> list[float]:
    """CIE 1976 distances of the pictures' colours as an eye sees them that `matrix` describes.
    Source: Machado, Oliveira, Fernandes 2009, severity 1."""

    def seen(colour: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        red, green, blue = np.clip(np.array(matrix) @ linear, 0, 1)
        x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
        y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
        fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
        return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])

    pairs = itertools.combinations([BEST, *COLOURS[:2]], 2)  # the star, a study and its peer
    return [float(np.linalg.norm(seen(a) - seen(b))) for a, b in pairs]


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    ],
    ids=["all cones", "protanopia", "deuteranopia", "tritanopia"],
)
def test_colours_of_star_study_and_peer_differ_for_every_eye(matrix: list[list[float]]) -> None:
    assert min(luminance_distances(matrix)) > 30


def test_curves_differ_without_colour() -> None:
    """Of six curves no two have both marker and line in common."""
    assert len({(MARKERS[n], str(LINES[n])) for n in range(6)}) == 6
