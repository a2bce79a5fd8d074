"""The live page in a browser: it shows new trials and keeps what the reader chose. Skipped without Chromium."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pgpack.report.live import LivePage, LiveServer
from pgpack.study.journal import Journal
from tests.browser import CHROMIUM, looked_at, probed
from tests.synthetic_study import synthetic_trials, write_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


class Asked(LivePage):
    """A live page with a probe, of a study that has one more trial when it is asked for news the fourth time."""

    script = ""
    n_asked = 0

    def page(self) -> bytes:
        return probed(super().page().decode(), self.script).encode()

    def version(self) -> str:
        self.n_asked += 1
        if self.n_asked == 4:
            with Journal(self.directory / "trials.jsonl") as journal:
                journal.append(synthetic_trials(seed=3, scale=0.99)[0])
        return super().version()


def test_a_live_page_shows_new_trials_and_keeps_what_the_reader_chose(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    page = Asked(tmp_path / "study")
    page.script = """
        one("[data-metric=kl]").click(); one("[data-zoom=in]").click();
        const words = one("#filter-words"); words.value = "brotli"; words.dispatchEvent(new Event("input"));
        const ticks = () => all(".chart text[text-anchor=middle]").map((t) => t.textContent).join(" ");
        const before = [all("#trials tbody tr").length, ticks()];
        for (let i = 0; i < 40 && all("#trials tbody tr").length === before[0]; i++) await pause(250);
        answer({ before, after: [all("#trials tbody tr").length, ticks()], live: one("#live").textContent,
                 metric: one("[data-metric=kl]").getAttribute("aria-pressed"), words: one("#filter-words").value });
    """
    server = LiveServer(page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        seen = looked_at(server.url, tmp_path, 1000, budget_ms=12_000, framed=False)
    finally:
        server.shutdown()
        server.server_close()
    assert seen["after"][0] == seen["before"][0] + 1
    assert seen["after"][1] == seen["before"][1]
    assert seen["live"].startswith("live; as of ")
    assert (seen["metric"], seen["words"]) == ("true", "brotli")
