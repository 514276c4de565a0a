"""`ovsnet status` and the way to the controller."""

from __future__ import annotations

import http.server
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from ovsnet.cli import controller, main
from ovsnet.cli.main import COMMANDS
from ovsnet.cli.status import ago
from ovsnet.controller.status import (
    BelievedPort,
    Leadership,
    NodeStatus,
    PodDropped,
    PolicyComplaint,
    RefusedPort,
    Revision,
    ServiceComplaint,
    Status,
    WatchState,
    WatchStatus,
)

NOW = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)
PORT = BelievedPort("web-3kf7q2ab", 5, "shop/web", ("10.1.2.3", "fd00::3"))
REFUSED = RefusedPort("evil[red]-1", 6, "10.9.9.9", "its name fits no pod", (), NOW)
WELL = Status(
    version="1.2",
    generation=3,
    started=NOW,
    ready=True,
    watches=(WatchStatus("Pod", WatchState.CURRENT, 20),),
    nodes=(NodeStatus("n1", "steady", "00" * 8, 120, Revision(4, 4), NOW, (PORT,)),),
)


def changed(document, **changes):
    return msgspec.structs.replace(document, **changes)


def with_node(**changes):
    return changed(WELL, nodes=(changed(WELL.nodes[0], **changes),))


@pytest.fixture
def serve():
    """Serves a body at every path; the value is called with it and yields the URL."""
    servers = []

    def begin(body, code=200):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def run(*arguments, **env):
    return CliRunner().invoke(main.main, arguments, env=env)


def shown(serve, document, *arguments):
    url = serve(msgspec.json.encode(document))
    return run("status", "--controller", url, *arguments)


def test_all_is_well(serve):
    result = shown(serve, WELL, "--ports")
    assert result.exit_code == 0, result.output
    assert "n1" in result.output
    assert "shop/web" in result.output
    assert "10.1.2.3 fd00::3" in result.output
    assert "20 Pod objects" in result.output
    assert result.output.endswith("all is well\n")


def test_drops_are_shown_on_request_those_with_the_most_first(serve):
    drops = tuple(
        PodDropped(f"shop/web-{n}", "n1", "ingress", ("shop/deny[all]", "shop/b"), 1000 - n)
        for n in range(23)
    )
    document = changed(WELL, drops=drops)
    assert "web-0" not in shown(serve, document).output
    result = shown(serve, document, "--drops")
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines() if "shop/web-0 " in line] == [
        ["shop/web-0", "n1", "ingress", "1000", "shop/deny[all]", "shop/b"]
    ]
    assert "shop/web-19" in result.output
    assert "shop/web-20" not in result.output
    assert "and 3 more: --json has all" in result.output
    told = json.loads(shown(serve, document, "--drops", "--json").output)["drops"]
    assert [each["packets"] for each in told] == [1000 - n for n in range(23)]


def test_no_drops(serve):
    assert "Dropped by policy\nnothing\n" in shown(serve, WELL, "--drops").output


LEADING = Leadership(True, "c-1_192.0.2.1_7", "c-1_192.0.2.1_7", 7, "net/c", NOW)
STANDING_BY = changed(
    with_node(session="standing_by", revision=Revision(4)),
    leadership=changed(LEADING, leads=False, identity="c-2_192.0.2.2_8"),
)


def test_the_leader_says_so(serve):
    result = shown(serve, changed(WELL, leadership=LEADING))
    assert result.exit_code == 0
    assert ", leads since " in result.output.splitlines()[0]
    assert result.output.splitlines()[0].endswith(", term 7")
    assert result.output.endswith("all is well\n")


def test_one_that_stands_by_says_who_leads_and_how_to_ask_it(serve):
    result = shown(serve, STANDING_BY)
    assert result.exit_code == 0
    assert "stands by; c-1 leads since" in result.output.splitlines()[0]
    ask = "this controller stands by; c-1 leads: kubectl -n net exec c-1 -- ovsnet status"
    assert result.output.splitlines()[-1] == ask
    waited = shown(serve, STANDING_BY, "--wait")
    assert waited.exit_code == 1
    assert f"{ask} --wait" in waited.output


def test_it_is_not_well_that_nobody_leads(serve):
    nobody = changed(STANDING_BY.leadership, leader="", term=0, since=None)
    result = shown(serve, changed(STANDING_BY, leadership=nobody))
    assert result.exit_code == 1
    assert "stands by; nobody leads" in result.output.splitlines()[0]
    assert "not well: no controller leads" in result.output


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (with_node(refused=(REFUSED,)), "port evil[red]-1 is refused: its name fits no pod"),
        (with_node(session="none"), "n1: its switch is not connected"),
        (with_node(revision=Revision(5, 4)), "n1: its switch has not confirmed all of its flows"),
        (with_node(revision=Revision(5)), "n1: its switch has not confirmed all of its flows"),
        (changed(WELL, ready=False), "has not yet read the cluster's objects"),
        (
            changed(WELL, watches=(WatchStatus("Pod", WatchState.STALE, 0, NOW, "refused"),)),
            "no news of Pod objects: refused",
        ),
    ],
)
def test_what_is_not_well_is_said_and_is_the_exit_status(serve, document, words):
    result = shown(serve, document)
    assert result.exit_code == 1
    assert words in result.output
    assert "all is well" not in result.output
    assert shown(serve, document, "--json").exit_code == 1


