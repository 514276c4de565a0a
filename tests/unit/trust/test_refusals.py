"""Who is not let in for its certificate is counted, with the reason; who is let in is not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from datetime import UTC, datetime

import pytest
from places import wait_for
from trust_authority import DAY, Controllers, NodeFiles, authorities, node_credentials, self_signed

from ovsnet.cni.identity import client_context
from ovsnet.controller.agents import Agents, AgentsServer
from ovsnet.controller.brain import Brain
from ovsnet.controller.network import Network
from ovsnet.controller.observer import Observer
from ovsnet.controller.openflow.app import OpenFlowServer
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.controller.openflow.events import Connected
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.names import CONTROLLER_HOST, datapath_id

NODE = "node-1"
HELLO = bytes.fromhex("06000010000000010001000800000040")
FEATURES = (
    bytes.fromhex("0606002000000002")
    + datapath_id(NODE).to_bytes(8, "big")
    + struct.pack("!IBB2xII", 0, 254, 0, 0x4F, 0)
)
NO_PORTS = bytes.fromhex("0613001000000003000d000000000000")


def description(name):
    """A switch's answer that says which node it is."""
    empty = bytes(3 * 256 + 32)
    return (
        bytes.fromhex("06130430000000000000000000000000") + empty + name.encode().ljust(256, b"\0")
    )


class Security:
    """What the listener for agents is secured with; nobody asks for a certificate here."""

    def __init__(self, controllers):
        self.agents = controllers.agents

    def issue(self, body):
        raise AssertionError(body)


class Station:
    """Both of a controller's listeners, and what its metrics say of who was refused."""

    def __init__(self, controllers):
        brain = Brain(Network(fingerprint), Switchboard(1, Timing()))
        observer = Observer(brain, lambda: None, lambda: 0.0, lambda: 0.0)
        self.registry = observer._metrics.registry
        self.told = []
        any_port = ("127.0.0.1", 0)
        self.switches = OpenFlowServer(
            [any_port], self.told.append, controllers.switches, observer.refused("switch")
        )
        self.agents = AgentsServer(
            any_port, Agents(brain, None), Security(controllers), observer.refused("agent")
        )

    def __enter__(self):
        self.agents.start()
        return self

    def __exit__(self, *_):
        self.agents.stop()
        self.switches.close()

    def connect(self, peer):
        """A plain connection to the listener for a `switch` or an `agent`."""
        address = self.switches.addresses[0] if peer == "switch" else self.agents.address
        return socket.create_connection(address, 20)

    def refused(self):
        """Who has been refused and why, and how often."""
        return {
            (sample.labels["peer"], sample.labels["reason"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "ovsnet_handshakes_refused_total"
        }


@pytest.fixture
def controllers():
    return Controllers()


@pytest.fixture
def station(controllers):
    with Station(controllers) as made:
        yield made


def speak(station, peer, context, data=b""):
    """Send this over TLS, and wait until the controller hangs up."""
    with (
        station.connect(peer) as plain,
        contextlib.suppress(ConnectionError, ssl.SSLError),
        context.wrap_socket(plain, server_hostname=CONTROLLER_HOST) as sock,
    ):
        sock.sendall(data)
        while sock.recv(4096):
            pass


BAD = {
    "self-signed": (lambda c: self_signed(NODE), "unable to get local issuer certificate"),
    "foreign": (
        lambda c: node_credentials(authorities(), NODE),
        "unable to get local issuer certificate",
    ),
    "expired": (
        lambda c: node_credentials(c.held, NODE, datetime.now(UTC) - 3 * DAY),
        "certificate has expired",
    ),
    "controller's": (lambda c: c.own.decode(), "unsuitable certificate purpose"),
}


@pytest.mark.parametrize("peer", ["switch", "agent"])
@pytest.mark.parametrize(("credentials", "reason"), BAD.values(), ids=BAD)
def test_a_bad_certificate_is_counted_with_what_is_wrong_with_it(
    station, controllers, tmp_path, peer, credentials, reason
):
    files = NodeFiles.of(tmp_path, credentials(controllers), controllers.held.bundle)
    speak(station, peer, client_context(controllers.held.bundle, files.node))
    wait_for(lambda: station.refused() == {(peer, reason): 1}, "the refusal to be counted")


def test_a_switch_without_a_certificate_is_counted(station, controllers):
    speak(station, "switch", client_context(controllers.held.bundle))
    reason = "peer did not return a certificate"
    wait_for(lambda: station.refused() == {("switch", reason): 1}, "the refusal to be counted")


@pytest.mark.parametrize("peer", ["switch", "agent"])
def test_who_speaks_no_tls_is_counted_and_does_not_choose_the_words(station, peer):
    for data in (HELLO, HELLO):
        with station.connect(peer) as sock:
            sock.sendall(data)
            with contextlib.suppress(ConnectionError):
                while sock.recv(4096):
                    pass
    wait_for(lambda: station.refused() == {(peer, "wrong version number"): 2}, "two refusals")


@pytest.mark.parametrize(
    ("says", "refused"),
    [("node-2", {("switch", "another node's certificate"): 1}), (NODE, {})],
)
def test_a_switch_that_says_it_is_another_node_is_counted_once(
    station, controllers, tmp_path, says, refused
):
    made = node_credentials(controllers.held, NODE)
    files = NodeFiles.of(tmp_path, made, controllers.held.bundle)
    context = client_context(controllers.held.bundle, files.node)
    with (
        station.connect("switch") as plain,
        context.wrap_socket(plain, server_hostname=CONTROLLER_HOST) as sock,
    ):
        sock.sendall(HELLO + FEATURES + NO_PORTS + 2 * description(says))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if not refused:
                wait_for(lambda: station.told, "the switch to be let in")
                socket.socket.shutdown(sock, socket.SHUT_WR)
            while sock.recv(4096):
                pass
    station.switches.close()
    assert station.refused() == refused
    assert [type(event) for event in station.told][:1] == ([] if refused else [Connected])


def test_an_agent_with_its_certificate_is_not_counted(station, controllers, tmp_path):
    made = node_credentials(controllers.held, NODE)
    files = NodeFiles.of(tmp_path, made, controllers.held.bundle)
    context = client_context(controllers.held.bundle, files.node)
    with (
        station.connect("agent") as plain,
        context.wrap_socket(plain, server_hostname=CONTROLLER_HOST) as sock,
    ):
        sock.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"404" in sock.recv(4096)
    station.agents.stop()
    assert station.refused() == {}
