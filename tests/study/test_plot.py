"""Laws of pictures: what matters is in view and nothing is left out, the best point is the most visible, labels keep
apart and their leaders do not cross, equal input gives equal bytes."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from pgpack.errors import StudyError
from pgpack.picture import figure_bytes
from pgpack.study.chart_view import ChartView, byte_unit, chart_view
from pgpack.study.comparison import half_width
from pgpack.study.frontier import Front, Metric, pareto
from pgpack.study.labels import crosses
from pgpack.study.names import names_of, peers_of
from pgpack.study.pictured import Curve, FrontierPicture
from pgpack.study.plot import BEST_SIZE, frontier_figure, frontier_svg, write_picture
from pgpack.study.trial import Trial
from tests.fronts import best_under
from tests.synthetic_study import FP32_BPB, N_WEIGHTS, synthetic_meta, synthetic_trials

ROOT = Path(__file__).resolve().parents[2]
BUDGET = synthetic_meta().budget
TRIALS = synthetic_trials()
PICTURE = FrontierPicture(
    (Curve("seed 0", TRIALS), Curve("seed 1", synthetic_trials(1, scale=1.12))),
    "Frontier of model.safetensors",
    budget=BUDGET,
    fp32_bpb=FP32_BPB,
    fp32_n_bytes=4 * N_WEIGHTS,
)
ONE = dataclasses.replace(PICTURE, curves=PICTURE.curves[:1])


def a_trial(n_bytes: int, bpb: float, kl: float | None = None) -> Trial:
    return dataclasses.replace(TRIALS[0], n_bytes=n_bytes, bpb=bpb, kl=kl)


def is_inside(view: ChartView, n_bytes: float, loss: float) -> bool:
    return view.x[0] <= n_bytes <= view.x[1] and view.y[0] <= loss <= view.y[1]


clouds = st.lists(
    st.builds(a_trial, st.integers(1, 10**8), st.floats(0.5, 9), st.none() | st.floats(1e-7, 9)),
    min_size=1,
    max_size=12,
)


@given(clouds, st.none() | st.integers(1, 10**8), st.none() | st.floats(0.5, 2))
def test_the_best_point_and_the_lines_are_in_view_and_the_rest_is_at_the_edge(
    trials: list[Trial], budget: int | None, fp32_bpb: float | None
) -> None:
    view = chart_view(Front(tuple(trials), "bpb", budget), fp32_bpb)
    assert view is not None
    best = best_under(trials, budget, "bpb")
    if best is not None:
        assert is_inside(view, best.n_bytes, best.bpb)
    assert budget is None or view.x[0] <= budget <= view.x[1]
    assert fp32_bpb is None or view.y[0] <= fp32_bpb <= view.y[1]
    points = np.array([(t.n_bytes, t.bpb) for t in trials])
    assert view.holds(points).tolist() == [is_inside(view, *point) for point in points]
    held = view.held(points)
    assert all(is_inside(view, *point) for point in held)
    assert (held[view.holds(points)] == points[view.holds(points)]).all()


@given(clouds)
def test_the_kl_view_is_logarithmic_and_holds_its_frontier(trials: list[Trial]) -> None:
    view = chart_view(Front(tuple(trials), "kl", None), None)
    with_kl = [t for t in trials if t.kl is not None]
    assert (view is None) == (not with_kl)
    if view is not None:
        best = best_under(with_kl, None, "kl")
        assert view.log_y
        assert best is not None
        assert is_inside(view, best.n_bytes, best.kl)


def test_losses_far_above_the_frontier_do_not_squash_the_view() -> None:
    near = chart_view(Front(tuple([t for t in TRIALS if t.ok and t.bpb < 1.4]), "bpb", BUDGET), FP32_BPB)
    everything = chart_view(Front((*TRIALS, a_trial(4_000_000, 8.0)), "bpb", BUDGET), FP32_BPB)
    assert near is not None
    assert everything is not None
    assert everything.y[1] < 1.4
    assert everything.y[1] - everything.y[0] < 1.5 * (near.y[1] - near.y[0])
    assert not everything.holds(np.array([[4_000_000.0, 8.0]])).any()


@pytest.mark.parametrize(("low", "high"), [(0.11, 0.13), (0.03, 0.07), (0.02, 0.3), (0.5, 2.4), (1e-5, 0.2)])
def test_a_logarithmic_axis_of_losses_has_several_labels(low: float, high: float) -> None:
    errors = [high * (low / high) ** (i / 5) for i in range(6)]
    trials = tuple(
        dataclasses.replace(TRIALS[0], n_bytes=100_000 + 9_000 * i, kl=error, key=f"k{i}", label="")
        for i, error in enumerate(errors)
    )
    axes = frontier_figure(FrontierPicture((Curve("a", trials),), "Frontier", "kl")).axes[0]
    bottom, top = axes.get_ylim()
    inside = [text.get_text() for text in axes.get_yticklabels() if bottom <= text.get_position()[1] <= top]
    assert len(set(filter(None, inside))) >= 3


@pytest.mark.parametrize("largest", [24_000_000, 90_000_000])
def test_bytes_below_and_bits_above_have_labels_on_every_scale(largest: int) -> None:
    trials = tuple(
        dataclasses.replace(a_trial(largest // n, 1.2 + 0.01 * n, 0.01 * n), key=f"k{n}") for n in range(1, 9)
    )
    few = trials if largest > 30_000_000 else trials[:3]
    figure = frontier_figure(FrontierPicture((Curve("a", few),), "Frontier", "kl", fp32_n_bytes=144_000_000))
    figure.draw_without_rendering()
    (below, *_) = figure.axes
    (above,) = below.child_axes
    for axis, (low, high) in ((below.xaxis, below.get_xlim()), (above.xaxis, above.get_xlim())):
        shown = [tick.label1 if axis is below.xaxis else tick.label2 for tick in axis.get_major_ticks()]
        inside = [t.get_text() for t in shown if t.get_text() and low <= t.get_position()[0] <= high]
        assert len(set(inside)) >= 3


def test_wide_ranges_of_bytes_are_logarithmic() -> None:
    narrow = chart_view(Front((a_trial(1000, 1.0), a_trial(3500, 0.9)), "bpb", None), None)
    wide = chart_view(Front((a_trial(1000, 1.0), a_trial(50_000, 0.9)), "bpb", None), None)
    assert narrow is not None
    assert wide is not None
    assert (narrow.log_x, wide.log_x) == (False, True)


def test_equal_pictures_are_equal_bytes_without_a_date() -> None:
    first = frontier_svg(PICTURE)
    assert frontier_svg(PICTURE) == first
    assert "<dc:date>" not in first
    ET.fromstring(first)


def test_the_svg_names_units_lines_labels_and_studies() -> None:
    text = frontier_svg(PICTURE)
    for words in (
        "artifact size (MB = 10⁶ bytes)",
        "bits per weight",
        "bits per byte",
        "budget 16 MB",
        f"fp32 model {FP32_BPB:.4f}",
        "best: 15.",
        "pergroup-lrzip",
        "baseline-int8-zlib",
        "seed 0",
        "seed 1",
    ):
        assert words in text
    assert "outside" not in text
    kl = frontier_svg(dataclasses.replace(ONE, metric="kl"))
    assert "KL to the fp32 model (nats per token)" in kl
    assert ">fp32 model " not in kl
    assert "seed 0" not in kl
    assert "bits per weight" not in frontier_svg(dataclasses.replace(ONE, fp32_n_bytes=None))


def test_a_picture_bears_its_title_and_says_in_words_what_it_shows() -> None:
    best = ONE.whole.best
    assert best is not None
    root = ET.fromstring(frontier_svg(ONE))
    title, words = (root.find(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("title", "desc"))
    assert title is not None
    assert words is not None
    assert title.text == ONE.title
    said = words.text or ""
    assert f"{sum(t.ok for t in TRIALS)} trials, {len(pareto(TRIALS, 'bpb'))} on the frontier" in said
    assert f"Best within the budget of 16 MB: {ONE.figures(best.n_bytes or 0, best.bpb or 0)}." in said
    assert "Nothing fits the budget of 0.001 MB." in dataclasses.replace(ONE, budget=1000).words


def drawn(axes: Axes, gid: str) -> list[Line2D | PathCollection | PolyCollection]:
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]  # type: ignore[misc]


@pytest.mark.parametrize("metric", ["bpb", "kl"])
def test_the_best_point_is_the_largest_mark_and_every_trial_has_one(metric: Metric) -> None:
    (axes, *_) = frontier_figure(dataclasses.replace(PICTURE, metric=metric)).axes
    (star,) = drawn(axes, "best")
    best = dataclasses.replace(PICTURE, metric=metric).whole.best
    assert best is not None
    assert isinstance(star, Line2D)
    assert star.get_xydata().tolist() == [[best.n_bytes, getattr(best, metric)]]
    marks = [line.get_markersize() for line in axes.lines if line.get_marker() not in ("None", "")]
    assert sorted(marks)[-1] == BEST_SIZE > 3 * sorted(marks)[-2]
    view = dataclasses.replace(PICTURE, metric=metric).view
    marked = [line for line in axes.lines if line.get_linestyle() == "None" and line is not star]
    points = np.concatenate([line.get_xydata() for line in marked])  # those beyond the view are among the triangles
    n_dots = sum(len(dots.get_offsets()) for dots in axes.collections if isinstance(dots, PathCollection))
    n_trials = sum(trial.ok for curve in PICTURE.curves for trial in curve.trials)
    assert n_dots + view.holds(points).sum() == n_trials


def test_what_lies_beyond_the_scale_is_drawn_at_its_edge() -> None:
    (axes, *_) = frontier_figure(ONE).axes
    view = ONE.view
    outside = [t for t in TRIALS if t.ok and not is_inside(view, t.n_bytes or 0, t.bpb or 0)]
    edges = np.concatenate([np.asarray(edge.get_offsets()) for edge in drawn(axes, "edge")])  # type: ignore[union-attr]
    assert len(edges) == len(outside) > 0
    assert all(x in view.x or y in view.y for x, y in edges)
    assert "triangles: beyond the scale" in frontier_svg(ONE)


def leaders(axes: Axes) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    found = []
    for text in axes.texts:
        if isinstance(text, Annotation) and text.arrow_patch is not None:
            path = text.arrow_patch.get_path().vertices
            ends = text.arrow_patch.get_transform().transform(path)
            found.append((tuple(ends[0]), tuple(ends[-1])))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("metric", ["bpb", "kl"])
@pytest.mark.parametrize("n_labels", [2, 12, 40])
def test_leaders_do_not_cross(metric: Metric, n_labels: int) -> None:
    labelled = tuple(
        dataclasses.replace(t, label=t.label or f"packer {n}") if n < n_labels else t for n, t in enumerate(TRIALS)
    )
    picture = dataclasses.replace(ONE, metric=metric, curves=(Curve("s", labelled), PICTURE.curves[1]))
    figure = frontier_figure(picture)
    figure.draw_without_rendering()
    lines = leaders(figure.axes[0])
    assert len(lines) >= 3
    assert not [pair for pair in itertools.combinations(lines, 2) if crosses(*pair)]


def test_a_packer_over_its_dial_is_a_curve_with_its_name() -> None:
    dial = tuple(
        dataclasses.replace(a_trial(17_000_000 + 900_000 * n, 1.27 - 0.008 * n), key=f"d{n}", label=f"packer:{n}")
        for n in range(4)
    )
    assert list(peers_of((*TRIALS, *dial))) == ["packer"]
    picture = dataclasses.replace(ONE, curves=(Curve("s", (*TRIALS, *dial)),))
    text = frontier_svg(picture)
    assert ">packer<" in text
    assert "packer:" not in text
    (axes, *_) = frontier_figure(picture).axes
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert [[t.n_bytes, t.bpb] for t in dial] in lines


def test_names_are_words_that_tell_trials_apart() -> None:
    recipes = [
        f"ndim<=1=cast; *=tcq(step={step},states=64)|rans_scaled(states=64); @tune=steps(count=3)" for step in (1, 2)
    ]
    trials = [dataclasses.replace(TRIALS[0], recipe=text, label="") for text in (*recipes, "no recipe")]
    assert names_of(trials) == ["tcq step 1 + rans_scaled", "tcq step 2 + rans_scaled", "no recipe"]
    tuned = dataclasses.replace(trials[0], label="tuned to a budget of 600000")
    assert names_of([tuned]) == ["tuned to the budget"]
    assert len(names_of([dataclasses.replace(trials[0], recipe="x" * 500)])[0]) < 80


@pytest.mark.parametrize("metric", ["bpb", "kl"])
def test_labels_do_not_overlap_and_stay_inside_the_frame(metric: str) -> None:
    figure = frontier_figure(dataclasses.replace(PICTURE, metric=metric))  # type: ignore[arg-type]
    figure.draw_without_rendering()
    (axes, *_) = figure.axes
    boxes = [Text.get_window_extent(text) for text in (*axes.texts, axes.xaxis.label)]  # without leaders
    assert len(boxes) >= 6
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    canvas = figure.bbox
    for box in boxes:
        assert canvas.x0 <= box.x0
        assert box.x1 <= canvas.x1
        assert canvas.y0 <= box.y0
        assert box.y1 <= canvas.y1


@pytest.mark.parametrize("metric", ["bpb", "kl"])
def test_the_band_is_the_intervals_of_the_frontier_where_they_are_known(metric: Metric) -> None:
    first, *rest = pareto(TRIALS, metric)
    trials = tuple(dataclasses.replace(t, block_excess=None) if t is first else t for t in TRIALS)
    picture = FrontierPicture((Curve("s", trials),), "band", metric)
    (axes, *_) = frontier_figure(picture).axes
    (band,) = drawn(axes, "band")
    assert isinstance(band, PolyCollection)
    corners = np.concatenate([path.vertices for path in band.get_paths()])
    for trial in rest[:-1]:
        heights = corners[corners[:, 0] == trial.n_bytes][:, 1]
        width, loss = half_width(trial, metric) or 0, getattr(trial, metric)
        assert np.abs(heights - (loss - width)).min() < 1e-12
        assert np.abs(heights - (loss + width)).min() < 1e-12
    assert first.n_bytes not in corners[:, 0]
    assert "band: 95 % interval" in frontier_svg(picture)
    without = tuple(dataclasses.replace(trial, block_excess=None) for trial in TRIALS)
    assert "band:" not in frontier_svg(FrontierPicture((Curve("s", without),), "no band", metric))


def test_a_band_that_reaches_0_ends_at_the_bottom_of_a_logarithmic_axis() -> None:
    *front, last = pareto(TRIALS, "kl")
    unsure = dataclasses.replace(last, kl_se=10 * (last.kl or 0))
    picture = FrontierPicture((Curve("s", (*front, unsure)),), "unsure", "kl")
    (axes, *_) = frontier_figure(picture).axes
    (band,) = drawn(axes, "band")
    assert isinstance(band, PolyCollection)
    corners = np.concatenate([path.vertices for path in band.get_paths()])
    assert corners[:, 1].min() == pytest.approx(picture.view.y[0])


def test_small_artifacts_are_in_kilobytes() -> None:
    assert byte_unit(999_999) == (1e3, "kB")
    assert byte_unit(1_000_000) == (1e6, "MB")
    picture = FrontierPicture((Curve("s", (a_trial(250_000, 1.5),)),), "one point", budget=400_000)
    text = frontier_svg(picture)
    assert "(kB = 10³ bytes)" in text
    assert "budget 400 kB" in text


def test_files_are_written_by_suffix(tmp_path: Path) -> None:
    one = dataclasses.replace(PICTURE, curves=PICTURE.curves[:1])
    write_picture(one, tmp_path / "f.png")
    data = (tmp_path / "f.png").read_bytes()
    assert data == figure_bytes(frontier_figure(one), ".png", title=one.title, description=one.words)
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (2000, 1200)
    write_picture(one, tmp_path / "f.svg")
    assert (tmp_path / "f.svg").read_text(encoding="utf-8") == frontier_svg(one)
    with pytest.raises(StudyError, match=r"\.svg or \.png, not '\.pdf'"):
        write_picture(one, tmp_path / "f.pdf")


def test_nothing_measured_is_said_in_a_sentence() -> None:
    failed = tuple(trial for trial in TRIALS if not trial.ok)
    with pytest.raises(StudyError, match="no trial has a bpb to draw"):
        frontier_figure(FrontierPicture((Curve("s", failed),), "empty"))


def test_importing_the_module_loads_no_matplotlib_and_drawing_loads_no_pyplot() -> None:
    program = (
        "import sys, pgpack.study.plot as plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from tests.synthetic_study import synthetic_trials\n"
        "from pgpack.study.pictured import Curve, FrontierPicture\n"
        "plot.frontier_svg(FrontierPicture((Curve('s', synthetic_trials()),), 't'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("share", [0.97, 0.998, 1.0])
def test_the_name_of_the_budget_keeps_off_the_star(share: float) -> None:
    falling = tuple(
        dataclasses.replace(a_trial(10_000 + 4_000 * n, 1.3, 3e-3 * 0.5**n), key=f"f{n}", label="") for n in range(8)
    )
    best = dataclasses.replace(
        a_trial(int(60_000 * share), 1.2, 6e-7), key="best", label="tuned to a budget of 60000"
    )
    figure = frontier_figure(FrontierPicture((Curve("s", (*falling, best)),), "star", "kl", budget=60_000))
    figure.draw_without_rendering()
    (axes, *_) = figure.axes
    (budget,) = (text for text in axes.texts if text.get_text().startswith("budget"))
    (star,) = (line for line in axes.lines if line.get_marker() == "*")
    x, y = axes.transData.transform(star.get_xydata()[0])
    box, half = Text.get_window_extent(budget), BEST_SIZE / 2 * figure.dpi / 72
    (words,) = (Text.get_window_extent(text) for text in axes.texts if text.get_text().startswith("best"))
    assert not words.overlaps(box)
    assert box.x1 < x - half or box.x0 > x + half or box.y1 < y - half or box.y0 > y + half
