"""The agents' port over HTTP: who is believed, what is answered, and when."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from ipaddress import ip_address

import pytest

from ovsnet.controller.agents import Agents, AgentsServer, application
from ovsnet.controller.listener import Listener
from ovsnet.controller.live import LiveConnection
from ovsnet.controller.reports import Settled, Speaker, objection
from ovsnet.controller.results import ReportRefused
from ovsnet.model import Node

REPORT = {"node": "node-1", "digest": "00ab", "serial": 7}


class Brain:
    """Believes whoever it is not told to refuse, and remembers what it was told."""

    def __init__(self):
        self.heard = []
        self.refused = {}

    def reported(self, report, speaker, now):
        self.heard.append((report, speaker, now))
        return self.vouch(report.node, speaker)

    def vouch(self, node, speaker):
        reason = self.refused.get(node)
        return [ReportRefused(node, speaker.address, reason)] if reason else []


class Loop:
    """Asks the brain at once, unless it is `held`."""

    def __init__(self):
        self.held = False
        self.results = []

    def ask(self, question):
        if not self.held:
            self.results += question(12.5)


class Port:
    def __init__(self, poll_seconds=20.0):
        self.brain, self.loop = Brain(), Loop()
        self.agents = Agents(self.brain, self.loop)
        self.server = Listener(
            ("127.0.0.1", 0), lambda: application(self.agents, poll_seconds), "agents"
        )

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop()

    def ask(self, path, document=None):
        host, port = self.server.address
        data = document if document is None or isinstance(document, bytes) else None
        if data is None and document is not None:
            data = json.dumps(document).encode()
        request = urllib.request.Request(f"http://{host}:{port}{path}", data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as answer:
                body = answer.read()
                return answer.status, json.loads(body) if body else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]


def test_a_report_reaches_the_brain_with_the_address_that_it_came_from():
    with Port() as port:
        assert port.ask("/settled", REPORT) == (204, None)
    assert port.brain.heard == [(Settled("node-1", "00ab", 7), Speaker("127.0.0.1"), 12.5)]


def test_a_report_that_is_not_believed_is_answered_with_the_reason_and_comes_to_light():
    with Port() as port:
        port.brain.refused["node-1"] = "127.0.0.1 is no address of node node-1"
        assert port.ask("/settled", REPORT) == (403, "127.0.0.1 is no address of node node-1")
    assert [type(result) for result in port.loop.results] == [ReportRefused]


@pytest.mark.parametrize(
    "body",
    [
        b"no JSON",
        REPORT | {"digest": "00AB"},
        REPORT | {"digest": "0" * 17},
        REPORT | {"digest": ""},
        REPORT | {"serial": -1},
        REPORT | {"serial": 1 << 32},
        {"node": "node-1", "digest": "1"},
    ],
)
def test_what_is_no_report_is_answered_in_words_and_goes_no_further(body):
    with Port() as port:
        status, words = port.ask("/settled", body)
        assert status == 400
        assert words.startswith("expected a report of what is settled: ")
    assert port.brain.heard == []


def test_a_controller_that_is_too_busy_says_so(monkeypatch):
    monkeypatch.setattr("ovsnet.controller.agents._PATIENCE", 0.1)
    with Port() as port:
        port.loop.held = True
        assert port.ask("/settled", REPORT)[0] == 503
        port.loop.held = False
        assert port.ask("/settled", REPORT) == (204, None)


def test_an_agent_waits_until_something_is_wanted_of_it():
    with Port() as port:
        found = {}

        def agent():
            status, asked = port.ask("/requests?node=node-1")
            assert (status, asked["want"]) == (200, "connections")
            told = {"node": "node-1", "question": asked["question"]}
            told["connections"] = [[17, "10.0.0.1", "10.0.0.2", 5, 53]]
            found["answer"] = port.ask("/connections", told)

        thread = threading.Thread(target=agent)
        thread.start()
        live = port.agents.questions.connections(["node-1"], 20)
        thread.join()
    assert found["answer"] == (204, None)
    addresses = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    assert live == {"node-1": (LiveConnection(17, *addresses, 5, 53),)}


def test_an_agent_that_waits_in_vain_is_told_to_ask_again():
    with Port(poll_seconds=0.1) as port:
        assert port.ask("/requests?node=node-1") == (204, None)
        assert port.agents.questions.connections(["node-1"], 0.1) == {
            "node-1": "its agent has not told them within 0.1 s"
        }


def test_a_stranger_gets_no_question_and_its_answer_is_not_taken():
    with Port() as port:
        port.brain.refused["node-1"] = "a stranger"
        assert port.ask("/requests?node=node-1") == (403, "a stranger")
        told = {"node": "node-1", "question": 1}
        assert port.ask("/connections", told) == (403, "a stranger")


def test_an_answer_that_is_none():
    with Port() as port:
        assert port.ask("/connections", {"node": "node-1"})[0] == 400
        told = {"node": "node-1", "question": 1, "connections": [[6, "x", "10.0.0.1", 1, 1]]}
        status, words = port.ask("/connections", told)
        assert status == 400
        assert "'x'" in words


def test_it_ends_while_agents_wait():
    with Port() as port:
        host, number = port.server.address
        with socket.create_connection((host, number)) as waiting:
            waiting.sendall(b"GET /requests?node=node-1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert port.ask("/settled", REPORT) == (204, None)
            port.server.stop()
            waiting.settimeout(20)
            assert b"200 OK" not in waiting.recv(1000)


def test_the_real_server_has_the_same_routes():
    agents = Agents(Brain(), Loop())
    with AgentsServer(("127.0.0.1", 0), agents) as server:
        assert server.address[1] > 0
    paths = sorted(route.canonical for route in application(agents).router.resources())
    assert paths == ["/connections", "/requests", "/settled"]


NODE = Node("node-1", addresses=(ip_address("192.0.2.1"), ip_address("fd00::1")))


@pytest.mark.parametrize(
    ("address", "believed"),
    [
        ("192.0.2.1", True),
        ("fd00::1", True),
        ("fd00:0::0:1", True),
        ("::ffff:192.0.2.1", True),
        ("192.0.2.2", False),
        ("::ffff:192.0.2.2", False),
        ("127.0.0.1", False),
    ],
)
def test_an_agent_is_known_by_its_nodes_addresses(address, believed):
    found = objection("node-1", Speaker(address), NODE)
    assert (found is None) == believed
    if not believed:
        assert found == f"{address} is no address of node node-1, which has: 192.0.2.1, fd00::1"


def test_an_agent_of_no_node_is_nobodys():
    assert objection("node-9", Speaker("192.0.2.1"), None) == "there is no node 'node-9'"
    bare = Node("node-1")
    assert objection("node-1", Speaker("192.0.2.1"), bare).endswith("which has: none")


@pytest.mark.parametrize(("node", "believed"), [("node-1", True), ("node-2", False)])
def test_an_agent_with_a_certificate_is_known_by_that_and_by_no_address(node, believed):
    for address in ("192.0.2.1", "198.51.100.7"):
        found = objection("node-1", Speaker(address, node), NODE)
        assert (found is None) == believed
        if not believed:
            assert found == "its certificate is of node node-2, and it speaks of node 'node-1'"
    assert objection("node-9", Speaker("192.0.2.1", "node-9"), None) == "there is no node 'node-9'"
