"""`pgpack report`: a study as one page, or served to the browser while the sweep goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.errors import StudyError

from ..screen.output import emit_json, format_bytes, note, refuse_overwrite, shared_options

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
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--watch", is_flag=True, help="Serve the page on this machine and renew it as trials come in.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="With --watch; 0: any free one.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the page here (DIR/report.html).")
@click.option("--force", is_flag=True, help="Replace the file of -o.")
@shared_options
def command(
    *, directory: Path, watch: bool, port: int, output: Path | None, force: bool, as_json: bool, quiet: bool
) -> int:
    """The page of the study in DIR: frontier, heat map, layers, stages, all trials. It works offline, as one file.

    With --watch it is served on 127.0.0.1 (to nobody else) until Ctrl-C, and renews itself while a sweep appends
    trials; what you chose, zoomed, sorted or filtered stays.
    """
    from pgpack.study.study import Study

    if watch and output is not None:
        raise click.UsageError("--watch serves the page and writes none; leave out --watch or -o")
    study = Study.load(directory).merged  # what is no study is refused before anything is written or served
    if watch:
        return _serve(directory, port, as_json, quiet)
    if output is not None:
        refuse_overwrite(output, force)
    _write(study, output or directory / "report.html", as_json)
    return 0


def _write(study: Study, path: Path, as_json: bool) -> None:
    from pgpack.report.outputs import read_anatomy
    from pgpack.report.page import write_report

    anatomy = read_anatomy(study.directory)
    parts = [(tensor.name, tensor.n_bytes) for tensor in anatomy.tensors] if anatomy else []
    write_report(study, path, parts, anatomy)
    n_bytes = path.stat().st_size
    if as_json:
        emit_json({"report": str(path), "n_bytes": n_bytes, "n_trials": len(study.trials)})
    else:
        click.echo(f"{path}  {len(study.trials)} trials, {format_bytes(n_bytes)}")


def _serve(directory: Path, port: int, as_json: bool, quiet: bool) -> int:
    """Serve until Ctrl-C, with a line on the terminal whenever the study has changed."""
    from pgpack.report.live import LivePage, LiveServer

    page = LivePage(directory)
    try:
        server = LiveServer(page, port)
    except OSError as error:
        raise StudyError(f"port {port} cannot be had ({error.strerror}); give another --port, or none") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if as_json:
        emit_json({"url": server.url, "directory": str(directory)})
    else:
        click.echo(f"{server.url}  (Ctrl-C ends it)")
    try:
        _follow(page, quiet)
    except KeyboardInterrupt:
        note("", quiet)
    finally:
        server.shutdown()
        server.server_close()
    return 0


def _follow(page: LivePage, quiet: bool) -> None:
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
                note(line, quiet)
        time.sleep(LOOK_S)


def _line(study: Study) -> str:
    view = study.frontier()
    counts = f"{len(view.trials)} trials, {view.n_failed} failed, {len(view.points)} on the frontier"
    best = view.best
    if best is None or best.n_bytes is None or best.bpb is None:
        return counts
    return f"{counts}; best {best.bpb:.4f} bits per byte in {format_bytes(best.n_bytes)}"
