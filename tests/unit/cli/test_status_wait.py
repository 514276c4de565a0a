"""`ovsnet status --wait`, and what is settled in the tables."""

from __future__ import annotations

import http.server
import json
import threading
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import CliRunner

from ovsnet.cli import main
from ovsnet.controller.status import (
    NodeStatus,
    RefusedPort,
    Revision,
    Status,
    WatchState,
    WatchStatus,
)

NOW = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)
REFUSED = RefusedPort("evil-1", 6, "10.9.9.9", "its name fits no pod", (), NOW)
NODE = NodeStatus("n1", "steady", "00" * 8, 120, Revision(4, 4), NOW)


@pytest.fixture
def serve():
    """Serves statuses one after the other, the last one again and again, and yields the URL.

    `refresh` is the answer to a POST of /refresh.
    """
    servers = []

    def begin(*documents, refresh=b'{"refresh": 7}'):
        left = [msgspec.json.encode(document) for document in documents]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(left.pop(0) if len(left) > 1 else left[0])

            def do_POST(self):
                assert self.path == "/refresh"
                self._answer(refresh)

            def _answer(self, body):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def run(*arguments):
    return CliRunner().invoke(main.main, arguments)


def in_effect(*nodes, refreshed=7, version=20):
    watches = (WatchStatus("Pod", WatchState.CURRENT, 20, version=version, refreshed=refreshed),)
    nodes = nodes or (msgspec.structs.replace(NODE, revision=Revision(4, 4, 4)),)
    return Status("1.2", 3, NOW, True, watches, nodes)


def test_settled_revisions_are_shown(serve):
    shown = run("status", "--controller", serve(in_effect(NODE))).output
    assert "Settled" in shown
    (line,) = (line.split() for line in shown.splitlines() if line.startswith("n1 "))
    assert line[-5:] == ["4", "4", "-", "0", "0"]


def test_waiting_until_all_is_in_effect(serve):
    lag = in_effect(NODE)
    url = serve(lag, lag, lag, in_effect())
    done = run("status", "--controller", url, "--wait", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["nodes"][0]["revision"]["settled"] == 4


def test_waiting_in_vain_says_for_what(serve):
    url = serve(in_effect(NODE))
    done = run("status", "--controller", url, "--wait", "--timeout", "0.1")
    assert done.exit_code == 1
    assert "not in effect after 0.1 s: n1 has settled revision none" in done.stderr
    assert "Nodes" in done.stdout, "what there is, is shown all the same"


def test_what_is_refused_does_not_matter_to_one_who_waits(serve):
    node = msgspec.structs.replace(NODE, revision=Revision(4, 4, 4), refused=(REFUSED,))
    url = serve(in_effect(node))
    done = run("status", "--controller", url, "--wait")
    assert done.exit_code == 0
    assert "is refused" in done.stdout


def test_a_switch_that_is_away_for_good_is_said_to_be(serve, monkeypatch):
    monkeypatch.setattr("ovsnet.cli.waiting.PATIENCE", 0.1)
    lost = msgspec.structs.replace(NODE, name="n2", session="none")
    settled = msgspec.structs.replace(NODE, revision=Revision(4, 4, 4))
    done = run("status", "--controller", serve(in_effect(settled, lost)), "--wait")
    assert done.exit_code == 0
    assert "not waited for: n2, its switch is not connected" in done.stderr


def test_waiting_for_a_version_needs_no_fresh_lists(serve):
    url = serve(in_effect(version=19), in_effect(version=19), in_effect(version=20))
    done = run("status", "--controller", url, "--wait", "--version", "Pod=20")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--version", "Pod=20"), "--version is for --wait"),
        (("--wait", "--version", "Pod"), "expected KIND=VERSION, such as NetworkPolicy=1234"),
        (("--wait", "--version", "Pod=new"), "expected KIND=VERSION"),
        (("--wait", "--version", "Gateway=1"), "'Gateway' objects are not watched: expected one"),
        (("--wait", "--timeout", "-1"), "-1"),
    ],
)
def test_waiting_wrongly(serve, arguments, words):
    done = run("status", "--controller", serve(in_effect()), *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_waiting_for_something_else(serve):
    url = serve(in_effect(), refresh=b"<html>")
    assert run("status", "--controller", url, "--wait").exit_code == 3
