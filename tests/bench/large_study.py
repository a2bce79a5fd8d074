"""`make bench-study`: a study of a thousand trials and more: table, page and browser.

    python -m tests.bench.large_study [--trials 1000,10000] [--json FILE]

The limits are for 1,000 trials: `pgpack frontier` within 1 s, the page open in a browser within 2 s, the page at most
5 MB. They are on processor time, because the clock also counts what else the machine does; the clock's times stand
beside it. Peak memory is that of the command's process. The browser is headless Chromium where there is one: by the
clock the time from the start of the navigation until chart and tables are there, in processor time all that the
page's main thread did, read from Chromium's own trace.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.browser import CHROMIUM, looked_at, probed
from tests.synthetic_study import write_study

RUNS = 3
LIMITS = {"frontier_cpu_s": 1.0, "open_cpu_s": 2.0, "page_bytes": 5_000_000}
OPENED = """answer([performance.getEntriesByType("navigation")[0].loadEventEnd, performance.memory.usedJSHeapSize,
  document.querySelectorAll("#trials tbody tr").length]);"""


@dataclass(frozen=True)
class Figures:
    """Units: seconds are the best of several runs by the wall clock, `cpu_s` user and system time; bytes."""

    n_trials: int
    journal_bytes: int
    frontier_s: float
    frontier_cpu_s: float
    frontier_peak_bytes: int
    report_s: float
    report_cpu_s: float
    report_peak_bytes: int
    page_bytes: int
    page_rows: int | None
    open_s: float | None
    open_cpu_s: float | None
    page_heap_bytes: int | None


def command(*arguments: object) -> tuple[float, float, int]:
    """(wall seconds, processor seconds, peak bytes) of one `pgpack` command."""
    started = time.perf_counter()
    words = [sys.executable, "-m", "pgpack_cli.pgpack_app", *(str(argument) for argument in arguments)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    wall = time.perf_counter() - started
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main_thread_s(url: str, folder: Path) -> float:
    """Processor seconds of the page's main thread while Chromium loads and shows it."""
    trace = folder / "trace.json"
    looked_at(url, folder, 1280, 900, framed=False, budget_ms=0, trace=trace)
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    tasks = [e for e in events if e.get("name", "").endswith("RunTask") and "tdur" in e]
    return sum(e["tdur"] for e in tasks if names.get((e["pid"], e["tid"])) == "CrRendererMain") / 1e6


def measure(n_trials: int, folder: Path) -> Figures:
    """The figures of a synthetic study of `n_trials`."""
    study = folder / f"study-{n_trials}"
    write_study(study, n_extra=n_trials - 64)
    frontiers = [command("frontier", study, "--json") for _ in range(RUNS)]
    reports = [command("report", study) for _ in range(2)]
    page = study / "report.html"
    opened: list[Any] = []
    busy: list[float] = []
    if CHROMIUM is not None:
        text = page.read_text(encoding="utf-8")
        (study / "probed.html").write_text(probed(text, OPENED, wait_ms=0), encoding="utf-8")
        url = (study / "probed.html").as_uri()
        for _ in range(RUNS):  # without virtual time, which would stop the page's clock
            opened.append(looked_at(url, folder, 1280, 900, framed=False, budget_ms=0))
        busy = [main_thread_s(url, folder) for _ in range(2)]
    return Figures(
        n_trials=n_trials,
        journal_bytes=(study / "trials.jsonl").stat().st_size,
        frontier_s=min(wall for wall, _, _ in frontiers),
        frontier_cpu_s=min(cpu for _, cpu, _ in frontiers),
        frontier_peak_bytes=max(peak for _, _, peak in frontiers),
        report_s=min(wall for wall, _, _ in reports),
        report_cpu_s=min(cpu for _, cpu, _ in reports),
        report_peak_bytes=max(peak for _, _, peak in reports),
        page_bytes=page.stat().st_size,
        page_rows=opened[0][2] if opened else None,
        open_s=min(ms for ms, *_ in opened) / 1000 if opened else None,
        open_cpu_s=min(busy, default=None),
        page_heap_bytes=max(heap for _, heap, _ in opened) if opened else None,
    )


def too_slow(figures: Figures) -> list[str]:
    """The limits that a study of 1,000 trials misses."""
    values = {name: getattr(figures, name) for name in LIMITS}
    return [name for name, value in values.items() if value is not None and value > LIMITS[name]]


def main() -> int:
    """Print the table; 1 when 1,000 trials miss a limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", default="1000,10000")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(int(n), Path(folder)) for n in given.trials.split(",")]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; load {load:.1f} at the beginning; best of {RUNS}")
    print(
        "trials   frontier             peak    report               peak    page      rows   opens             heap"
    )
    for row in rows:
        seen = "-" if row.open_s is None else f"{row.open_s:.2f} s ({row.open_cpu_s or 0:.2f} cpu)"
        heap = "-" if row.page_heap_bytes is None else f"{row.page_heap_bytes / 1e6:.0f} MB"
        frontier = f"{row.frontier_s:.2f} s ({row.frontier_cpu_s:.2f} cpu)  {row.frontier_peak_bytes / 1e6:3.0f} MB"
        report = f"{row.report_s:.2f} s ({row.report_cpu_s:.2f} cpu)  {row.report_peak_bytes / 1e6:3.0f} MB"
        page = f"{row.page_bytes / 1e6:.2f} MB   {row.page_rows}"
        print(f"{row.n_trials:6,}   {frontier}   {report}   {page}   {seen}   {heap}")
    if given.json is not None:
        document = {"machine": machine, "load": load, "limits": LIMITS, "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    missed = [name for row in rows if row.n_trials == 1000 for name in too_slow(row)]
    if missed:
        print(f"too slow or too large at 1,000 trials: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