def test_policies_that_are_not_enforced_are_not_well(serve):
    parts = [PolicyComplaint("shop/db", f"spec.f[{n}]", "unknown: [x]") for n in range(51)]
    document = changed(WELL, policies=(PolicyComplaint("bank/x", "spec.tier", "why"), *parts))
    result = shown(serve, document)
    assert result.exit_code == 1
    assert "Policies that are not enforced as they stand\n" in result.output
    assert [line.split() for line in result.output.splitlines() if "spec.f[0]" in line] == [
        ["shop/db", "spec.f[0]", "unknown:", "[x]"]
    ]
    assert "spec.f[48]" in result.output
    assert "spec.f[49]" not in result.output
    assert "and 2 more: --json has all" in result.output
    assert "not well: policy bank/x: a part of it cannot be enforced\n" in result.output
    assert "not well: policy shop/db: 51 parts of it cannot be enforced\n" in result.output
    assert "all is well" not in result.output


def test_services_that_are_not_served_are_not_well(serve):
    parts = [ServiceComplaint("EndpointSlice", "shop/web-a", f"f[{n}]", "[x]") for n in range(50)]
    more = ServiceComplaint("Service", "bank/x", "", "9 more of its parts are not served")
    result = shown(serve, changed(WELL, services=(more, *parts)))
    assert result.exit_code == 1
    assert "Services that are not served as they stand\n" in result.output
    rows = [
        line.split() for line in result.output.splitlines() if "f[0]" in line or "9 more" in line
    ]
    assert rows == [
        ["Service", "bank/x", "-", *more.reason.split()],
        ["EndpointSlice", "shop/web-a", "f[0]", "[x]"],
    ]
    assert "f[48]" in result.output
    assert "f[49]" not in result.output
    assert "and 1 more: --json has all" in result.output
    assert "not well: Service bank/x: a part of it cannot be served\n" in result.output
    assert "not well: EndpointSlice shop/web-a: several parts of it cannot be" in result.output


def test_json_is_the_controller_s_own(serve):
    document = json.loads(msgspec.json.encode(WELL)) | {"a later field": 1}
    url = serve(json.dumps(document).encode())
    result = run("status", "--json", "--controller", url)
    assert result.exit_code == 0
    assert json.loads(result.output) == document


def test_nothing_to_show(serve):
    result = shown(serve, changed(WELL, nodes=(), watches=()))
    assert result.exit_code == 0
    assert "nothing is watched" in result.output


def test_nobody_there():
    result = run("status", "--controller", "http://127.0.0.1:1")
    assert result.exit_code == 3
    assert "cannot reach the controller at http://127.0.0.1:1" in result.output
    assert "--controller" in result.output


@pytest.mark.parametrize(
    ("url", "code"),
    [("nonsense", 2), ("file:///etc/passwd", 2), ("http://", 3), ("http://[::1", 3)],
)
def test_a_url_that_is_none(url, code):
    result = run("status", "--controller", url)
    assert result.exit_code == code
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(("body", "code"), [(b"hello", 200), (b"{}", 200), (b"no", 404)])
def test_something_else_there(serve, body, code):
    result = run("status", "--controller", serve(body, code))
    assert result.exit_code == 3


def test_what_the_controller_says_is_wrong_is_passed_on(serve):
    target = controller.Target(serve(b'{"error": "there is no pod"}', 400), "as it was given")
    with pytest.raises(controller.RefusedError, match=r"^there is no pod$"):
        controller.fetch(target, "/why")
    target = controller.Target(serve(b'{"error": "too busy"}', 503), "as it was given")
    with pytest.raises(controller.UnreachableError, match="it answers 503 to /why: too busy"):
        controller.fetch(target, "/why")
    target = controller.Target(serve(b"<html>", 400), "as it was given")
    with pytest.raises(controller.UnreachableError, match="it answers 400 to /why"):
        controller.fetch(target, "/why")


def test_the_environment_names_the_controller(serve):
    url = serve(msgspec.json.encode(WELL))
    assert run("status", OVSNET_CONTROLLER=url).exit_code == 0


def test_wrong_usage():
    assert run("status", "--nonsense").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_the_order_of_places_to_look(tmp_path, monkeypatch):
    state = tmp_path / "state.json"
    monkeypatch.setattr(controller.layout, "from_environment", lambda _: _Layout(state))
    assert controller.locate(None, {}).url == controller.DEFAULT_URL
    state.write_text("{]")
    assert controller.locate(None, {}).url == controller.DEFAULT_URL
    endpoint = {"url": "http://127.0.0.1:9095", "netns": "/run/netns/x", "pid": 7}
    state.write_text(json.dumps({"phase": "up", "controller": endpoint}))
    found = controller.locate(None, {})
    assert (found.url, found.netns) == (endpoint["url"], Path("/run/netns/x"))
    named = controller.locate("http://other:1/", {})
    assert (named.url, named.netns) == ("http://other:1", None)


class _Layout:
    def __init__(self, state):
        self.state = state


def test_a_sandbox_whose_namespace_is_gone():
    target = controller.Target("http://127.0.0.1:9", "that of the sandbox", Path("/run/netns/-no-"))
    with pytest.raises(controller.UnreachableError, match="/run/netns/-no-"):
        controller.fetch(target, "/status")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"),
     (172799, "47h"), (172800, "2d")],
)  # fmt: skip
def test_ages(seconds, text):
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_the_help_lists_every_command_and_says_what_the_command_itself_says():
    output = run("--help").output
    for name, part in COMMANDS.items():
        command = main.main.get_command(None, name)
        assert command is not None
        assert part.help in output
        assert command.get_short_help_str(200).rstrip(".").startswith(part.help.rstrip(".")[:20])
        assert run(name, "--help").exit_code == 0
