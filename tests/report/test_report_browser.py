"""Laws of the report in a browser: it loads without a word on the console, and what it offers works, wide and narrow.

Skipped where there is no Chromium.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pgpack.report.page import render_report
from pgpack.study.frontier import pareto
from pgpack.study.study import Study
from pgpack.study.tensor_bytes import TensorBytes
from tests.browser import CHROMIUM, TIMEOUT_S, looked_at, probed
from tests.fronts import best_under
from tests.synthetic_study import synthetic_anatomy, synthetic_meta, synthetic_trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
STUDY = Study(Path("study"), synthetic_meta(), synthetic_trials())
WIDTHS = pytest.mark.parametrize("width", [1280, 390])


ANATOMY = synthetic_anatomy()


@functools.cache
def page() -> str:
    """The report of the study, drawn when a test first asks for it."""
    return render_report(STUDY, [(tensor.name, tensor.n_bytes) for tensor in ANATOMY.tensors], ANATOMY)


def asked(page: str, script: str, folder: Path, width: int) -> Any:
    (folder / "report.html").write_text(probed(page, script), encoding="utf-8")
    return looked_at((folder / "report.html").as_uri(), folder, width)


def chart_data(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@WIDTHS
def test_points_tables_and_copy_buttons_work_and_nothing_is_wider_than_the_page(tmp_path: Path, width: int) -> None:
    seen = asked(
        page(),
        """
        const count = (query) => all(query).length;
        one("[data-metric=bpb]").click();
        const bpb = ["circle.point", "circle.dot", "circle.outside", "line.budget", "line.fp32"].map(count);
        const bands = [count("rect.band"), one("#chart-note").textContent.includes("Band: 95 %")];
        const star = one("polygon.star").getBoundingClientRect().width;
        const largest = Math.max(...all("circle").map((each) => each.getBoundingClientRect().width));
        one("[data-metric=kl]").click();
        const kl = [count("circle.point"), count("line.fp32")];
        one("circle.best").focus();
        const tip = one(".tip").textContent;
        let copied = "";
        document.execCommand = () => { copied = document.activeElement.value; return true; };
        Object.defineProperty(navigator, "clipboard", { value: undefined });
        one("circle.best").dispatchEvent(new MouseEvent("click", { bubbles: true }));
        await pause(20);
        const fromPoint = copied;
        one("#trials tr.best button.copy").click();
        await pause(20);
        const heads = all("#trials button.sort");
        heads[1].click(); heads[1].click();
        const sizes = all("#trials tbody tr").map((row) => row.cells[1].dataset.v);
        const wide = document.documentElement.scrollWidth - innerWidth;
        const copies = count("button.copy");
        const seen = { bpb, kl, tip, bands, star, largest, fromPoint, fromRow: copied, sizes, wide, copies };
        answer({ ...seen, width: innerWidth });
        """,
        tmp_path,
        width,
    )
    front = len(chart_data(page())["metrics"]["bpb"]["frontier"])
    assert seen["width"] == width
    assert sum(seen["bpb"][:3]) == sum(trial.ok for trial in STUDY.trials), "what is beyond the scale is at the edge"
    assert seen["bpb"][3:] == [1, 1]
    assert seen["star"] > 1.7 * seen["largest"], "the best point is the most visible"
    assert seen["kl"] == [len(pareto(STUDY.trials, "kl")), 0]
    best = best_under(STUDY.trials, 16_000_000, "kl")
    assert best is not None
    assert best.recipe in seen["tip"]
    assert f"{best.n_bytes:,} B" in seen["tip"]
    row = page()[page().index(f'id="t{STUDY.trials.index(best)}"') :]
    excess, kl = re.findall(r">([+\d.]+ ± [\d.]+)<", row)[:2]
    assert f"bits per byte ({excess} mBPB to fp32)" in seen["tip"]
    assert f"KL {kl} nats per token" in seen["tip"]
    assert seen["bands"] == [front, True], "one at each point of the frontier"
    assert seen["fromPoint"] == seen["fromRow"] == best.recipe
    sizes = [int(size) for size in seen["sizes"] if size]
    assert sizes == sorted(sizes, reverse=True)
    assert seen["sizes"][-2:] == ["", ""]
    assert seen["wide"] <= 0
    assert seen["copies"] == len(STUDY.trials) + len(pareto(STUDY.trials)) + 2


@WIDTHS
def test_a_name_in_the_chart_is_nearest_to_its_own_point(tmp_path: Path, width: int) -> None:
    found = asked(
        page(),
        """
        const far = ([x, y], box) =>
          Math.hypot(Math.max(box.x - x, 0, x - box.x - box.width), Math.max(box.y - y, 0, y - box.y - box.height));
        const circles = all("circle").map((c) => [[Number(c.getAttribute("cx")), Number(c.getAttribute("cy"))],
          c.getAttribute("aria-label") || ""]);
        const named = all("text.name:not(.of-best):not(.of-curve)").map((name) => {
          const box = { x: Number(name.getAttribute("x")), y: Number(name.getAttribute("y")) - 11,
            width: name.getBBox().width, height: 14 };
          const near = circles.reduce((a, b) => (far(b[0], box) < far(a[0], box) ? b : a));
          return [name.textContent, near[1]];
        });
        answer(named);
        """,
        tmp_path,
        width,
    )
    assert found or width == 390
    assert not [(name, nearest) for name, nearest in found if not nearest.startswith(f"{name}:")]


@WIDTHS
def test_the_chart_zooms_by_button_key_and_rectangle_and_comes_back(tmp_path: Path, width: int) -> None:
    seen = asked(
        page(),
        """
        const ticks = () => all(".chart text[text-anchor=middle]").map((t) => t.textContent).join(" ");
        const points = () => all("circle.point, circle.dot").length;
        const start = [ticks(), points()];
        one("[data-zoom=in]").click();
        const near = [ticks(), points()];
        one("[data-zoom=reset]").click();
        const back = [ticks(), points()];
        one("[data-zoom=all]").click();
        const everything = points();
        one("[data-zoom=reset]").click();
        const press = (key) => new KeyboardEvent("keydown", { key, bubbles: true });
        const key = (name) => one(".chart svg").dispatchEvent(press(name));
        key("+"); const byKey = ticks(); key("ArrowRight"); const right = ticks(); key("0");
        const svg = one(".chart svg"), frame = svg.getBoundingClientRect();
        svg.setPointerCapture = () => {};
        const at = (type, x, y) => svg.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerType: "mouse",
          button: 0, clientX: frame.left + x * frame.width, clientY: frame.top + y * frame.height }));
        at("pointerdown", 0.5, 0.5); at("pointermove", 0.7, 0.7);
        const marked = all(".zoom-mark").length;
        at("pointerup", 0.8, 0.8);
        const drawn = [ticks(), all(".zoom-mark").length];
        one(".chart svg").dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
        answer({ start, near, back, everything, byKey, right, marked, drawn, end: ticks(), circles: points() });
        """,
        tmp_path,
        width,
    )
    assert seen["near"] != seen["start"] == seen["back"]
    assert seen["near"][1] < seen["start"][1]
    assert seen["everything"] == sum(trial.ok for trial in STUDY.trials)
    assert seen["byKey"] == seen["near"][0] != seen["right"]
    assert seen["marked"] == 1
    assert seen["drawn"][1] == 0
    assert seen["drawn"][0] not in (seen["start"][0], seen["near"][0])
    assert seen["end"] == seen["start"][0]


@WIDTHS
def test_the_filter_hides_rows_and_dots_and_counts_what_is_left(tmp_path: Path, width: int) -> None:
    seen = asked(
        page(),
        """
        const rows = () => all("#trials tbody tr").filter((row) => !row.hidden && row.offsetHeight).length;
        const dots = () => all("circle.dot").length;
        const before = [rows(), dots()];
        const words = one("#filter-words"), kind = one("#filter-kind");
        const type = (text) => { words.value = text; words.dispatchEvent(new Event("input")); };
        const choose = (name) => { kind.value = name; kind.dispatchEvent(new Event("change")); };
        type("LZMA sdclip"); const both = [rows(), one("#filter-count").textContent, dots()];
        type("copy"); const button = rows();
        type(""); choose("front"); const front = rows();
        choose("failed"); const failed = rows();
        choose("fitting"); const fitting = rows();
        choose("all"); const after = [rows(), dots()];
        answer({ before, both, button, front, failed, fitting, after });
        """,
        tmp_path,
        width,
    )
    both = [trial for trial in STUDY.trials if "lzma" in trial.recipe and "sdclip" in trial.recipe]
    assert seen["both"][:2] == [len(both), f"{len(both)} of {len(STUDY.trials)} shown"]
    assert seen["both"][2] < seen["before"][1]
    assert seen["button"] == 0  # the words on a button are not a trial's
    assert seen["front"] == len(pareto(STUDY.trials))
    assert seen["failed"] == 2
    assert seen["fitting"] == sum(t.ok and (t.n_bytes or 0) <= 16_000_000 for t in STUDY.trials)
    assert seen["before"] == seen["after"]
    assert seen["before"][0] == len(STUDY.trials)


@WIDTHS
def test_the_heat_map_has_a_cell_for_every_tensor_and_four_faces_with_readable_text(
    tmp_path: Path, width: int
) -> None:
    seen = asked(
        page(),
        """
        const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
        const light = (text) => {
          const [r, g, b] = text.match(/\\d+/g).map(linear);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const contrast = (cell) => {
          const { color, backgroundColor } = getComputedStyle(cell);
          const [a, b] = [light(color), light(backgroundColor)];
          return Math.max(a / b, b / a);
        };
        const cells = () => all("table.heat td[data-bits]");
        const faces = {};
        for (const face of ["bits", "share", "loss", "slope", "bits"]) {
          one(`[data-heat=${face}]`).click();
          const known = cells().filter((cell) => cell.textContent);
          faces[face] = [known.length, Math.min(...known.map(contrast)), known.map((cell) => cell.textContent)];
        }
        answer({ faces, bars: all(".waterfall .bar").length, layers: all("table.layers tbody tr").length,
                 wide: document.documentElement.scrollWidth - innerWidth });
        """,
        tmp_path,
        width,
    )
    n_matrices = sum(len(tensor.shape) == 2 for tensor in ANATOMY.tensors)
    for face, (n_cells, contrast, _) in seen["faces"].items():
        assert n_cells == n_matrices + (11 if face in ("bits", "share") else 0)  # and a column of small tensors
        assert contrast >= 4.5, face
    first = next(tensor for tensor in ANATOMY.tensors if tensor.layer)
    assert seen["faces"]["bits"][2][0] == f"{first.bits_per_weight:.2f}"
    assert sum(float(text) for text in seen["faces"]["share"][2]) == pytest.approx(100, abs=4)  # rounded to 0.1
    assert seen["bars"] == 5
    assert seen["layers"] == 12
    assert seen["wide"] <= 0


LOOKS = """
  const unread = ".unseen, option, noscript, title, desc";
  const visible = (part) => part.checkVisibility({ visibilityProperty: true }) && !part.closest(unread);
  const parts = all("body *").filter((part) => visible(part) && !part.closest("#answer, script"));
  const wide = parts.filter((part) => {
    const { left, right, width } = part.getBoundingClientRect();
    return width && (right > innerWidth + 0.5 || left < -0.5);
  }).map((part) => part.outerHTML.slice(0, 90));
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const clear = (text) => text === "transparent" || /, 0\\)$/.test(text);
  const ground = (part) => {
    for (let at = part; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (!clear(backgroundColor)) return backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const isWord = (child) => child.nodeType === 3 && child.data.trim();
  const worded = parts.filter((part) => [...part.childNodes].some(isWord));
  const small = [], pale = [];
  for (const part of worded) {
    const style = getComputedStyle(part), inSvg = part instanceof SVGElement;
    const size = parseFloat(style.fontSize) * (inSvg ? part.getScreenCTM().a || part.getScreenCTM().b || 1 : 1);
    if (Math.abs(size) < 10.95) small.push([part.textContent.slice(0, 30), size]);
    const [a, b] = [light(inSvg ? style.fill : style.color), light(ground(part))];
    if (Math.max(a / b, b / a) < 4.5) pale.push([part.textContent.slice(0, 30), Math.max(a / b, b / a)]);
  }
  const { backgroundColor } = getComputedStyle(document.body);
  answer({ wide, small, pale, n_words: worded.length, width: innerWidth, ground: backgroundColor });
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 900, 390])
def test_no_part_is_wider_than_the_page_no_text_small_or_pale(tmp_path: Path, width: int, dark: bool) -> None:
    (tmp_path / "report.html").write_text(probed(page(), f"{PAIR} {LOOKS}"), encoding="utf-8")
    seen = looked_at((tmp_path / "report.html").as_uri(), tmp_path, width, dark=dark)
    assert seen["width"] == width
    assert seen["n_words"] > 500
    assert seen["ground"] == ("rgb(20, 25, 31)" if dark else "rgb(255, 255, 255)")
    assert seen["wide"] == []
    assert seen["small"] == []
    assert seen["pale"] == []


