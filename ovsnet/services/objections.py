"""What services and slices say and cannot have: the list of it, for their owners."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ovsnet.model import ServiceRef
from ovsnet.services.claims import (
    Face,
    Hindrance,
    addresses,
    by_age,
    claims,
    cluster_addresses,
    hindrance,
    holder,
    possible,
)
from ovsnet.services.world import World

FIELDS = {
    Face.CLUSTER: "spec.clusterIPs",
    Face.LOAD_BALANCER: "status.loadBalancer.ingress",
    Face.EXTERNAL: "spec.externalIPs",
    Face.NODE_PORT: "spec.ports.nodePort",
    Face.HEALTH_CHECK: "spec.healthCheckNodePort",
}
"""The fields of a Service that faces come from."""

ENDPOINTS = "endpoints"
"""The field of an EndpointSlice that endpoints stand in."""


class Objection(msgspec.Struct, frozen=True, order=True):
    """What of a service (or of its slices) is not done: the field, the value there, and why."""

    service: ServiceRef
    field: str
    value: str
    reason: Hindrance


def objections(world: World) -> tuple[Objection, ...]:
    """All of them, each once, in order."""
    return tuple(sorted({*_about_addresses(world), *_about_ports(world), *_about_endpoints(world)}))


def _about_addresses(world: World) -> Iterator[Objection]:
    for service in by_age(world):
        for face, address in addresses(service):
            reason = hindrance(world, service, face, address)
            if reason is not None:
                yield Objection(service.ref, FIELDS[face], str(address), reason)


def _about_ports(world: World) -> Iterator[Objection]:
    """One of each claim that another one comes before; the same port of a service may well be
    claimed twice, for an address that it has in two ways.
    """
    for service in by_age(world):
        for claim in claims(service):
            first = holder(world, claim.spot)
            if first is None or not possible(world, claim):
                continue
            if (first.service, first.port) != (service, claim.port):
                field = FIELDS[claim.face]
                yield Objection(service.ref, field, str(claim.spot), Hindrance.TAKEN)


def _about_endpoints(world: World) -> Iterator[Objection]:
    ours = {service.ref for service in by_age(world)}
    for one in world.slices.values():
        if one.owner in ours:
            found = [entry.address for entry in one.endpoints]
            for address in cluster_addresses(world, found):
                yield Objection(one.owner, ENDPOINTS, str(address), Hindrance.SERVICE)
