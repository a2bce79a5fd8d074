"""`pgpack report`: a study as one page, or served to the browser while the sweep goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.errors import StudyError
from pgpack.tables import counted

from ..options.numbers import WholeNumber
from ..options.types import PATH
from ..screen.output import Screen, claim_output, format_bytes, screen_options

if TYPE_CHECKING:
    from pgpack.report.live import LivePage
    from pgpack.study.study import Study

LOOK_S = 1.0  # between looks at the study for the line on the terminal

EPILOG = """\b
Examples:
  pgpack report study
  pgpack report study -o page.html
  pgpack report study --watch
"""


@click.command("report", epilog=EPILOG)
@click.argument("directory", metavar="DIR", type=PATH)
@click.option("--watch", is_flag=True, help="Serve the page on this machine and renew it as trials come in.")
@click.option("--port", type=WholeNumber(0, 65535), default=0, metavar="N", help="With --watch; 0: any free one.")
@click.option("-o", "--output", type=PATH, help="Write the page here (DIR/report.html).")
@click.option("--force", is_flag=True, help="Replace the file of -o.")
@screen_options
def command(*, directory: Path, watch: bool, port: int, output: Path | None, force: bool, screen: Screen) -> None:
    """The page of the study in DIR: frontier, heat map, layers, stages, all trials. It works offline, as one file.

    With --watch it is served on 127.0.0.1 (to nobody else) until Ctrl-C, and renews itself while a sweep appends
    trials; what you chose, zoomed, sorted or filtered stays.
    """
    from pgpack.study.study import Study

    if watch and output is not None:
        raise click.UsageError("--watch serves the page and writes none; leave out --watch or -o")
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"-o {output}: the page's name must end in .html")
    study = Study.load(directory).merged  # what is no study is refused before anything is written or served
    if watch:
        _serve(directory, port, screen)
        return
    if output is not None:
        claim_output(output, force)
    from pgpack.report.outputs import read_anatomy, read_breakdown
    from pgpack.report.page import write_report
    from pgpack.study.study import BEST_FILE

    path = output or directory / "report.html"
    parts = read_anatomy(study.directory)
    if parts is None and (study.directory / BEST_FILE).is_file():
        screen.note(
            f"{BEST_FILE} is damaged, and the page tells nothing of its tensors; `pgpack sweep --check` says more"
        )
    write_report(study, path, read_breakdown(study), parts)
    n_bytes, n_trials = path.stat().st_size, len(study.trials)
    document = {"report": str(path), "n_bytes": n_bytes, "n_trials": n_trials}
    screen.show(document, f"{path}  {counted(n_trials, 'trial')}, {format_bytes(n_bytes)}")


def _serve(directory: Path, port: int, screen: Screen) -> None:
    """Serve until Ctrl-C, with a line on the terminal whenever the study has changed."""
    from pgpack.report.live import LivePage, LiveServer

    page = LivePage(directory)
    try:
        server = LiveServer(page, port)
    except OSError as error:
        raise StudyError(f"port {port} cannot be had ({error.strerror}); give another --port, or none") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    screen.show({"url": server.url, "directory": str(directory)}, f"{server.url}  (Ctrl-C ends it)")
    try:
        _follow(page, screen)
    except KeyboardInterrupt:
        screen.note("")
    finally:
        server.shutdown()
        server.server_close()


def _follow(page: LivePage, screen: Screen) -> None:
    """A line for every state of the study, until interrupted."""
    seen = said = ""
    while True:
        version = page.version()
        if version != seen:
            seen = version
            try:
                line = _line(page.study())
            except StudyError as error:
                line = str(error)
            if line != said:
                said = line
                screen.note(line)
        time.sleep(LOOK_S)


def _line(study: Study) -> str:
    view = study.frontier()
    counts = f"{counted(len(view.trials), 'trial')}, {view.n_failed} failed, {len(view.points)} on the frontier"
    best = view.best
    if best is None or best.n_bytes is None or best.bpb is None:
        return counts
    return f"{counts}; best {best.bpb:.4f} bits per byte in {format_bytes(best.n_bytes)}"
