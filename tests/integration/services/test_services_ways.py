"""Two ways to one endpoint, and ways that are narrower than both of their ends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from answerers import bound
from calling import client_port
from market import FAMILIES, PORTS, Market
from places import Place
from service_objects import endpoint_slice, service

WEB = service("shop/web", "http=80@30080", "dns=53@30080/UDP", cluster="10.96.0.1 fd00:96::1")
BEHIND = ("http=8080", "dns=8053/UDP")


@pytest.mark.parametrize("first", ["the service", "the endpoint"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("version", FAMILIES)
def test_one_client_port_by_two_ways_to_one_endpoint(
    market: Market, version: int, protocol: str, first: str
) -> None:
    behind = {4: "10.244.1.5", 6: "fd00:10:244:1::5"}[version]
    market.serve(*market.wire(WEB, endpoint_slice("shop/web", BEHIND, behind)))
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
        for way in (*ways, *ways):
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
