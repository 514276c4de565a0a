"""Real switches that speak TLS with the controller: who is let in, and who is not."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from datetime import UTC, datetime, timedelta

import pytest
from openflow_harness import BRIDGE, Brain, Wanted, add_bridge, inside
from places import wait_for
from session_flows import NODE, assert_right, flow, present
from trust_authority import (
    DAY,
    Controllers,
    authorities,
    node_credentials,
    self_signed,
)

from ovsnet.cni.identity import client_context
from ovsnet.controller.notices import Acknowledged, Admitted, Lost
from ovsnet.controller.openflow import connection as connection_module
from ovsnet.controller.openflow.app import OpenFlowServer
from ovsnet.controller.openflow.events import (
    BundleAnswered,
    Connected,
    Disconnected,
    Echoed,
    FlowsListed,
    RoleGranted,
)
from ovsnet.controller.trust.authority import Authorities
from ovsnet.names import CONTROLLER_HOST, datapath_id

TARGET = "ssl:127.0.0.1:6653"
pytestmark = pytest.mark.timeout(180)


def brain_of(netns, controllers, wanted=None, **options):
    return Brain(netns, {NODE: wanted or Wanted([flow(1)])}, tls=controllers.switches, **options)


def admitted(brain):
    return [n for n in brain.notices if isinstance(n, Admitted)]


def logged(switch, words):
    wait_for(lambda: words in switch.log(), f"{words!r} in the switch's log")


def test_a_switch_with_its_nodes_certificate_is_served(netns, switch, controllers, files):
    wanted = Wanted(flow(n) for n in range(2000))
    with brain_of(netns, controllers, wanted) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        brain.wait(Acknowledged)
        assert_right(switch, wanted)
        for n in range(20):
            brain.change(NODE, wanted.change([flow(5000 + n)], [flow(n).key]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
    assert_right(switch, wanted)


def test_a_hundred_thousand_flows_go_in_while_all_of_them_are_read_back(
    netns, switch, controllers, files
):
    wanted = Wanted(flow(n) for n in range(100_000))
    with brain_of(netns, controllers, wanted) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        brain.wait(Acknowledged)
        # Both directions at once: dumps come in while changes go out.
        for ticket in range(3):
            brain.call(lambda board, ticket=ticket: board.dump(NODE, ticket, time.monotonic()))
            adds = [flow(200_000 + 20_000 * ticket + n) for n in range(20_000)]
            brain.change(NODE, wanted.change(adds))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert not [n for n in brain.notices if isinstance(n, Lost)]
    assert len(present(switch)) == 160_000


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (lambda c: self_signed(NODE), "unable to get local issuer certificate"),
        (lambda c: node_credentials(authorities(), NODE), "unable to get local issuer"),
        (lambda c: node_credentials(c.held, "node-2"), "its certificate is of node node-2"),
        (
            lambda c: node_credentials(c.held, NODE, datetime.now(UTC) - 3 * DAY),
            "certificate has expired",
        ),
        (
            lambda c: node_credentials(c.held, NODE, datetime.now(UTC) + DAY),
            "certificate is not yet valid",
        ),
        (lambda c: c.own.decode(), "unsuitable certificate purpose"),
    ],
    ids=["self-signed", "foreign authority", "another node", "expired", "not yet", "controller's"],
)
def test_a_switch_with_another_certificate_is_refused(
    netns, switch, controllers, files, caplog, credentials, words
):
    files.write(files.node, credentials(controllers))
    with brain_of(netns, controllers) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        wait_for(lambda: words in caplog.text, f"{words!r} in {caplog.text}")
        assert not admitted(brain)
        assert not present(switch)
        # With its own certificate it is let in, by itself.
        files.write(files.node, node_credentials(controllers.held, NODE))
        brain.wait(Acknowledged)


def test_a_switch_without_a_certificate_is_refused(netns, switch, controllers, caplog):
    with brain_of(netns, controllers) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        logged(switch, "must be configured to use SSL")
        assert not admitted(brain)


def test_plain_tcp_is_refused_and_nothing_of_it_is_read(netns, switch, controllers, files, caplog):
    with brain_of(netns, controllers) as brain:
        add_bridge(switch, NODE, controller="tcp:127.0.0.1:6653")
        wait_for(lambda: "TLS handshake failed" in caplog.text, "the refusal")
        assert not admitted(brain)
        switch.vsctl("set-controller", BRIDGE, TARGET)
        brain.wait(Acknowledged)


@pytest.mark.parametrize(
    "credentials",
    [
        lambda c: node_credentials(c.held, NODE).encode(),
        lambda c: Controllers().own,
    ],
    ids=["a node's", "of a foreign authority"],
)
def test_a_switch_takes_no_orders_from_who_shows_another_certificate(
    netns, switch, controllers, files, credentials
):
    """Whoever has stolen a node's key must not command other nodes with it."""
    shown = credentials(controllers)

    class Pretender(Controllers):
        @property
        def own(self):
            return shown

    with brain_of(netns, Pretender(controllers.held)) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        logged(switch, "certificate verify failed")
        assert not admitted(brain)
        assert not present(switch)


