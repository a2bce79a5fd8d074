"""The report of a study that is still running, served to this machine alone.

    GET /          the page, rendered again only when the study has changed
    GET /version   a short text that changes with the study; the page asks for it and then for itself

Owns the server. Refuses every other path and method, listens on the loopback address only, and refuses requests whose
Host is not that address (a foreign web page may otherwise reach it under a name of its own). Reads the study without
its lock; writes nothing.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pgpack.errors import PgpackError
from pgpack.study.card import STUDY_FILE
from pgpack.study.journal import TRIALS_FILE
from pgpack.study.study import BEST_FILE, Study

from .outputs import ANATOMY_FILE, read_anatomy, read_breakdown
from .page import render_report

HOST = "127.0.0.1"
WATCHED = (STUDY_FILE, TRIALS_FILE, f"{BEST_FILE}.json", ANATOMY_FILE)


@dataclass
class LivePage:
    """The page of the study in `directory`, kept until the study changes. Safe to use from several threads."""

    directory: Path
    _rendered: tuple[str, bytes] = ("", b"")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def version(self) -> str:
        """A short text that changes with the study: the journal by its size, replaced files by identity and date."""
        digest = hashlib.sha256()
        for name in WATCHED:
            try:
                found = (self.directory / name).stat()
                date = 0 if name == TRIALS_FILE else found.st_mtime_ns  # a row that was taken back is no news
                digest.update(f"{name} {found.st_size} {found.st_ino} {date}\n".encode())
            except OSError:
                digest.update(f"{name} -\n".encode())
        return digest.hexdigest()[:16]

    def study(self) -> Study:
        """The study as it stands. Raises: StudyError when it cannot be read."""
        return Study.load(self.directory).merged

    def page(self) -> bytes:
        """The page as UTF-8. Raises: StudyError when the study cannot be read."""
        with self._lock:
            version = self.version()  # before reading: what changes meanwhile is news for the next question
            if self._rendered[0] != version:
                anatomy = read_anatomy(self.directory)
                study = self.study()
                text = render_report(study, read_breakdown(study), anatomy, live_version=version)
                self._rendered = (version, text.encode())
            return self._rendered[1]


class LiveServer(ThreadingHTTPServer):
    """Serves one `LivePage` on the loopback address; port 0 takes a free one. `serve_forever` runs it."""

    daemon_threads = True

    def __init__(self, page: LivePage, port: int = 0) -> None:
        self.live_page = page
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Values of the Host header that are answered."""
        return (f"{HOST}:{self.server_port}", f"localhost:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    server_version, sys_version = "pgpack", ""

    def do_GET(self) -> None:
        if self.headers.get("Host", "") not in self.server.hosts:
            self._answer(403, f"this server answers to {' and '.join(self.server.hosts)}\n".encode())
            return
        page = self.server.live_page
        try:
            if self.path == "/":
                self._answer(200, page.page(), "text/html")
            elif self.path == "/version":
                self._answer(200, page.version().encode())
            else:
                self._answer(404, b"there is nothing here but /\n")
        except PgpackError as error:
            self._answer(503, f"{error}\n".encode())

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent: a library prints nothing."""
