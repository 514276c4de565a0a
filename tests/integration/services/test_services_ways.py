"""Two ways to one endpoint, and ways that are narrower than both of their ends."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator

import pytest
from answerers import bound
from calling import PATIENCE, client_port
from market import FAMILIES, Market
from places import Place
from service_objects import endpoint_slice, service

from ovsnet.sandbox import fabric
from ovsnet.sandbox.layout import FABRIC

WEB = service("shop/web", "http=80@30080", "dns=53@30080/UDP", cluster="10.96.0.1 fd00:96::1")
BEHIND = ("http=8080", "dns=8053/UDP")

BULK = service("shop/bulk", "90@30090", cluster="10.96.0.2 fd00:96::2")
BULK_PORT = 9090
NARROW = 1300
"""Bytes of an IP packet that the way to the outside carries, where it is narrow."""

A_POD = {4: "10.244.1.5", 6: "fd00:10:244:1::5"}
A_NODE = {4: "172.18.0.2", 6: "fd00:172:18::2"}
_LONG = b"1234567890" * 300
_DATA = bytes(range(256)) * 1000
_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
"""The options that tell what a socket has found its way to carry: IP_MTU, IPV6_MTU (linux/in.h)."""


@pytest.mark.parametrize("first", ["the service", "the endpoint"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("version", FAMILIES)
def test_one_client_port_by_two_ways_to_one_endpoint(
    market: Market, version: int, protocol: str, first: str
) -> None:
    market.serve(*market.wire(WEB, endpoint_slice("shop/web", BEHIND, A_POD[version])))
    found = market.world().services[WEB.ref].addresses
    number, of_pod = {"tcp": (80, 8080), "udp": (53, 8053)}[protocol]
    ways = [
        (next(str(a) for a in found if a.version == version), number),
        (market.pods["a1"].address(version), of_pod),
    ]
    if first == "the endpoint":
        ways.reverse()
    for place in (market.pods["c1"], market.pods["c2"], market.nodes["node1"]):
        port = client_port()
        # A client that has hung up waits before it connects from that port to the same place again.
        for way in ways if protocol == "tcp" else (*ways, *ways):
            assert asked(place, version, protocol, port, way) == b"a1", (place.name, way)


def asked(place: Place, version: int, protocol: str, port: int, way: tuple[str, int]) -> bytes:
    """Who answers a client that calls from this port, and hangs up first."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM

    def ask() -> bytes:
        with bound("", version, kind, port) as sock:
            sock.settimeout(10)
            sock.connect(way)
            sock.send(b"1\n" if protocol == "tcp" else b"1")
            return sock.recv(100).split()[0]

    return place.within(ask)


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("end", [A_POD, A_NODE], ids=["a pod", "a node"])
def test_a_datagram_in_fragments_reaches_a_service_and_so_does_its_answer(
    market: Market, end: dict[int, str], version: int
) -> None:
    """Each from a port of its own: the first packet of a connection is in fragments, too."""
    if market.lab.state.userspace:
        # All but the first have neither tp_dst nor ct_tp_dst (miniflow_extract in lib/flow.c).
        pytest.skip("the userspace datapath cannot tell the port of a datagram in fragments")
    market.serve(*market.wire(WEB, endpoint_slice("shop/web", BEHIND, end[version])))
    found = market.world().services[WEB.ref].addresses
    cluster = (next(str(a) for a in found if a.version == version), 53)
    for place in (market.pods["a2"], market.pods["c1"], market.nodes["node1"]):
        for _ in range(3):
            answer = in_fragments(place, version, cluster)
            assert answer.split()[1:] == [_LONG], (place.name, answer[:80])
    for node in ("node1", "node3"):
        door = (market.lab.underlay(node).address(version), 30080)
        for place in (market.outside, market.pods["c1"]):
            answer = in_fragments(place, version, door)
            assert answer.split()[1:] == [_LONG], (place.name, node, answer[:80])