PAIR = 'all("#trials button.pick")[0].click(); all("#trials button.pick")[7].click(); await pause(50);'


@WIDTHS
def test_two_trials_stand_side_by_side(tmp_path: Path, width: int) -> None:
    a, b = STUDY.trials[0], STUDY.trials[7]
    for trial in (a, b):
        TensorBytes(tmp_path).append(trial.key, {"tok_emb": (trial.n_bytes or 0) // 2, "blocks.0": 11})
    seen = asked(
        render_report(dataclasses.replace(STUDY, directory=tmp_path)),
        f"""
        {PAIR}
        const texts = (query) => all(query).map((part) => part.textContent);
        const words = (parts) => [...parts].map((part) => part.textContent);
        const first = [texts("#compare .pair h3"), all("#compare table tr").map((row) => words(row.cells)),
                       all("#compare .rules li").map((item) => words(item.children))];
        const select = one("#compare-b"); select.value = "3"; select.dispatchEvent(new Event("change"));
        answer({{ first, then: texts("#compare .pair p.note"), chosen: one("#compare-a").value }});
        """,
        tmp_path,
        width,
    )
    titles, rows, rules = seen["first"]
    assert titles == ["Figures", "Recipes, rule by rule", "Bytes of each tensor"]
    by = (b.n_bytes or 0) - (a.n_bytes or 0)
    sign = "−" if by < 0 else "+"
    assert ["bytes", f"{a.n_bytes:,}", f"{b.n_bytes:,}", f"{sign}{abs(by):,}"] in rows
    halves = [(trial.n_bytes or 0) // 2 for trial in (a, b)]
    by = halves[1] - halves[0]
    assert ["tok_emb", f"{halves[0]:,}", f"{halves[1]:,}", f"{'−' if by < 0 else '+'}{abs(by):,}"] in rows
    ours, theirs = (set(trial.recipe.split("; ")) for trial in (a, b))
    assert {tuple(rule) for rule in rules} == {
        *(("only A", rule) for rule in ours - theirs),
        *(("only B", rule) for rule in theirs - ours),
        *(("both", rule) for rule in ours & theirs),
    }
    assert seen["then"] == ["The bytes of each tensor are not kept for both of them."]
    assert seen["chosen"] == "0"


def test_a_study_without_text_has_the_same_chart(tmp_path: Path) -> None:
    trials = tuple(
        dataclasses.replace(t, bpb=None, nats=None, relative_error=t.kl, kl=None, block_excess=None) if t.ok else t
        for t in STUDY.trials
    )
    seen = asked(
        render_report(dataclasses.replace(STUDY, meta=dataclasses.replace(STUDY.meta, fp32_bpb=None), trials=trials)),
        """
        one("circle.best").focus();
        answer({ points: all("circle.point").length, buttons: all("[data-metric]").map((each) => each.textContent),
                 title: all(".chart .axis-title").at(-1).textContent, tip: one(".tip").textContent });
        """,
        tmp_path,
        1280,
    )
    assert seen["points"] == len(pareto(trials, "error"))
    assert seen["buttons"] == [seen["title"]] == ["error of the weights"]
    assert "error of the weights" in seen["tip"]


def test_every_control_can_be_reached_by_keyboard(tmp_path: Path) -> None:
    seen = asked(
        page(),
        """
        const found = all("button, select, input, circle.point, .chart svg");
        const controls = found.filter((each) => each.checkVisibility());
        const focused = (each) => (each.focus({ preventScroll: true }), document.activeElement === each);
        const lost = controls.filter((each) => !focused(each) || each.tabIndex < 0);
        const named = (each) => each.textContent.trim() || each.ariaLabel || each.labels?.length;
        const nameless = controls.filter((each) => !named(each));
        const outline = (each) => focused(each) && getComputedStyle(each).outlineStyle;
        const outlines = new Set(controls.slice(0, 40).map(outline));
        answer({ n: controls.length, lost: lost.length, nameless: nameless.length, outlines: [...outlines] });
        """,
        tmp_path,
        1280,
    )
    assert seen["n"] > 2 * len(STUDY.trials)
    assert (seen["lost"], seen["nameless"]) == (0, 0)
    assert "none" not in seen["outlines"]


def test_a_printed_page_keeps_chart_and_tables(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page(), encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={tmp_path / 'page.pdf'}",
        "--virtual-time-budget=3000", (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
    pages = (tmp_path / "page.pdf").read_bytes()
    assert pages.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pages)) <= 40


def test_a_page_without_scripts_still_shows_chart_and_tables(tmp_path: Path) -> None:
    still = re.sub(r"<script>.*?</script>", "", page(), flags=re.DOTALL).replace("script-src 'unsafe-inline'", "")
    assert "<noscript>" in still
    assert still.count("<tr id=") == len(STUDY.trials)