def test_running_sessions_outlive_new_certificates_and_new_ones_use_them(
    netns, switch, controllers, files
):
    wanted = Wanted([flow(1)])
    with brain_of(netns, controllers, wanted) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        brain.wait(Acknowledged)
        for n in range(3):
            files.write(files.node, node_credentials(controllers.held, NODE))
            # ovs-vswitchd looks at the files whenever it wakes up.
            switch.vsctl("set", "Bridge", BRIDGE, f"external-ids:round={n}")
            brain.change(NODE, wanted.change([flow(100 + n)]))
            brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert len(admitted(brain)) == 1
        assert not [n for n in brain.notices if isinstance(n, Lost)]
    # The first certificate is of no use to anybody by now: the switch must show another.
    files.write(files.node, node_credentials(controllers.held, NODE))
    with brain_of(netns, controllers, wanted) as brain:
        brain.wait(Admitted)


def test_another_authority_takes_over_step_by_step_and_nobody_is_left_out(
    netns, switch, controllers, files
):
    old = controllers.held.signing
    new = authorities().signing
    wanted = Wanted([flow(1)])
    steps = [
        Authorities(old, next=new),
        Authorities(new, former=old.certificate),
        Authorities(new),
    ]
    with brain_of(netns, controllers, wanted) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        brain.wait(Acknowledged)
    for number, held in enumerate(steps):
        controllers.held = held
        # The node learns of it a little later, and gets its new certificate later still.
        with brain_of(netns, controllers, wanted) as brain:
            brain.wait(Admitted)
        files.write(files.trusted, held.bundle)
        switch.vsctl("set", "Bridge", BRIDGE, f"external-ids:step={number}")
        with brain_of(netns, controllers, wanted) as brain:
            brain.wait(Admitted)
        files.write(files.node, node_credentials(held, NODE))
    # The old authority counts no longer, for neither side.
    with brain_of(netns, Controllers(Authorities(old))) as brain:
        logged(switch, "certificate verify failed")
        assert not admitted(brain)


def test_a_session_ends_when_its_certificate_has_run_out(netns, switch, controllers, files, caplog):
    short = timedelta(seconds=8)
    files.write(files.node, node_credentials(controllers.held, NODE, life=short))
    with brain_of(netns, controllers) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        brain.wait(Acknowledged)
        lost = brain.wait(Lost)
        assert "its certificate has run out" in lost.reason
        files.write(files.node, node_credentials(controllers.held, NODE))
        wait_for(lambda: len(admitted(brain)) == 2, "the switch to come back", 60)


