"""A loss curve shows its log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pgpack.errors import DataError
from pgtrain.training.loss_curve import LossCurve, draw_curves, read_curve, write_curves

SVG = "{http://www.w3.org/2000/svg}"


def write_log(path: Path, n: int, level: float = 6.0) -> Path:
    rows = [{"step": i, "loss": level - i / n, "tokens": 128 * i} for i in range(1, n + 1)]
    rows[-1]["val_bpb"] = 2.5
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": ', encoding="utf-8")
    return path


def test_every_step_and_measurement_of_a_log_is_read(tmp_path: Path) -> None:
    curve = read_curve(write_log(tmp_path / "m.log.jsonl", 40))
    assert curve.name == "m"
    assert [x for x, _ in curve.losses] == [128 * i for i in range(1, 41)]
    assert [y for _, y in curve.losses] == pytest.approx(
        [6.0 - i / 40 for i in range(1, 41)]
    )  # 2 % of 40: no smoothing
    assert curve.measured == ((40 * 128, 2.5),)


def test_long_logs_are_smoothed_and_thinned_but_keep_their_end(tmp_path: Path) -> None:
    curve = read_curve(write_log(tmp_path / "m.log.jsonl", 5000))
    assert 600 <= len(curve.losses) <= 1000
    assert curve.losses[-1][0] == 5000 * 128
    assert curve.losses[-1][1] == pytest.approx(5.0 + 0.02, abs=0.002)  # a line lags by its window, 2 % of the run
    assert curve.losses[0][1] == pytest.approx(6.0 - 1 / 5000)


def test_lines_fall_where_losses_do_and_stay_in_the_frame(tmp_path: Path) -> None:
    curves = [read_curve(write_log(tmp_path / f"{k}.log.jsonl", 30, 5.0 + k)) for k in range(3)]
    root = ElementTree.fromstring(draw_curves(curves))
    lines = [line.get("points").split() for line in root.iter(f"{SVG}polyline")]
    assert [len(line) for line in lines] == [30, 30, 30]
    for line in lines:
        heights = [float(point.split(",")[1]) for point in line]
        assert heights == sorted(heights)
        assert all(40 <= y <= 372 for y in heights)
    assert len(list(root.iter(f"{SVG}circle"))) == 3
    texts = " ".join(text.text for text in root.iter(f"{SVG}text"))
    assert re.search(r"0: 4\.\d+ nats, 2\.5000 bpb", texts)


def test_names_are_escaped_and_equal_logs_give_equal_bytes(tmp_path: Path) -> None:
    curve = LossCurve("a<b & c", ((1.0, 2.0), (2.0, 2.0)), ())
    assert "a&lt;b &amp; c" in draw_curves([curve])
    for name in ("x.svg", "y.svg"):
        write_curves(tmp_path / name, [curve])
    assert (tmp_path / "x.svg").read_bytes() == (tmp_path / "y.svg").read_bytes()


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "m.log.jsonl"
    empty.write_text("not a log\n")
    with pytest.raises(DataError, match="holds no step"):
        read_curve(empty)
    with pytest.raises(DataError, match="at least one"):
        draw_curves([])


def test_a_picture_has_a_title_units_and_its_figures_in_words(tmp_path: Path) -> None:
    curves = [read_curve(write_log(tmp_path / f"{k}.log.jsonl", 30, 5.0 + k)) for k in range(2)]
    root = ElementTree.fromstring(draw_curves(curves[:1]))
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "Training loss of 0"  # type: ignore[union-attr]
    assert re.search(r"0: 4\.\d+ nats, 2\.5000 bpb", root.find(f"{SVG}desc").text or "")  # type: ignore[union-attr]
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    for words in ("Training loss of 0", "nats per token (line)", "bits per byte (dots)"):
        assert words in texts
    assert "training tokens (k = thousand)" in texts
    assert "Training loss of 2 runs" in draw_curves(curves)
    _, top, _, height = map(float, (root.get("viewBox") or "").split())
    heights = [float(text.get("y") or 0) for text in root.iter(f"{SVG}text")]
    assert all(top + 10 <= y <= top + height for y in heights)
