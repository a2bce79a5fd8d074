"""Laws of the report page: it asks nothing of the network, trusts no text of the study, and shows its numbers."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shlex
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from pgpack.report.page import pack_command, render_report, write_report
from pgpack.study.comparison import half_width
from pgpack.study.export import trials_csv
from pgpack.study.frontier import pareto
from pgpack.study.study import Study
from pgpack.study.tensor_bytes import TensorBytes
from tests.fronts import best_under
from tests.synthetic_study import FP32_BPB, synthetic_anatomy, synthetic_meta, synthetic_trials

STUDY = Study(Path("study"), synthetic_meta(), synthetic_trials())
ANATOMY = synthetic_anatomy()
VOID = {"meta", "br", "img", "link", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Tags in order, text by the id of the nearest element that has one, and whether tags balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        if tag not in VOID:
            self.open.append((tag, values.get("id", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        home = next((name for _, name in reversed(self.open) if name), "")
        self.text[home] = self.text.get(home, "") + data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def text() -> str:
    return render_report(STUDY, [("tok_emb", 9_000_000), ("blocks", 6_000_000), ("header", 400)])


def chart_data(text: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    document: dict[str, object] = json.loads(found[1])
    return document


def test_the_page_is_one_balanced_file_that_asks_nothing_of_the_network(text: str) -> None:
    page = Page(text)
    assert "default-src 'none'" in text
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("xlink:href", "#").startswith("#")
    assert not re.search(r"@import|url\((?!#)(?!&quot;#)", text)
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon", text)


def test_every_trial_has_a_row_and_every_frontier_point_another(text: str) -> None:
    page = Page(text)
    frontier = pareto(STUDY.trials)
    assert page.count("tr") == 2 + len(STUDY.trials) + len(frontier)
    assert page.count("code") == len(STUDY.trials) + len(frontier)
    for number, trial in enumerate(STUDY.trials):
        row = page.text[f"t{number}"]
        assert trial.recipe in row
        assert trial.error is None or trial.error in row
        assert trial.n_bytes is None or f"{trial.n_bytes:,}" in row
        assert trial.bpb is None or f"{trial.bpb:.4f}" in row


def test_the_headline_is_the_best_point_under_the_budget(text: str) -> None:
    best = best_under(STUDY.trials, 16_000_000)
    assert best is not None
    assert f"Best point: {best.bpb:.4f} bits per byte (+{1000 * (best.bpb - FP32_BPB):.1f} ± " in text
    assert f"in {best.n_bytes:,} B, {100 * best.n_bytes / 16e6:.1f} % of the budget." in text
    assert f'<tr class="best"><td class="name">{best.label}</td>' in text


def test_the_chart_data_are_the_measured_trials_and_their_frontiers(text: str) -> None:
    data = chart_data(text)
    rows = {row[0]: row[1:] for row in data["trials"]}  # type: ignore[attr-defined]
    measured = {n: trial for n, trial in enumerate(STUDY.trials) if trial.ok}
    assert data["order"] == ["kl", "bpb"]
    assert {n: row[:3] for n, row in rows.items()} == {
        n: [t.n_bytes, t.label, [t.kl, t.bpb]] for n, t in measured.items()
    }
    for n, trial in measured.items():
        assert rows[n][3] == [pytest.approx(half_width(trial, metric), rel=6e-3) for metric in ("kl", "bpb")]
    assert (data["budget"], data["fp32"]) == (16_000_000, FP32_BPB)
    for metric in ("bpb", "kl"):
        shown = data["metrics"][metric]  # type: ignore[index]
        assert [STUDY.trials[n] for n in shown["frontier"]] == pareto(STUDY.trials, metric)  # type: ignore[arg-type]
        assert STUDY.trials[shown["best"]] == best_under(STUDY.trials, 16_000_000, metric)  # type: ignore[arg-type]


def test_the_order_of_measurement_is_not_to_be_seen() -> None:
    twin = dataclasses.replace(
        STUDY.frontier().points[3], key="twin", recipe="*=rtn(bits=2)|rans"
    )  # as small, as good
    found = set()
    for seed in range(3):
        trials = [*STUDY.trials, twin]
        random.Random(seed).shuffle(trials)
        study = dataclasses.replace(STUDY, trials=tuple(trials))
        view = study.frontier()
        shown = (render_report(study), view.table(), view.to_csv(), trials_csv([("s", study)]), view.best)
        found.add(shown)
    assert len(found) == 1


def test_one_point_is_the_best_in_headline_table_and_both_views_where_bpb_and_kl_disagree() -> None:
    fits = [trial for trial in STUDY.trials if trial.ok and (trial.n_bytes or 0) <= 16_000_000]
    least = min(trial.bpb or 9.0 for trial in fits)
    lucky = dataclasses.replace(fits[0], bpb=least - 0.001, key="lucky")  # a little text flatters a poor model
    study = dataclasses.replace(STUDY, trials=(*STUDY.trials, lucky))
    best = best_under(study.trials, 16_000_000, "kl")
    assert best is not None
    assert best_under(study.trials, 16_000_000, "bpb") == lucky != best
    text = render_report(study)
    assert f"Best point: {best.bpb:.4f} bits per byte" in text
    assert {view["best"] for view in chart_data(text)["metrics"].values()} == {study.merged.trials.index(best)}  # type: ignore[attr-defined]


def test_losses_tell_how_sure_they_are_where_that_is_known(text: str) -> None:
    best = best_under(STUDY.trials, 16_000_000)
    assert best is not None
    width, kl_width = half_width(best, "bpb"), half_width(best, "kl")
    assert width is not None
    assert kl_width is not None
    row = Page(text).text[f"t{STUDY.trials.index(best)}"]
    assert f"{1000 * ((best.bpb or 0) - FP32_BPB):+.1f} ± {1000 * width:.1f}" in row
    assert f"{best.kl:.4f} ± {kl_width:.4f}" in row
    assert "±: 95 % interval" in text
    older = tuple(dataclasses.replace(t, bpb_se=None, kl_se=None, block_excess=None) for t in STUDY.trials)
    page = render_report(dataclasses.replace(STUDY, trials=older))
    assert "±" not in page[: page.index("<script>\n")]
    assert {len(row) for row in chart_data(page)["trials"]} == {4}  # type: ignore[attr-defined]


HOSTILE = "</script><img src=x onerror=alert(1)><!-- ${title} $data \u2028 & \" '"


def test_hostile_text_stays_text() -> None:
    good = STUDY.trials[-3]
    study = Study(
        Path("study"),
        dataclasses.replace(STUDY.meta, checkpoint=HOSTILE, space=HOSTILE, data_flags=HOSTILE),
        (
            dataclasses.replace(good, label=HOSTILE, recipe=HOSTILE, n_bytes=15_000_000),
            dataclasses.replace(STUDY.trials[-1], error=HOSTILE, recipe_digest=HOSTILE),
        ),
    )
    page = Page(render_report(study, [(HOSTILE, 5)]))
    assert page.count("script") == 3
    assert page.count("img") == 0
    assert HOSTILE in page.text["t0"]
    assert HOSTILE in page.text["t1"]
    assert json.loads(page.text["study"])["trials"][0][2] == HOSTILE


def test_the_pack_line_reads_back_as_the_best_recipe(text: str) -> None:
    best = best_under(STUDY.trials, 16_000_000)
    assert best is not None
    line = pack_command(STUDY, best)
    assert shlex.split(line) == [
        "pgpack", "pack", "runs/seed 0/model.safetensors", "--recipe", best.recipe,
        "--calib", "shards/train_*.bin", "-o", "best.pgpack",
    ]  # fmt: skip
    assert line in Page(text).text["h-reproduce"] + "".join(Page(text).text.values())


def test_two_hundred_trials_fit_in_300_kilobytes(tmp_path: Path) -> None:
    study = Study(Path("study"), synthetic_meta(), synthetic_trials(n_extra=136))
    assert len(study.trials) == 200
    write_report(study, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_equal_studies_give_equal_pages(text: str) -> None:
    again = Study(Path("elsewhere"), synthetic_meta(), synthetic_trials())
    assert render_report(again, [("tok_emb", 9_000_000), ("blocks", 6_000_000), ("header", 400)]) == text


def test_the_breakdown_names_the_largest_parts_and_sums_the_rest() -> None:
    text = render_report(STUDY, [(f"tensor{n}", n) for n in range(1, 41)])
    assert text.count('class="bar"') == 30
    assert "820 B in 40 parts" in text
    assert "11 smaller parts" in text
    assert "66 B &middot; 8.0 %" in text
    assert 'class="bars"' not in render_report(STUDY)


@pytest.mark.parametrize(
    ("meta", "trials", "said"),
    [
        ({}, (), "No trial was measured yet."),
        ({"budget": None}, STUDY.trials[-2:], "No trial was measured yet."),
        ({"budget": 8_000_000}, STUDY.trials, "Nothing fits the budget: the smallest artifact is "),
        (
            {"budget": None, "fp32_bpb": None, "fp32_n_bytes": None},
            STUDY.trials,
            "Best point: 1.2224 bits per byte in ",
        ),
    ],
)
def test_studies_without_a_best_point_budget_or_fp32_have_a_page(
    meta: dict[str, None], trials: tuple[object, ...], said: str
) -> None:
    study = Study(Path("study"), dataclasses.replace(STUDY.meta, **meta), trials)  # type: ignore[arg-type]
    text = render_report(study)
    Page(text)
    assert said in text
    chart_data(text)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    ("front", "least"),
    [(name, 4.5) for name in ("ink", "soft", "accent", "budget", "fp32", "bad", "c1", "c2", "c3", "c4", "c5", "c6")]
    + [("dot", 3.0)],
)
def test_text_colours_reach_contrast_aa_on_every_ground(front: str, least: float) -> None:
    css = resources.files("pgpack.report").joinpath("assets/page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part)) for part in css.split("@media", 2)[:2])
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for ground in ("ground", "pale", "tint"):
            inks = sorted(luminance(colours[name]) + 0.05 for name in (ground, front))
            assert inks[1] / inks[0] >= least


def test_a_page_stays_below_five_megabytes_and_keeps_every_frontier_point() -> None:
    many = synthetic_trials(n_extra=2000)
    long = tuple(
        dataclasses.replace(t, recipe=t.recipe + "; " + "x" * 2500, error=t.error and "e" * 9000) for t in many
    )
    study = Study(Path("study"), dataclasses.replace(synthetic_meta(), space="s" * 200_000), long)
    text = render_report(study, [("a", 1)])
    assert len(text.encode()) < 5_000_000
    page = Page(text)
    rows = [values["id"] for tag, values in page.tags if tag == "tr" and "id" in values]
    n_left_out = len(long) - len(rows)
    assert f"{n_left_out:,} more are in trials.jsonl" in text
    shown = {int(row[1:]) for row in rows}
    frontiers = [study.trials.index(t) for metric in ("bpb", "kl") for t in pareto(long, metric)]  # type: ignore[arg-type]
    assert shown.issuperset(frontiers)
    dots = {row[0] for row in chart_data(text)["trials"]}  # type: ignore[attr-defined]
    assert dots.issuperset(frontiers)


def test_a_page_that_is_served_live_may_ask_its_server_and_no_other_page_may() -> None:
    live = render_report(STUDY, live_version="abc")
    assert "connect-src 'self'" in live
    assert 'data-version="abc"' in live
    assert "fetch(" in live
    assert "connect-src" not in render_report(STUDY)


def test_a_study_without_text_has_a_chart_by_the_error_of_its_weights() -> None:
    trials = tuple(
        dataclasses.replace(
            t, bpb=None, nats=None, kl=None, relative_error=(t.kl or 1) / 9, expected_loss=None, block_excess=None,
            bpb_se=None, kl_se=None,
        )
        if t.ok
        else t
        for t in STUDY.trials
    )  # fmt: skip
    text = render_report(Study(Path("study"), dataclasses.replace(STUDY.meta, fp32_bpb=None), trials))
    data = chart_data(text)
    assert data["order"] == ["error"]
    shown = data["metrics"]["error"]  # type: ignore[index]
    assert [trials[n] for n in shown["frontier"]] == pareto(trials, "error")
    assert len(data["trials"]) == sum(trial.ok for trial in trials)  # type: ignore[arg-type]
    assert "Artifact size against error of the weights" in text
    assert "better in error of the weights." in text
    assert "<noscript>" in text
    assert "<svg" in text


def test_every_picture_of_the_page_has_a_title_and_words_and_parts_of_its_own(text: str) -> None:
    page = render_report(STUDY, (), ANATOMY)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert re.match(r'<svg [^>]*role="img"[^>]*>\s*<title>[^<]+</title>\s*<desc>[^<]+</desc>', svg)
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    wanted = re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", page[: page.index("<script>\n")])
    assert {one or other for one, other in wanted} <= set(names)


def test_bytes_tensor_by_tensor_are_in_the_page_where_the_study_kept_them(tmp_path: Path) -> None:
    study = dataclasses.replace(STUDY, directory=tmp_path)
    assert chart_data(render_report(study))["tensors"] is None
    kept = TensorBytes(tmp_path)
    for number, trial in enumerate(study.trials[:3]):
        kept.append(trial.key, {"a": 10 + number, "b": 20})
    with (tmp_path / "tensors.jsonl").open("a") as file:
        file.write('{"key": "torn')
    again = TensorBytes(tmp_path)
    again.append(study.trials[3].key, {"a": 7, "b": 8})
    assert again.of()[study.trials[3].key] == {"a": 7, "b": 8}
    data = chart_data(render_report(study))["tensors"]
    assert data == {"names": ["a", "b"], "bytes": {"0": [10, 20], "1": [11, 20], "2": [12, 20], "3": [7, 8]}}