def in_fragments(place: Place, version: int, way: tuple[str, int]) -> bytes:
    """What is answered to a datagram that no way here carries whole; empty: nothing.

    Over IPv6 either end may have to learn first what its way carries (RFC 8201).
    """

    def ask() -> bytes:
        with bound("", version, socket.SOCK_DGRAM, client_port()) as sock:
            sock.settimeout(PATIENCE / 5)
            sock.connect(way)
            for _ in range(1 if version == 4 else 5):
                try:
                    sock.send(_LONG)
                    return sock.recv(65535)
                except TimeoutError:
                    continue
                except OSError as error:
                    if error.errno != errno.EMSGSIZE:
                        raise
        return b""

    return place.within(ask)


@contextlib.contextmanager
def narrow(market: Market, version: int) -> Iterator[None]:
    """The router sends nothing longer than `NARROW` outside for as long as this lasts; it tells the
    senders of what is longer.
    """
    if version == 6 and market.lab.state.userspace:
        # It takes the error for a segment, and corrects a checksum where the quoted source is.
        pytest.skip("the userspace datapath spoils ICMPv6 errors about translated connections")
    router = market.lab.layout.netns(FABRIC)
    fabric.ip_batch(router, [f"link set ovsnet-outside mtu {NARROW}"])
    try:
        yield
    finally:
        fabric.ip_batch(router, ["link set ovsnet-outside mtu 1500"])


@pytest.mark.parametrize("version", FAMILIES)
def test_senders_hear_of_a_narrow_way_to_the_client(market: Market, version: int) -> None:
    """Endpoints send to the outside, which calls node ports: of the endpoint's node, and of another
    one.
    """
    behind = endpoint_slice("shop/bulk", (str(BULK_PORT),), A_POD[version])
    market.serve(*market.wire(BULK, behind))
    with narrow(market, version):
        for name in ("node1", "node3"):
            door = (market.lab.underlay(name).address(version), 30090)
            with connected(market.outside, door, market.pods["a1"], version) as (client, served):
                assert carried(served, client) == _DATA
                assert way_of(served, version) == NARROW


@pytest.mark.parametrize("version", FAMILIES)
def test_senders_hear_of_a_narrow_way_to_the_endpoint(market: Market, version: int) -> None:
    """Pods and a node send to the outside, which is the endpoint of a service."""
    end = {4: "203.0.113.80", 6: "2001:db8::80"}[version]
    market.serve(*market.wire(BULK, endpoint_slice("shop/bulk", (str(BULK_PORT),), end)))
    found = market.world().services[BULK.ref].addresses
    door = (next(str(address) for address in found if address.version == version), 90)
    with narrow(market, version):
        for place in (market.pods["c1"], market.pods["c2"], market.nodes["node1"]):
            with connected(place, door, market.outside, version) as (client, served):
                assert carried(client, served) == _DATA
                assert way_of(client, version) == NARROW


@contextlib.contextmanager
def connected(
    caller: Place, called: tuple[str, int], end: Place, version: int
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: of who calls, and of the endpoint that he is led to."""

    def listen() -> socket.socket:
        made = bound(end.address(version), version, socket.SOCK_STREAM, BULK_PORT)
        made.listen()
        made.settimeout(20)
        return made

    with (
        end.within(listen) as listener,
        caller.within(lambda: socket.create_connection(called, timeout=20)) as client,
    ):
        served, _ = listener.accept()
        with served:
            served.settimeout(20)
            yield client, served


def carried(sender: socket.socket, receiver: socket.socket) -> bytes:
    """What comes of a lot that is sent."""
    thread = threading.Thread(target=sender.sendall, args=(_DATA,), daemon=True)
    thread.start()
    got = b""
    while len(got) < len(_DATA) and (more := receiver.recv(1 << 16)):
        got += more
    thread.join()
    return got


def way_of(sock: socket.socket, version: int) -> int:
    """Bytes of a packet that a socket takes its way to carry."""
    return sock.getsockopt(*_MTU[version])