NONSENSE = {
    "silence": b"",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "openflow": bytes.fromhex("0600000800000001"),
    "half a record": b"\x16\x03\x01\x02\x00\x01",
    "noise": bytes(range(256)) * 16,
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_who_says_no_tls_is_cut_off_and_others_are_served(
    netns, switch, controllers, files, data, monkeypatch, caplog
):
    monkeypatch.setattr(connection_module, "_TLS_SECONDS", 1.0)
    wanted = Wanted([flow(1)])
    with brain_of(netns, controllers, wanted) as brain:
        add_bridge(switch, NODE, controller=TARGET)
        brain.wait(Acknowledged)
        with inside(netns):
            hostile = socket.create_connection(brain.server.addresses[0])
        with hostile:
            hostile.settimeout(20)
            hostile.sendall(data)
            with contextlib.suppress(ConnectionError):
                while hostile.recv(4096):
                    pass
        brain.change(NODE, wanted.change([flow(2)]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert not [n for n in brain.notices if isinstance(n, Lost)]
    assert "handshake not finished" in caplog.text


def test_many_slow_handshakes_push_out_one_another_and_no_switch(
    netns, switch, controllers, files, monkeypatch
):
    monkeypatch.setattr("ovsnet.controller.openflow.app._MOST_NEWCOMERS", 20)
    with brain_of(netns, controllers) as brain:
        with inside(netns):
            slow = [socket.create_connection(brain.server.addresses[0]) for _ in range(60)]
        try:
            add_bridge(switch, NODE, controller=TARGET)
            brain.wait(Acknowledged)
            cut = 0
            for sock in slow:
                sock.settimeout(0.2)
                try:
                    cut += sock.recv(1) == b""
                except TimeoutError:
                    continue
                except ConnectionError:
                    cut += 1
            assert cut >= 40
            assert not [n for n in brain.notices if isinstance(n, Lost)]
        finally:
            for sock in slow:
                sock.close()


HELLO = bytes.fromhex("06000010000000010001000800000040")
OF_A_SESSION = (
    bytes.fromhex("0619001800000005 00000002 00000000 0000000000000001")
    + bytes.fromhex("0621001000000006 00000001 00010003")
    + bytes.fromhex("0613001000000007 00010000 00000000")
    + bytes.fromhex("0603000800000008")
)
"""The answers to a role request, a bundle's control, a dump and an echo request."""


def introduction(name):
    """A switch's features, its ports, of which it has none, and its description."""
    features = datapath_id(NODE).to_bytes(8, "big") + struct.pack("!IBB2xII", 0, 254, 0, 0x4F, 0)
    description = bytes(3 * 256 + 32) + name.encode().ljust(256, b"\0")
    return [
        bytes.fromhex("0606002000000002") + features,
        bytes.fromhex("0613001000000003000d000000000000"),
        bytes.fromhex("06130430000000000000000000000000") + description,
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (NODE, [Connected, RoleGranted, BundleAnswered, FlowsListed, Echoed, Disconnected]),
        ("node-2", []),
    ],
)
def test_nothing_of_a_switch_is_told_before_it_is_the_one_of_its_certificate(
    netns, controllers, files, name, told
):
    seen = []
    with inside(netns):
        server = OpenFlowServer([("127.0.0.1", 6653)], seen.append, controllers.switches)
    with server:
        with inside(netns):
            plain = socket.create_connection(server.addresses[0])
        context = client_context(controllers.held.bundle, files.node)
        with context.wrap_socket(plain, server_hostname=CONTROLLER_HOST) as sock:
            sock.settimeout(20)
            sock.sendall(HELLO + OF_A_SESSION)
            for part in introduction(name):
                sock.sendall(part if told else part + OF_A_SESSION)
            with contextlib.suppress(ConnectionError):
                if told:
                    sock.sendall(OF_A_SESSION)
                    socket.socket.shutdown(sock, socket.SHUT_WR)
                while sock.recv(4096):
                    pass
    assert [type(event) for event in seen] == told


def test_while_there_is_no_authority_nobody_is_let_in(netns, switch, controllers, files):
    with (
        Brain(netns, {NODE: Wanted([flow(1)])}, tls=lambda: None) as brain,
        inside(netns),
        socket.create_connection(brain.server.addresses[0]) as sock,
    ):
        sock.settimeout(20)
        assert sock.recv(1) == b""
