"""The agent's side: when it wants a certificate, and how it gets one from real listeners."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from places import wait_for
from trust_authority import DAY, NOW, authorities, modes, node_credentials
from trust_stage import Desk, Stage

from ovsnet.cni.credentials import Files, new_request, objection
from ovsnet.cni.exchange import Exchange, ExchangeError
from ovsnet.cni.identity import Identity, Unidentified, client_context
from ovsnet.controller.agents import Agents, AgentsServer
from ovsnet.controller.trust.door import Door
from ovsnet.controller.trust.issuer import Issuer

HELD = authorities()


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (lambda: "", "there is none yet"),
        (lambda: "nonsense", "it cannot be read"),
        (lambda: new_request()[0], "it cannot be read"),
        (lambda: node_credentials(HELD, "node-2"), "it is of node node-2"),
        (lambda: node_credentials(authorities(), "node-1"), "nobody who is trusted has signed it"),
        (lambda: node_credentials(HELD, "node-1", NOW - 2 * DAY), "it runs out at"),
        (
            lambda: (
                new_request()[0]
                + node_credentials(HELD, "node-1")
                .partition("KEY-----\n")[2]
                .partition("KEY-----\n")[2]
            ),
            "it is of another key",
        ),
    ],
    ids=["none", "nonsense", "no certificate", "other node", "stranger", "old", "other key"],
)
def test_when_another_certificate_is_wanted(credentials, words):
    found = objection(credentials(), "node-1", HELD.bundle, NOW)
    assert found is not None
    assert words in found


def test_a_new_certificate_is_due_when_a_third_of_its_life_is_left():
    made = node_credentials(HELD, "node-1", NOW, DAY)
    due = NOW + DAY - timedelta(hours=25) / 3
    for now, wanted in ((NOW, False), (due - timedelta(seconds=1), False), (due, True)):
        assert (objection(made, "node-1", HELD.bundle, now) is not None) == wanted


def test_one_of_several_authorities_is_enough():
    made = node_credentials(HELD, "node-1", NOW)
    both = authorities().bundle + HELD.bundle
    assert objection(made, "node-1", both, NOW) is None


def test_files_are_roots_alone_and_replaced_as_a_whole(tmp_path):
    directory = tmp_path / "state" / "tls"
    directory.mkdir(parents=True, mode=0o755)
    files = Files(directory)
    assert files.read(files.node) == ""
    files.write(files.node, "one")
    with files.node.open() as old:
        files.write(files.node, "two")
        assert old.read() == "one"
    assert files.read(files.node) == "two"
    assert modes(directory) == {".": 0o700, "node.pem": 0o600}


class Brain:
    """Believes everybody who gets so far."""

    def __init__(self):
        self.speakers = []

    def reported(self, report, speaker, now):
        self.speakers.append(speaker)
        return []

    def vouch(self, node, speaker):
        return []


class Loop:
    def ask(self, question):
        question(0.0)


class Port:
    """A controller's listener for agents, and what is behind it."""

    def __init__(self, stage=None, desk=None):
        self.stage = stage or Stage()
        self.stage.now = datetime.now(UTC).replace(microsecond=0)
        if stage is None:
            self.stage.rounds()
        self.desk = desk or Desk()
        self.keyring = self.stage.all[0]
        self.issuer = Issuer(self.keyring, self.desk, "ovsnet-system", DAY)
        self.brain = Brain()
        self.server = AgentsServer(("127.0.0.1", 0), Agents(self.brain, Loop()), self)

    def agents(self):
        return self.keyring.held.agents if self.keyring.held else None

    def issue(self, body):
        return self.issuer.issue(body)

    @property
    def url(self):
        return "https://{}:{}".format(*self.server.address)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop()


class Node:
    """An agent's identity, whose rounds a test makes."""

    def __init__(self, directory, *urls, node="node-1"):
        self.files = Files(directory / "tls")
        self.urls = urls
        self.installed = []
        token = directory / "token"
        token.write_text("a.b.c\n")
        self.identity = Identity(
            node, self.files, token, lambda: self.urls, self._follow, self.installed.append
        )

    def _follow(self, heard):
        self.heard = heard
        return self

    def start(self):
        pass

    def stop(self):
        pass

    def exchange(self, url):
        return Exchange(url, tls=self.identity.context)


