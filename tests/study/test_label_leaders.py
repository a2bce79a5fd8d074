"""A label's leader seems to be of every point that it touches, so that it keeps off all but its own."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from pgpack.study.labels import Label, Placer


@pytest.mark.parametrize(("right", "up"), [(1, 1), (-1, -1), (-1, 1), (1, -1)])
def test_a_leader_keeps_off_the_points_that_are_not_its_own(right: int, up: int) -> None:
    """Points all around, with a gap towards one corner whose nearest place is covered."""
    figure = Figure(figsize=(8, 6), dpi=100)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    own = axes.transData.transform((0.5, 0.5))
    angles = np.radians(np.arange(0, 360, 6))
    around = 32 * np.column_stack([np.cos(angles), np.sin(angles)])
    gap = np.array([right, up]) / np.sqrt(2)
    around = around[around @ gap < 32 * np.cos(np.radians(25))]
    dots = own + np.array([(0.0, 0.0), *around, (60.0 * right, 20.0 * up)])
    placed = Placer(axes, dots, []).place(Label(0.5, 0.5, "sdclip-brotli", "#000000"))
    assert placed is not None
    leader = np.array(placed.xyann) * 100 / 72
    for dot in dots[1:]:
        offset = dot - own
        share = np.clip(offset @ leader / (leader @ leader), 0, 1)
        assert np.hypot(*(offset - share * leader)) > 5
