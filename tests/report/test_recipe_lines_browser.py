"""A recipe on the page goes on in the next line where a part of it ends, never within a word or a number.

Skipped where there is no Chromium.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pgpack.report.page import render_report
from pgpack.study.study import Study
from tests.browser import CHROMIUM, looked_at, probed
from tests.synthetic_study import synthetic_anatomy, synthetic_meta, synthetic_trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
LONG = (
    "@calib=tokens(count=131072);@tune=steps(count=100,rate=0.000125);ndim<=1=cast(dtype=fp16)|shuffle|brotli;"
    "model.layers.*.self_attn.q_proj.weight=gptq(bits=6,clip=12.85,damp=1e-05)|rans_wide(precision=14);"
    "*=tcq(step=0.00032,states=64)|rans_scaled(states=64)"
)
BREAKS = """
  all("main > section").forEach((part) => (part.style.contentVisibility = "visible"));
  all("#trials button.pick")[0].click(); all("#trials button.pick")[1].click();
  one("circle.best").focus();
  await pause(50);
  const found = [];
  let lines = 0;
  for (const block of [...all("#trials code").slice(0, 6), ...all("pre, .rules code, .tip code, h1, .cards dd")]) {
    const texts = document.createTreeWalker(block, NodeFilter.SHOW_TEXT), chars = [];
    for (let text = texts.nextNode(); text; text = texts.nextNode())
      for (let n = 0; n < text.length; n++) {
        const range = document.createRange();
        range.setStart(text, n); range.setEnd(text, n + 1);
        const box = range.getBoundingClientRect();
        if (box.height) chars.push([text.data[n], box.top, text.parentElement.closest("dd > *, dd, h1, pre, code")]);
      }
    for (let n = 1; n < chars.length; n++)
      if (chars[n][1] > chars[n - 1][1] + 4 && chars[n][2] === chars[n - 1][2]) {
        lines += 1;
        found.push(chars[n - 1][0] + chars[n][0]);
      }
  }
  answer({ lines, found: [...new Set(found)], wide: document.documentElement.scrollWidth - innerWidth });
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_recipes_break_where_a_part_of_them_ends(tmp_path: Path, width: int) -> None:
    trials = [*synthetic_trials()]
    for n in range(4):
        trials[n] = dataclasses.replace(trials[n], recipe=LONG if n % 2 else LONG.replace("12.85", "14"))
    meta = dataclasses.replace(synthetic_meta(), checkpoint="/data/of/somebody/model_of_several_words.safetensors")
    page = render_report(Study(Path("study"), meta, tuple(trials)), (), synthetic_anatomy())
    (tmp_path / "report.html").write_text(probed(page, BREAKS), encoding="utf-8")
    seen = looked_at((tmp_path / "report.html").as_uri(), tmp_path, width)
    assert seen["lines"] > (20 if width == 390 else 2)
    assert [pair for pair in seen["found"] if pair[0] not in "|,;=._ \n-/" and pair[1] not in "(@ "] == []
    assert not [pair for pair in seen["found"] if pair[1].isdigit() and pair[0] not in "|, /"]
    assert seen["wide"] <= 0


CUT = """
  const found = [];
  for (const cell of all("table.trials td.n, table.layers td.n")) {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const text = range.getBoundingClientRect(), box = cell.getBoundingClientRect();
    if (text.width && (text.right > box.right + 1 || text.left < box.left - 1)) found.push(cell.textContent);
  }
  answer({ found: [...new Set(found)], cells: all("table.trials td.n").length });
"""


@pytest.mark.parametrize("width", [390, 480, 718, 1280])
def test_no_number_leaves_its_cell(tmp_path: Path, width: int) -> None:
    """A small loss with its interval, 0.0002837 +- 0.0000034, was wider than a cell of a narrow page, cut there."""
    trials = [*synthetic_trials()]
    for n in range(0, 8, 2):
        trials[n] = dataclasses.replace(trials[n], kl=0.0002837, kl_se=1.7e-6)
    page = render_report(Study(Path("study"), synthetic_meta(), tuple(trials)), (), synthetic_anatomy())
    (tmp_path / "report.html").write_text(probed(page, CUT), encoding="utf-8")
    seen = looked_at((tmp_path / "report.html").as_uri(), tmp_path, width)
    assert seen["cells"] > 100
    assert seen["found"] == []
