"""Which service has an address and a port, and which node port.

Services claim them by what they say. Where several claim the same, the oldest has it: the one
created first, and of those created at once the first by namespace and name.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from enum import StrEnum
from typing import NamedTuple

from ovsnet.model import IPAddress, Protocol, Service, ServicePort
from ovsnet.services.world import World, in_pod_range


class Face(StrEnum):
    """By what a service is called."""

    CLUSTER = "cluster address"
    LOAD_BALANCER = "load balancer address"
    EXTERNAL = "external address"
    NODE_PORT = "node port"
    HEALTH_CHECK = "health check node port"


class Hindrance(StrEnum):
    """Why something of a service, or of its slices, is not done."""

    POD_RANGE = "it lies in a node's pod range"
    CLUSTER_ADDRESS = "it is another service's cluster address"
    TAKEN = "an older service has it"
    SERVICE = "it is a service's cluster address"


class Spot(NamedTuple):
    """What is claimed: a port of an address, or, without one, of the nodes."""

    address: IPAddress | None
    protocol: Protocol
    port: int

    def __str__(self) -> str:
        where = "node's " if self.address is None else f"{self.address}, "
        return f"{where}{self.protocol} port {self.port}"


class Claim(NamedTuple):
    """A spot that a service wants for a face. A health check has no port of the service."""

    spot: Spot
    service: Service
    face: Face
    port: ServicePort | None


def by_age(world: World) -> list[Service]:
    """The services that switches forward for, the oldest first. One without a cluster address is
    headless or an ExternalName and left to DNS, whatever else it says.
    """
    ours = [service for service in world.services.values() if service.addresses]
    return sorted(ours, key=lambda service: (service.created, service.ref))


def addresses(service: Service) -> Iterator[tuple[Face, IPAddress]]:
    """Every address that a service says it has, in the families that it has.

    An address that is a load balancer's as well as external counts as the load balancer's, so
    that source ranges hold for it.
    """
    for face, found in (
        (Face.CLUSTER, service.addresses),
        (Face.LOAD_BALANCER, service.load_balancer),
        (Face.EXTERNAL, service.external),
    ):
        yield from ((face, a) for a in found if a.version in service.families)


def claims(service: Service) -> Iterator[Claim]:
    """Everything that a service wants. A node port is one in all families of addresses, as the API
    gives them out; a `healthCheckNodePort` is one, too, of TCP.
    """
    for face, address in addresses(service):
        for port in service.ports:
            yield Claim(Spot(address, port.protocol, port.port), service, face, port)
    for port in service.ports:
        if port.node_port:
            spot = Spot(None, port.protocol, port.node_port)
            yield Claim(spot, service, Face.NODE_PORT, port)
    if service.health_check:
        spot = Spot(None, Protocol.TCP, service.health_check)
        yield Claim(spot, service, Face.HEALTH_CHECK, None)


def cluster_addresses(world: World, among: Container[IPAddress]) -> dict[IPAddress, Service]:
    """Which of these are services' cluster addresses, and of which service: the oldest."""
    found: dict[IPAddress, Service] = {}
    for service in by_age(world):
        for face, address in addresses(service):
            if face is Face.CLUSTER and address in among and not in_pod_range(world, address):
                found.setdefault(address, service)
    return found


def hindrance(world: World, service: Service, face: Face, address: IPAddress) -> Hindrance | None:
    """Why a service cannot have an address at all, if it cannot."""
    if in_pod_range(world, address):
        return Hindrance.POD_RANGE
    if face is not Face.CLUSTER:
        first = cluster_addresses(world, {address}).get(address, service)
        return None if first == service else Hindrance.CLUSTER_ADDRESS
    return None


def possible(world: World, claim: Claim) -> bool:
    """Whether a service can have what it claims, unless others claim it too."""
    address = claim.spot.address
    return address is None or hindrance(world, claim.service, claim.face, address) is None


def holder(world: World, spot: Spot) -> Claim | None:
    """Who has an address and port, or a node port: the oldest of those that want and can."""
    for service in by_age(world):
        for claim in claims(service):
            if claim.spot == spot and possible(world, claim):
                return claim
    return None


def owner(world: World, address: IPAddress) -> Service | None:
    """The oldest service that has an address, whatever its ports."""
    for service in by_age(world):
        for face, one in addresses(service):
            if one == address and hindrance(world, service, face, one) is None:
                return service
    return None