@pytest.fixture
def port():
    with Port() as made:
        yield made


REPORT = {"node": "node-1", "digest": "1", "serial": 1}


def test_it_gets_a_certificate_and_speaks_with_it(port, tmp_path):
    node = Node(tmp_path, port.url)
    with pytest.raises(ExchangeError, match="no certificate yet"):
        node.exchange(port.url).post("/settled", REPORT)
    with pytest.raises(Unidentified, match="ConfigMap"):
        node.identity.round()
    node.heard({"ca.crt": port.stage.bundle})
    node.identity.round()
    exchange = node.exchange(port.url)
    exchange.post("/settled", REPORT)
    assert [speaker.node for speaker in port.brain.speakers] == ["node-1"]
    assert node.installed == [node.files]
    before = node.files.node.read_text()
    node.identity.round()
    assert node.files.node.read_text() == before
    assert len(port.desk.asked) == 1
    # A new one is used from the next request on: for that there has to be a new connection.
    context, sock = node.identity.context(), exchange._connection.sock
    exchange.post("/settled", REPORT)
    assert exchange._connection.sock is sock
    node.files.node.unlink()
    node.identity.round()
    assert node.identity.context() is not context
    exchange.post("/settled", REPORT)
    assert exchange._connection.sock is not sock
    exchange.close()


def test_what_was_there_before_does_while_nobody_answers(port, tmp_path):
    first = Node(tmp_path, port.url)
    first.heard({"ca.crt": port.stage.bundle})
    first.identity.round()
    second = Node(tmp_path, "https://127.0.0.1:1")
    second.identity.round()
    exchange = second.exchange(port.url)
    exchange.post("/settled", REPORT)
    exchange.close()
    # A ConfigMap that is gone changes nothing.
    second.heard(None)
    second.heard({})
    second.identity.round()
    assert second.files.trusted.read_text() == port.stage.bundle


def test_of_several_controllers_any_will_do(port, tmp_path):
    with Port() as foreign:
        node = Node(tmp_path, "https://127.0.0.1:1", foreign.url, port.url)
        node.heard({"ca.crt": port.stage.bundle})
        node.identity.round()
    assert objection(node.files.node.read_text(), "node-1", port.stage.bundle, NOW) is None
    assert foreign.desk.asked == []


def test_a_controller_that_names_another_node_is_of_no_use(port, tmp_path):
    node = Node(tmp_path, port.url, node="node-2")
    node.heard({"ca.crt": port.stage.bundle})
    with pytest.raises(Unidentified, match="of no use: it is of node node-1"):
        node.identity.round()
    assert not node.files.node.exists()


def test_the_controllers_words_are_passed_on(port, tmp_path):
    port.desk.answer = Desk(authenticated=False, error="it has expired").answer
    node = Node(tmp_path, port.url)
    node.heard({"ca.crt": port.stage.bundle})
    with pytest.raises(Unidentified, match=r"answers 403.*it has expired"):
        node.identity.round()


def test_a_damaged_file_is_replaced(port, tmp_path):
    node = Node(tmp_path, port.url)
    node.heard({"ca.crt": port.stage.bundle})
    node.files.write(node.files.node, "nonsense")
    node.identity.round()
    assert objection(node.files.node.read_text(), "node-1", port.stage.bundle, NOW) is None


def test_its_thread_gets_one_as_soon_as_it_can(port, tmp_path):
    node = Node(tmp_path, port.url)
    node.identity.start()
    try:
        node.heard({"ca.crt": port.stage.bundle})
        wait_for(lambda: node.identity.context(), "a certificate")  # noqa: PLW0108
    finally:
        node.identity.stop()


def bounded(monkeypatch, **bounds):
    """Listeners for agents have these bounds from now on."""
    monkeypatch.setattr("ovsnet.controller.listener.Door", partial(Door, **bounds))


