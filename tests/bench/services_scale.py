"""How soon a change of a service's endpoints is in a switch, among ever so many services.

A real controller and a real switch of one node. What is measured begins when the news of the slice
comes in, and ends when the switch has acknowledged its flows.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
from rich.console import Console

from ovsnet.api import ENDPOINT_SLICE, SERVICE, Changed
from ovsnet.model import (
    EndpointSlice,
    Protocol,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from ovsnet.names import BRIDGE
from tests.bench.controlled import Controlled, controlled
from tests.bench.figures import Figure, figure, show, write

SIZES = (10, 1_000, 10_000)
ENDPOINTS = 3
MANY = 1_000
_CHANGES = 20
_FIRST_SERVICE = int(IPv4Address("10.96.0.10"))
_FIRST_ENDPOINT = int(IPv4Address("10.128.0.1"))


def figures(rounds: int) -> list[Figure]:
    """All rows, by number of services."""
    return [row for size in SIZES for row in _rows(size, rounds)]


def _rows(size: int, rounds: int) -> Iterator[Figure]:
    services = [_service(number) for number in range(size)]
    slices = [_slice(number, ENDPOINTS) for number in range(size)]
    with controlled({}) as lab:
        before = _flows(lab)
    objects = {
        SERVICE: {service.ref: service for service in services},
        ENDPOINT_SLICE: {part.ref: part for part in slices},
    }
    what = f"{size:,} services"
    with controlled(objects) as lab:
        yield figure(f"first load acknowledged, {what}", "ms", [lab.first.seconds * 1000])
        each = (_flows(lab) - before) / size
        yield figure(f"flows of a service with {ENDPOINTS} endpoints, {what}", "flows", [each])
        took = list(_changes(lab, slices[size // 2], _CHANGES * rounds))
        yield figure(f"slice to acknowledged, {what}", "ms", took)
        many = _slice(size // 2, MANY)
        took = list(_changes(lab, many, _CHANGES))
        yield figure(f"slice to acknowledged, {MANY:,} endpoints, {what}", "ms", took)


def _changes(lab: Controlled, part: EndpointSlice, count: int) -> Iterator[float]:
    """Milliseconds of changes: an endpoint goes and comes, and it is never the last in order."""
    middle = len(part.endpoints) // 2
    less = msgspec.structs.replace(
        part, endpoints=(*part.endpoints[:middle], *part.endpoints[middle + 1 :])
    )
    _change(lab, less)
    for number in range(count):
        yield _change(lab, less if number % 2 else part)


def _change(lab: Controlled, part: EndpointSlice) -> float:
    lab.loop.heard(Changed(ENDPOINT_SLICE, part.ref, part))
    return lab.served().seconds * 1000


def _flows(lab: Controlled) -> int:
    return len(lab.switch.ofctl("dump-flows", BRIDGE).splitlines())


def _service(number: int) -> Service:
    return Service(
        "bench",
        f"service-{number}",
        uid=f"uid-{number}",
        created="2026-01-01T00:00:00Z",
        addresses=(IPv4Address(_FIRST_SERVICE + number),),
        ports=(ServicePort("http", Protocol.TCP, 80),),
    )


def _slice(number: int, count: int) -> EndpointSlice:
    addresses = (IPv4Address(_FIRST_ENDPOINT + number * 8 + k) for k in range(count))
    return EndpointSlice(
        "bench",
        f"service-{number}-a",
        uid=f"slice-{number}",
        service=f"service-{number}",
        ports=(SlicePort("http", Protocol.TCP, 8080),),
        endpoints=tuple(SliceEndpoint(address, node="elsewhere") for address in addresses),
    )


if __name__ == "__main__":
    found = figures(rounds=1)
    show(found, Console())
    write(found, Path("build/bench/services_scale.json"))
