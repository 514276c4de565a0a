"""What services and slices say and cannot have: the list of it, for their owners."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ovsnet.model import IPAddress, ServiceRef
from ovsnet.services.claims import (
    Face,
    Hindrance,
    Spot,
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
    """An address that stands in several fields of a service is judged by the first one."""
    for service in by_age(world):
        seen: set[IPAddress] = set()
        for face, address in addresses(service):
            reason = hindrance(world, service, face, address)
            if reason is not None and address not in seen:
                yield Objection(service.ref, FIELDS[face], str(address), reason)
            seen.add(address)


def _about_ports(world: World) -> Iterator[Objection]:
    """What a service could have if another one had not been there before. What it claims twice, by
    an address that it has in two ways, is named once.
    """
    for service in by_age(world):
        seen: set[Spot] = set()
        for claim in claims(service):
            first = holder(world, claim.spot)
            taken = first is not None and first.service != service
            if taken and claim.spot not in seen and possible(world, claim):
                seen.add(claim.spot)
                field = FIELDS[claim.face]
                yield Objection(service.ref, field, str(claim.spot), Hindrance.TAKEN)


def _about_endpoints(world: World) -> Iterator[Objection]:
    ours = {service.ref for service in by_age(world)}
    for one in world.slices.values():
        if one.owner not in ours:
            continue
        services = cluster_addresses(world, [entry.address for entry in one.endpoints])
        for entry in one.endpoints:
            if entry.address in services:
                yield Objection(one.owner, "endpoints", str(entry.address), Hindrance.SERVICE)
