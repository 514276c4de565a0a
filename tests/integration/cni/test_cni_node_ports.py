"""Node ports and service addresses on the node's own side: what reaches the switch, and as what."""

from __future__ import annotations

import secrets

import frames
import pytest
from host_side import (
    CLIENT,
    EXTERNAL_IP,
    GATEWAY,
    LINK_LOCAL,
    NODE_PORT,
    OWN,
    POD,
    PORT,
    PROTOCOLS,
    SERVICE,
    HostSide,
    call,
    connected,
    ends_of,
    host_side,
    mac_of,
    packet,
    refuses,
)
from wire import raw_socket

from ovsnet.names import ROUTER_MAC

VERSIONS = (4, 6)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_node_port_from_elsewhere(side: HostSide, version: int, protocol: str) -> None:
    for port in (PORT, 30000, 32767):
        own = call(side.client, protocol, OWN[version], port)
        side.wait_for_ends(ends_of(protocol, CLIENT[version], own, NODE_PORT[version], port))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_node_port_from_the_node_itself(side: HostSide, version: int, protocol: str) -> None:
    for address in (OWN[version], GATEWAY[version]):
        own = call(side.here, protocol, address, PORT)
        side.wait_for_ends(ends_of(protocol, address, own, NODE_PORT[version], PORT))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", ["client", "here"])
def test_answers_come_from_the_address_that_was_called(
    side: HostSide, version: int, who: str
) -> None:
    caller = getattr(side, who)
    with connected(caller, OWN[version], PORT) as sock:
        sock.send(b"question")
        source = {"client": CLIENT, "here": OWN}[who][version]
        sent = ends_of("udp", source, sock.getsockname()[1], NODE_PORT[version], PORT)
        side.wait_for_ends(sent)
        side.hand_in(ROUTER_MAC, packet(sent.reversed, b"answer"))
        assert sock.recv(100) == b"answer"


@pytest.mark.parametrize("version", VERSIONS)
def test_other_ports_stay_on_the_node(side: HostSide, version: int) -> None:
    for port in (29999, 32768):
        assert refuses(side.client, OWN[version], port)
        assert refuses(side.here, OWN[version], port)
    assert side.sent_to(29999, 32768) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_of_the_node_that_have_no_node_ports(plain: HostSide, version: int) -> None:
    """Nobody else can be asked in their name. kube-proxy's rules do not leave out all of them."""
    plain.forget()
    assert refuses(plain.here, {4: "127.0.0.1", 6: "::1"}[version], PORT)
    if version == 6:
        assert refuses(plain.client, LINK_LOCAL, PORT)
    assert plain.sent_to(PORT) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_switch_gives_the_node_is_the_nodes(side: HostSide, version: int) -> None:
    """The switch knows all node ports itself. What it hands on is for the node's own programs."""
    asked = ends_of("udp", POD[version], 4000, OWN[version], PORT)
    side.hand_in(ROUTER_MAC, packet(asked, b"?"))
    kind = frames.ICMP if version == 4 else frames.ICMPV6
    side.wait(
        lambda s: (
            s.ends is not None and s.ends.protocol == kind and str(s.ends.target) == POD[version]
        ),
        "that no program listens there",
    )
    assert side.sent_to(PORT) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_load_balancers_addresses_go_to_the_switch_as_they_are(
    side: HostSide, version: int, protocol: str
) -> None:
    for port in (80, PORT):
        own = call(side.client, protocol, EXTERNAL_IP[version], port)
        side.wait_for_ends(ends_of(protocol, CLIENT[version], own, EXTERNAL_IP[version], port))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("target", ["service", "node port", "pod"])
def test_nobody_elsewhere_speaks_as_the_node_or_as_its_pods(
    plain: HostSide, version: int, target: str
) -> None:
    """The switch would believe it."""
    side = plain
    side.forget()
    to = {"service": EXTERNAL_IP, "node port": OWN, "pod": POD}[target][version]
    ours = mac_of(side.here)
    theirs = mac_of(side.client)
    kind = frames.IPV4 if version == 4 else frames.IPV6

    def send(source: str, token: bytes) -> None:
        made = packet(ends_of("udp", source, 5000, to, PORT), token)
        sock.send(frames.ethernet(ours, theirs, kind, made))

    with raw_socket(side.client) as sock:
        forged = secrets.token_bytes(12)
        for source in (POD[version], GATEWAY[version], NODE_PORT[version], OWN[version]):
            send(source, forged)
        honest = secrets.token_bytes(12)
        send(CLIENT[version], honest)
        side.wait(lambda s: honest in s.frame, "the honest one")
        assert not any(forged in s.frame for s in side.read())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_elsewhere_calls_addresses_that_only_the_node_uses(
    plain: HostSide, version: int, protocol: str
) -> None:
    plain.forget()
    for address in (NODE_PORT[version], SERVICE[version]):
        call(plain.client, protocol, address, PORT)
    own = call(plain.client, protocol, OWN[version], PORT)
    plain.wait_for_ends(ends_of(protocol, CLIENT[version], own, NODE_PORT[version], PORT))
    assert len(plain.sent_to(PORT)) == 1


def test_no_redirect_where_none_is_wanted() -> None:
    with host_side(node_ports="none") as side:
        for version in VERSIONS:
            assert refuses(side.client, OWN[version], PORT)
            assert refuses(side.here, OWN[version], PORT)
        assert side.sent_to(PORT) == []
