"""Laws of the live server: it answers its own machine alone, with the study as it is on disk, and nothing else."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgpack.report.live import HOST, LivePage, LiveServer
from pgpack.study.journal import Journal
from tests.synthetic_study import synthetic_trials, write_study


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    write_study(tmp_path / "study")
    server = LiveServer(LivePage(tmp_path / "study"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server: LiveServer, path: str, host: str = "", method: str = "GET") -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=20)
    connection.request(method, path, headers={"Host": host or server.hosts[0]})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, {name.lower(): value for name, value in answer.getheaders()}


def test_the_page_and_its_version_change_with_the_study_and_only_then(server: LiveServer) -> None:
    status, first, headers = ask(server, "/")
    version = ask(server, "/version")[1]
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-frame-options"] == "DENY"
    assert f'data-version="{version}"' in first
    assert ask(server, "/")[1] == first
    with Journal(server.live_page.directory / "trials.jsonl") as journal:
        journal.append(synthetic_trials(seed=3)[0])
    assert ask(server, "/version")[1] != version
    second = ask(server, "/")[1]
    assert second.count("<tr id=") == first.count("<tr id=") + 1


def test_it_listens_on_the_loopback_address_only(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "0.0.0.0:1", "localhost.evil.example"]
)
def test_a_foreign_host_name_is_refused(server: LiveServer, host: str) -> None:
    status, text, _ = ask(server, "/", host)
    assert status == 403
    assert "<tr" not in text
    assert ask(server, "/version", f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("path", ["/study.json", "/../study.json", "/trials.jsonl", "/version/", "/?x"])
def test_there_is_nothing_but_the_page(server: LiveServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed_through_it(server: LiveServer, method: str) -> None:
    assert ask(server, "/", method=method)[0] == 501


def test_a_study_that_cannot_be_read_is_said_and_comes_back(server: LiveServer) -> None:
    journal = server.live_page.directory / "trials.jsonl"
    good = journal.read_bytes()
    journal.write_bytes(good + b"{}\n")
    status, text, _ = ask(server, "/")
    assert status == 503
    assert "trials.jsonl line 65: trial row has schema version None" in text
    journal.write_bytes(good + b'{"torn')  # a write in flight is no fault
    assert ask(server, "/")[0] == 200
