"""Laws of the pictures of an anatomy: kinds add up to the file, names keep apart, words say what is drawn."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pgpack.inspect import Anatomy, TensorAnatomy
from pgpack.picture import apart, figure_bytes
from pgpack.report.anatomy_plot import (
    MAX_KINDS,
    MAX_LINES,
    depth_figure,
    depth_words,
    depths_of,
    kinds_figure,
    kinds_of,
    kinds_title,
    kinds_words,
)

PARTS = {"attn.c_q": 2.0, "attn.proj": 2.01, "mlp.fc": 3.0, "mlp.proj": 3.01}


def an_anatomy(n_layers: int = 6, loss_unit: str = "nats per token") -> Anatomy:
    loss = 0.1 if loss_unit else None
    tensors = [TensorAnatomy("tok_emb.weight", (64, 32), 1000, loss)]
    for layer in range(n_layers):
        for part, bits in PARTS.items():
            n_bytes = int(bits * 64 * 64 / 8 + layer)
            tensors.append(TensorAnatomy(f"blocks.{layer}.{part}.weight", (64, 64), n_bytes, loss))
    return Anatomy("0" * 64, 50 + sum(t.n_bytes for t in tensors), tuple(tensors), (), loss_unit)


def test_kinds_hold_every_tensor_once_and_what_is_small_is_one_kind() -> None:
    found = an_anatomy()
    kinds = kinds_of(found)
    assert sum(kind.n_bytes for kind in kinds) == sum(t.n_bytes for t in found.tensors)
    assert sum(kind.loss or 0.0 for kind in kinds) == pytest.approx(0.1 * len(found.tensors))
    many = tuple(TensorAnatomy(f"t{n}.weight", (8, 8), 10 + n) for n in range(40))
    kinds = kinds_of(Anatomy("", 2000, many, ()))
    assert len(kinds) == MAX_KINDS
    assert kinds[-1].name == f"{40 - MAX_KINDS + 1} smaller kinds"
    assert sum(kind.numel for kind in kinds) == 40 * 64


def test_a_line_is_the_bits_of_its_kind_layer_by_layer() -> None:
    found = an_anatomy()
    lines = depths_of(found)
    assert list(lines) == list(PARTS)
    (axes,) = depth_figure(found).axes
    for line, points in zip(axes.lines, lines.values(), strict=False):
        assert [tuple(point) for point in line.get_xydata().tolist()] == points
    assert axes.get_title(loc="left")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "bits per weight")


@pytest.mark.parametrize("n_kinds", [7, 12])
def test_every_kind_over_depth_has_a_line_of_its_own_look_or_is_said_to_have_none(n_kinds: int) -> None:
    tensors = [
        TensorAnatomy(f"layers.{layer}.part{kind}.weight", (64, 64), 900 + 40 * kind, None)
        for layer in range(3)
        for kind in range(n_kinds)
    ]
    found = Anatomy("", 2000 * len(tensors), tuple(tensors), ())
    (axes,) = depth_figure(found).axes
    drawn = [line for line in axes.lines if str(line.get_label()).startswith("part")]
    assert len(drawn) == len(depths_of(found)) == min(n_kinds, MAX_LINES)
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn}
    assert len(looks) == len(drawn)
    dotted = {str(line.get_label()) for line in drawn if line.get_linestyle() == ":"}
    names = {text.get_text() for text in axes.texts}
    assert {f"{name} (dotted)" for name in dotted} == {name for name in names if "dotted" in name} != set()
    left_out = n_kinds - len(drawn)
    said = f"{left_out} smaller kinds are not drawn" if left_out else ""
    assert (said in depth_words(found), said in " ".join(text.get_text() for text in axes.texts)) == (True, True)
    assert ("not drawn" in depth_words(found)) == bool(left_out)


@pytest.mark.parametrize("width", [10.0, 3.7])
def test_names_at_the_ends_of_lines_keep_apart_and_inside(width: float) -> None:
    figure = depth_figure(an_anatomy(), "", width)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(PARTS) + 1
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    assert all(box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)


@pytest.mark.parametrize(("unit", "n_series"), [("nats per token", 2), ("", 1), ("relative squared error", 1)])
def test_bars_of_loss_are_there_where_losses_are(unit: str, n_series: int) -> None:
    found = an_anatomy(loss_unit=unit)
    (axes,) = kinds_figure(found, kinds_title(found)).axes
    assert len(axes.containers) == n_series
    assert ("Loss" in axes.get_title(loc="left")) == (n_series == 2)
    assert ("loss" in kinds_words(found)) == (n_series == 2)
    shares = [bar.get_width() for bar in axes.containers[0]]  # type: ignore[attr-defined]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_words_and_pictures_are_there_without_layers_too() -> None:
    found = Anatomy("", 90, (TensorAnatomy("w", (4, 4), 40),), ())
    assert depths_of(found) == {}
    assert isinstance(kinds_figure(found, ""), Figure)
    assert "attn.c_q: 2.00 bits in layer 0, 2.01 in layer 5" in depth_words(an_anatomy())


def test_an_svg_bears_its_title_and_its_words_and_a_png_too() -> None:
    figure = kinds_figure(an_anatomy(), "a < b")
    root = ET.fromstring(figure_bytes(figure, ".svg", title="a < b", description="c & d"))
    assert root.get("role") == "img"
    assert [(child.tag.rpartition("}")[2], child.text) for child in root][:2] == [
        ("title", "a < b"),
        ("desc", "c & d"),
    ]
    png = figure_bytes(figure, ".png", title="a < b", description="c & d")
    assert b"Title\0a < b" in png
    assert b"Description\0c & d" in png
    assert b"<desc>" not in figure_bytes(figure, ".svg")


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=9).map(sorted), st.floats(0.01, 1))
def test_labels_that_are_moved_apart_keep_their_order_and_their_middle(wanted: list[float], gap: float) -> None:
    places = apart(wanted, gap)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(places))
    assert sum(places) == pytest.approx(sum(wanted))
    if all(b - a > gap + 1e-9 for a, b in itertools.pairwise(wanted)):
        assert places == pytest.approx(wanted)
