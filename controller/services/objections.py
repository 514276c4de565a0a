"""What is wrong with services, so that they are not served as they stand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec

from ovsnet.controller.services.doors import Entrance, Ranges, Way, addresses, entrances
from ovsnet.flows.balance import MOST_ENDPOINTS
from ovsnet.model import (
    EndpointSlice,
    Fault,
    IPAddress,
    Service,
    ServiceRef,
    SliceRef,
)


class Objection(msgspec.Struct, frozen=True):
    """A part of a service or of one of its slices that is not served: which field, and why.

    `part` is the slice, if it is one; `address` the service's address that is refused altogether,
    if it is one.
    """

    service: ServiceRef
    uid: str
    field: str
    reason: str
    part: SliceRef | None = None
    part_uid: str = ""
    address: IPAddress | None = None


def objections(
    service: Service,
    slices: Iterable[EndpointSlice],
    *,
    pod_ranges: Ranges,
    service_ranges: Ranges,
    clusters: Mapping[IPAddress, Collection[ServiceRef]],
    holder: Callable[[Entrance], ServiceRef],
) -> Iterator[Objection]:
    """What is wrong with a service, in the order of its fields.

    `clusters` are all cluster addresses with the services that have them, `holder` says who has a
    door that the service wants.
    """

    def refuse(field: str, reason: str, address: IPAddress | None = None) -> Objection:
        return Objection(service.ref, service.uid, field, reason, address=address)

    for fault in service.faults:
        yield refuse(fault.field, fault.reason)
    judged: set[IPAddress] = set()
    refused: set[IPAddress] = set()
    for address, way, field in addresses(service):
        if address in judged:
            # The first way in which it is used counts, for its doors too.
            continue
        judged.add(address)
        reason = _why_not(service, address, way, pod_ranges, service_ranges, clusters)
        if reason is not None:
            refused.add(address)
            yield refuse(field, f"{address}: {reason}", address)
    for entrance in entrances(service):
        other = holder(entrance)
        if other != service.ref and entrance.face.address not in refused:
            face = entrance.face
            what = f"{face.protocol} port {face.port}"
            where = f"{face.address}, {what}" if face.address is not None else f"node's {what}"
            yield refuse(entrance.field, f"{where}: service {other} has it")
    if not service.addresses:
        # DNS alone reads the slices of headless services.
        return
    for part in sorted(slices, key=lambda part: part.ref):
        for fault in _faults_of(part, clusters):
            yield Objection(service.ref, service.uid, fault.field, fault.reason, part.ref, part.uid)
    count = len({e.address for part in slices for e in part.endpoints})
    if count > MOST_ENDPOINTS:
        yield refuse("endpoints", f"{count} endpoints: the first {MOST_ENDPOINTS} are used")


def _why_not(
    service: Service,
    address: IPAddress,
    way: Way,
    pod_ranges: Ranges,
    service_ranges: Ranges,
    clusters: Mapping[IPAddress, Collection[ServiceRef]],
) -> str | None:
    if address in pod_ranges:
        return "it is in a node's pod range"
    if way is Way.CLUSTER:
        if service_ranges and address not in service_ranges:
            return "it is in none of the cluster's service ranges"
        return None
    others = [ref for ref in clusters.get(address, ()) if ref != service.ref]
    return f"it is the cluster address of service {min(others)}" if others else None


def _faults_of(
    part: EndpointSlice, clusters: Mapping[IPAddress, Collection[ServiceRef]]
) -> Iterator[Fault]:
    yield from part.faults
    # Which one of the slice's endpoints it is cannot be told: those with faults are left out.
    for endpoint in part.endpoints:
        if endpoint.address in clusters:
            yield Fault("endpoints", f"{endpoint.address}: it is the cluster address of a service")
