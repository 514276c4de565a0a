"""Traffic through a service's address against the endpoint's own: throughput, round trip of a
request, connections a second; and how evenly connections spread over endpoints.

The same two switches carry both. The services are IPv4's, with one endpoint each, but for the one
that is spread over ten.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from rich.console import Console

from ovsnet.model import (
    EndpointSlice,
    Protocol,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from tests.bench.figures import Figure, figure, show, write
from tests.bench.lab import NAMESPACE, Place, labs, run
from tests.bench.traffic import MEASURES, servers

ENDPOINTS = 10
SPREAD = 10_000
_CONNECTIONS = 2_000
_TARGET = 0.9
_IPERF = 5201
_ECHO = 7000
# A server still remembers connections that a service has led to it. One from the same port of the
# client to the same port of the server would meet them, so whatever is measured has its own ports.
_DIRECT = 7900
_SHARED = 7100
_NEAR, _FAR, _MANY = "10.96.0.11", "10.96.0.12", "10.96.0.13"

# Connects so many times in a row, reads one octet each time, and says how many a second.
_CLIENT = """
import socket, sys, time
where, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
begun = time.perf_counter()
for _ in range(count):
    with socket.create_connection(where, 10) as s:
        print(s.recv(8).decode(), end=" ")
print(count / (time.perf_counter() - begun))
"""
# Sends the number of the port that was called to everybody who connects to one of these.
_SERVER = """
import selectors, socket, sys
watched = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", port))
    s.listen(512)
    watched.register(s, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in watched.select():
        c, _ = key.fileobj.accept()
        c.sendall(str(key.fileobj.getsockname()[1]).encode())
        c.close()
"""


def figures(rounds: int) -> list[Figure]:
    """Every figure, through the service and directly, measured in turn."""
    rows: list[Figure] = []
    with labs() as lab, servers(lab.ours), contextlib.ExitStack() as stack:
        ends = {"same node": (_NEAR, lab.ours.near), "across nodes": (_FAR, lab.ours.far)}
        for _, server in ends.values():
            stack.enter_context(_echo(server))
        services = [_service(address) for address in (_NEAR, _FAR, _MANY)]
        slices = [_slice(address, server.address, [_ECHO]) for address, server in ends.values()]
        many = [_SHARED + k for k in range(ENDPOINTS)]
        lab.serve(services, [*slices, _slice(_MANY, lab.ours.near.address, many)])
        client = lab.ours.client
        for where, (address, server) in ends.items():
            through = Place(server.netns, address)
            for what in ("TCP throughput", "small packets"):
                measure = MEASURES[what]
                ours: list[float] = []
                direct: list[float] = []
                for _ in range(rounds):
                    ours += measure.of(client, through)
                    direct += measure.of(client, server)
                rows.append(_row(f"{what}, {where}", measure.unit, ours, direct))
            ours, direct = [], []
            for _ in range(rounds):
                ours.append(_connections(client, address, _ECHO)[1])
                direct.append(_connections(client, server.address, _DIRECT)[1])
            rows.append(_row(f"connections, {where}", "1/s", ours, direct))
        found, _ = _connections(client, _MANY, _ECHO, SPREAD)
        shares = [count * ENDPOINTS / SPREAD for count in found.values()]
        assert len(shares) == ENDPOINTS, found
        what = f"share of an endpoint of {ENDPOINTS}, {SPREAD:,} connections"
        rows.append(figure(f"{what}, smallest", "of its even share", [min(shares)]))
        rows.append(figure(f"{what}, largest", "of its even share", [max(shares)]))
    return rows


def _row(what: str, unit: str, ours: list[float], direct: list[float]) -> Figure:
    against = ("the pod's own address", direct)
    return figure(f"{what}, through a service", unit, ours, against, _TARGET, False)


@contextlib.contextmanager
def _echo(place: Place) -> Iterator[None]:
    """A server at the ports of all endpoints, and at the one for direct calls."""
    ports = map(str, (_ECHO, _DIRECT, *(_SHARED + k for k in range(ENDPOINTS))))
    with subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{place.netns}", "python3", "-c", _SERVER, *ports],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline()
            yield
        finally:
            server.terminate()


def _connections(
    client: Place, address: str, port: int, count: int = _CONNECTIONS
) -> tuple[Counter[str], float]:
    """How many connections reached which port, and how many a second there were."""
    *ports, rate = run(client, "python3", "-c", _CLIENT, address, str(port), str(count)).split()
    return Counter(ports), float(rate)


def _service(address: str) -> Service:
    return Service(
        NAMESPACE,
        f"at-{address}",
        addresses=(IPv4Address(address),),
        ports=(
            ServicePort("iperf", Protocol.TCP, _IPERF),
            ServicePort("iperf-udp", Protocol.UDP, _IPERF),
            ServicePort("echo", Protocol.TCP, _ECHO),
        ),
    )


def _slice(service: str, address: str, echo: list[int]) -> EndpointSlice:
    """A slice of one endpoint, or of several that differ in their ports alone."""
    return EndpointSlice(
        NAMESPACE,
        f"at-{service}-a",
        service=f"at-{service}",
        ports=(
            SlicePort("iperf", Protocol.TCP, _IPERF),
            SlicePort("iperf-udp", Protocol.UDP, _IPERF),
            *(SlicePort("echo", Protocol.TCP, port) for port in echo),
        ),
        endpoints=(SliceEndpoint(ip_address(address), node="elsewhere"),),
    )


if __name__ == "__main__":
    found = figures(rounds=3)
    show(found, Console())
    write(found, Path("build/bench/services_traffic.json"))
