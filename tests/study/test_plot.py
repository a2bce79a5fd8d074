"""Laws of pictures: what matters is in view, what is not is counted, labels keep apart, equal input equal bytes."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection

from pgpack.errors import StudyError
from pgpack.picture import figure_bytes
from pgpack.study.comparison import half_width
from pgpack.study.frontier import Front, Metric, best_under, pareto
from pgpack.study.plot import (
    ChartView,
    Curve,
    FrontierPicture,
    byte_unit,
    chart_view,
    frontier_figure,
    frontier_svg,
    write_picture,
)
from pgpack.study.trial import Trial
from tests.synthetic_study import FP32_BPB, synthetic_meta, synthetic_trials

ROOT = Path(__file__).resolve().parents[2]
BUDGET = synthetic_meta().budget
TRIALS = synthetic_trials()
PICTURE = FrontierPicture(
    (Curve("seed 0", TRIALS), Curve("seed 1", synthetic_trials(1, scale=1.12))),
    "Frontier of model.safetensors",
    budget=BUDGET,
    fp32_bpb=FP32_BPB,
)


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
def test_the_best_point_and_the_lines_are_in_view_and_the_rest_is_counted(
    trials: list[Trial], budget: int | None, fp32_bpb: float | None
) -> None:
    view = chart_view(Front(tuple(trials), "bpb", budget), fp32_bpb)
    assert view is not None
    best = best_under(trials, budget, "bpb")
    if best is not None:
        assert is_inside(view, best.n_bytes, best.bpb)
    assert budget is None or view.x[0] <= budget <= view.x[1]
    assert fp32_bpb is None or view.y[0] <= fp32_bpb <= view.y[1]
    assert view.n_outside == sum(not is_inside(view, t.n_bytes, t.bpb) for t in trials)


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
    assert everything.n_outside > 0


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


def test_the_svg_names_units_lines_labels_studies_and_what_is_outside() -> None:
    text = frontier_svg(PICTURE)
    for words in (
        "artifact size (MB = 10⁶ bytes)",
        "bits per byte",
        "budget 16 MB",
        f"fp32 model {FP32_BPB:.4f}",
        "pergroup-lrzip: 15.",
        "baseline-int8-zlib",
        "seed 0",
        "seed 1",
        "trials outside the view",
    ):
        assert words in text
    kl = frontier_svg(dataclasses.replace(PICTURE, metric="kl", curves=PICTURE.curves[:1]))
    assert "KL to the fp32 model (nats per token)" in kl
    assert ">fp32 model " not in kl
    assert "seed 0" not in kl


@pytest.mark.parametrize("metric", ["bpb", "kl"])
def test_labels_do_not_overlap_and_stay_inside_the_frame(metric: str) -> None:
    figure = frontier_figure(dataclasses.replace(PICTURE, metric=metric))  # type: ignore[arg-type]
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in (*axes.texts, axes.xaxis.label)]
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
def test_bars_are_the_intervals_of_the_frontier_where_they_are_known(metric: Metric) -> None:
    first, *rest = pareto(TRIALS, metric)
    trials = tuple(dataclasses.replace(t, block_excess=None) if t is first else t for t in TRIALS)
    picture = FrontierPicture((Curve("s", trials),), "bars", metric)
    (axes,) = frontier_figure(picture).axes
    (bars,) = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    heights = [float(segment[1, 1] - segment[0, 1]) for segment in bars.get_segments()]
    assert heights == pytest.approx([2 * (half_width(trial, metric) or 0) for trial in rest])
    assert "bars: 95 % intervals" in frontier_svg(picture)
    without = tuple(dataclasses.replace(trial, block_excess=None) for trial in TRIALS)
    assert "bars:" not in frontier_svg(FrontierPicture((Curve("s", without),), "no bars", metric))


def test_a_bar_that_reaches_0_is_an_arrow_on_a_logarithmic_axis_and_stays_near_its_point() -> None:
    *front, last = pareto(TRIALS, "kl")
    unsure = dataclasses.replace(last, kl_se=10 * (last.kl or 0))
    (axes,) = frontier_figure(FrontierPicture((Curve("s", (*front, unsure)),), "unsure", "kl")).axes
    (bars,) = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    assert [float(low) for (_, low), _ in bars.get_segments()] == pytest.approx(
        [*((t.kl or 0) - (half_width(t, "kl") or 0) for t in front), last.kl]
    )
    (arrows,) = [line for line in axes.lines if not isinstance(line.get_marker(), str)]
    assert arrows.get_xydata().tolist() == [[last.n_bytes, last.kl]]


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
    assert data == figure_bytes(frontier_figure(one), ".png")
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
        "plot.frontier_svg(plot.FrontierPicture((plot.Curve('s', synthetic_trials()),), 't'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