def test_without_a_certificate_one_may_ask_for_one_and_for_nothing_else(port):
    exchange = Exchange(port.url, tls=lambda: client_context(port.stage.bundle))
    for path in ("/settled", "/connections", "/nothing"):
        with pytest.raises(ExchangeError, match="answers 401"):
            exchange.post(path, REPORT)
    with pytest.raises(ExchangeError, match="answers 401"):
        exchange.get("/requests?node=node-1")
    with pytest.raises(ExchangeError, match="answers 405"):
        exchange.get("/certificate")
    exchange.close()
    assert port.brain.speakers == []


def test_a_certificate_that_has_run_out_counts_for_nothing_on_an_open_connection(
    port, tmp_path, monkeypatch
):
    node = Node(tmp_path, port.url)
    node.heard({"ca.crt": port.stage.bundle})
    node.identity.round()
    exchange = node.exchange(port.url)
    exchange.post("/settled", REPORT)
    real = time.time
    monkeypatch.setattr("ovsnet.controller.agents.time.time", lambda: real() + 25 * 3600)
    with pytest.raises(ExchangeError, match="answers 401"):
        exchange.post("/settled", REPORT)
    exchange.close()


def test_new_authorities_are_used_for_new_connections_and_old_ones_go_on(port, tmp_path):
    node = Node(tmp_path, port.url)
    node.heard({"ca.crt": port.stage.bundle})
    node.identity.round()
    exchange = node.exchange(port.url)
    exchange.post("/settled", REPORT)
    stage = Stage()
    stage.now = port.stage.now
    stage.rounds()
    port.keyring._held = stage.all[0].held
    exchange.post("/settled", REPORT)
    exchange.close()
    with pytest.raises(ExchangeError, match="cannot be reached"):
        exchange.post("/settled", REPORT)
    node.heard({"ca.crt": stage.bundle})
    node.identity.round()
    exchange.post("/settled", REPORT)
    exchange.close()


def test_who_is_silent_is_cut_off_and_pushes_out_nobody_else(tmp_path, monkeypatch):
    bounded(monkeypatch, most=10)
    with Port() as port:
        silent = [socket.create_connection(port.server.address) for _ in range(30)]
        try:
            node = Node(tmp_path, port.url)
            node.heard({"ca.crt": port.stage.bundle})
            node.identity.round()
            node.exchange(port.url).post("/settled", REPORT)
            cut = 0
            for sock in silent:
                sock.settimeout(0.2)
                try:
                    cut += sock.recv(1) == b""
                except TimeoutError:
                    continue
                except ConnectionError:
                    cut += 1
            assert cut >= 20
        finally:
            for sock in silent:
                sock.close()


def test_who_shows_no_certificate_does_not_stay(monkeypatch):
    bounded(monkeypatch, handshake_seconds=0.5, newcomer_seconds=0.5)
    with Port() as port:
        context = client_context(port.stage.bundle)
        with (
            socket.create_connection(port.server.address) as mute,
            socket.create_connection(port.server.address) as plain,
            context.wrap_socket(plain, server_hostname="ovsnet-controller") as idle,
        ):
            for sock in (mute, idle):
                sock.settimeout(20)
                try:
                    assert sock.recv(1) == b""
                except ConnectionError:
                    continue


def test_ending_an_exchange_ends_what_it_waits_for(port, tmp_path):
    node = Node(tmp_path, port.url)
    node.heard({"ca.crt": port.stage.bundle})
    node.identity.round()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = "https://{}:{}".format(*deaf.getsockname())
        for target in (url, port.url):
            exchange = Exchange(target, 60.0, node.identity.context)
            failed = threading.Event()

            def ask(exchange=exchange, failed=failed):
                try:
                    exchange.get("/requests?node=node-1")
                except ExchangeError:
                    failed.set()

            thread = threading.Thread(target=ask)
            thread.start()
            wait_for(lambda exchange=exchange: exchange._connection.sock, "a connection")
            exchange.end()
            thread.join(20)
            assert failed.is_set()
