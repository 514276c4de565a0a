"""By what a service is called, and who has a door that several services want.

A door is an address and port, or a node port. Of several services the one has it whose cluster
address it is, then the oldest one.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from enum import IntEnum

import msgspec

from ovsnet.model import IPAddress, IPNetwork, Protocol, Service, ServicePort, ServiceRef


class Way(IntEnum):
    """How a service is called: on which terms it is served depends on it."""

    CLUSTER = 0
    LOAD_BALANCER = 1
    EXTERNAL = 2
    NODE_PORT = 3
    HEALTH_CHECK = 4


class Face(msgspec.Struct, frozen=True):
    """What only one service can have: an address and port, or a node port of both families."""

    protocol: Protocol
    port: int
    address: IPAddress | None = None


class Entrance(msgspec.Struct, frozen=True):
    """One of a service's doors: the face, in which way, and to which of its ports it leads.

    `field` is where the API has it. A health check leads to no port.
    """

    face: Face
    way: Way
    field: str
    port: ServicePort | None = None


def addresses(service: Service) -> Iterator[tuple[IPAddress, Way, str]]:
    """A service's addresses of its families, in which way each is used, and the field that names
    it. Of an address that is used in several ways the first one counts: one of a load balancer
    stays bound to its sources.
    """
    for found, way, field in (
        (service.addresses, Way.CLUSTER, "spec.clusterIPs"),
        (service.load_balancer, Way.LOAD_BALANCER, "status.loadBalancer.ingress"),
        (service.external, Way.EXTERNAL, "spec.externalIPs"),
    ):
        yield from ((a, way, field) for a in found if a.version in service.families)


def entrances(service: Service) -> tuple[Entrance, ...]:
    """All doors of a service, each once."""
    found: dict[Face, Entrance] = {}
    for entrance in _all(service):
        found.setdefault(entrance.face, entrance)
    return tuple(found.values())


def _all(service: Service) -> Iterator[Entrance]:
    # Only what has a cluster address is forwarded for: headless services are left to DNS.
    if not service.addresses:
        return
    for address, way, field in addresses(service):
        for port in service.ports:
            yield Entrance(Face(port.protocol, port.port, address), way, field, port)
    for port in service.ports:
        if port.node_port:
            face = Face(port.protocol, port.node_port)
            yield Entrance(face, Way.NODE_PORT, "spec.ports.nodePort", port)
    if service.health_check:
        face = Face(Protocol.TCP, service.health_check)
        yield Entrance(face, Way.HEALTH_CHECK, "spec.healthCheckNodePort")


_Standing = tuple[bool, str, ServiceRef]


class Claims:
    """Who wants which faces."""

    def __init__(self) -> None:
        self._claims: dict[Face, tuple[_Standing, ...]] = {}

    def holder(self, face: Face) -> ServiceRef:
        """Who has a face that somebody wants."""
        return self._claims[face][0][2]

    def add(self, service: Service, wanted: Iterable[Entrance]) -> Iterator[ServiceRef]:
        """A service wants these; yields who else does."""
        for entrance in wanted:
            before = self._claims.get(entrance.face, ())
            mine = _standing(service, entrance)
            self._claims[entrance.face] = tuple(sorted((*before, mine))) if before else (mine,)
            yield from (ref for _, _, ref in before)

    def remove(self, service: Service, wanted: Iterable[Entrance]) -> Iterator[ServiceRef]:
        """A service wants these no more; yields who else does."""
        for entrance in wanted:
            others = tuple(c for c in self._claims[entrance.face] if c[2] != service.ref)
            if others:
                self._claims[entrance.face] = others
            else:
                del self._claims[entrance.face]
            yield from (ref for _, _, ref in others)


def _standing(service: Service, entrance: Entrance) -> _Standing:
    return entrance.way is not Way.CLUSTER, service.created, service.ref


class Ranges:
    """Networks that overlap nowhere, to look addresses up in."""

    def __init__(self, networks: Iterable[IPNetwork] = ()) -> None:
        found = sorted(
            (n.version, int(n.network_address), int(n.broadcast_address)) for n in networks
        )
        self._spans = found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __contains__(self, address: IPAddress) -> bool:
        value = int(address)
        place = bisect.bisect(self._spans, (address.version, value, 1 << 128)) - 1
        if place < 0:
            return False
        version, first, last = self._spans[place]
        return version == address.version and first <= value <= last
