"""Which calls of services a question is about: who calls, by which address and port, and how that
meets a switch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from ovsnet.controller.inquiry.ends import End
from ovsnet.controller.inquiry.world import Snapshot
from ovsnet.model import EndpointSlice, IPAddress, Protocol, Service, ServiceRef, SliceRef
from ovsnet.names import NODE_PORT_OFFSET, PortRange
from ovsnet.services.evaluate import (
    Dropped,
    HealthChecked,
    NotAService,
    Refused,
    Served,
    evaluate,
    onward,
)
from ovsnet.services.world import Call, Client, Whence, World, own_addresses

Taken: TypeAlias = Served | Refused | Dropped | HealthChecked
"""What becomes of a call that a service takes."""

_ANSWERED: Final = (Served, HealthChecked)


class ServiceCall(msgspec.Struct, frozen=True):
    """A call that a service takes, at the node whose switch it meets.

    `destination` is where it goes when it comes there: a node sends what is for its node ports to
    its node port address. `relayed` says that it has come from another node, where it is nobody's.
    """

    call: Call
    destination: IPAddress
    taken: Taken
    relayed: bool = False


def service_call(
    seen: Snapshot,
    source: End,
    destination: IPAddress,
    protocol: Protocol | None,
    port: int | None,
) -> ServiceCall | None:
    """The call that an end makes; None if no service has to do with it.

    Where somebody outside may come in by any node, it is the first one that serves him.
    """
    address = source.address(destination.version)
    if address is None:
        return None
    refused = {each.service for each in seen.objections if each.address == destination}
    cluster = _concerned(seen, destination, port)
    found: ServiceCall | None = None
    for client in _clients(seen, source, address, destination):
        call = Call(client, destination, protocol, port)
        here = _at_a_switch(cluster, seen.node_ports, call, relayed=False)
        if here is None and (further := onward(cluster, call)) is not None:
            here = _at_a_switch(cluster, seen.node_ports, further, relayed=True)
        if here is None or here.taken.service in refused:
            continue
        if isinstance(here.taken, _ANSWERED):
            return here
        found = found or here
    return found


def _clients(
    seen: Snapshot, source: End, address: IPAddress, destination: IPAddress
) -> Iterator[Client]:
    if source.pod is not None:
        yield Client(Whence.POD, source.node, address)
    elif source.node:
        own = destination in seen.nodes[source.node].node.addresses
        yield Client(Whence.NODE, source.node, destination if own else address)
    else:
        nodes = sorted(seen.nodes)
        at = [name for name in nodes if destination in seen.nodes[name].node.addresses]
        for name in at[:1] or nodes:
            yield Client(Whence.OUTSIDE, name, address)


def _at_a_switch(
    cluster: World, node_ports: PortRange, call: Call, *, relayed: bool
) -> ServiceCall | None:
    destination = _as_it_comes(cluster, node_ports, call)
    taken = evaluate(cluster, call)
    if destination is None or isinstance(taken, NotAService):
        return None
    return ServiceCall(call, destination, taken, relayed)


def _as_it_comes(cluster: World, node_ports: PortRange, call: Call) -> IPAddress | None:
    """Where a call goes when it meets the switch. None if it does not: what a node itself gets for
    its own addresses it keeps, but for node ports, and what it gets for others' goes past the
    switch.
    """
    destination, name = call.destination, call.client.node
    if call.client.whence is Whence.POD:
        return destination
    if destination in own_addresses(cluster, name):
        first, last = node_ports
        if call.port is None or not first <= call.port <= last:
            return None
        ranges = cluster.nodes[name].pod_cidrs
        of_family = (r for r in ranges if r.version == destination.version)
        return next((network[NODE_PORT_OFFSET] for network in of_family), None)
    others = any(destination in node.addresses for node in cluster.nodes.values())
    return None if others else destination


def _concerned(seen: Snapshot, destination: IPAddress, port: int | None) -> World:
    """What decides about calls of this destination, and nothing else of the cluster: its services
    are many, and every decision looks at all of them.
    """
    services = {ref: each for ref, each in seen.services.items() if _has(each, destination, port)}
    slices = {ref: part for ref, part in seen.slices.items() if part.owner in services}
    services |= _called_by_endpoints(seen, slices)
    nodes = {name: view.node for name, view in seen.nodes.items()}
    return World(nodes, services, slices)


def _has(service: Service, destination: IPAddress, port: int | None) -> bool:
    return destination in (
        *service.addresses,
        *service.load_balancer,
        *service.external,
    ) or port in (*(each.node_port for each in service.ports), service.health_check)


def _called_by_endpoints(
    seen: Snapshot, slices: Mapping[SliceRef, EndpointSlice]
) -> dict[ServiceRef, Service]:
    """The services whose cluster addresses are endpoints of these slices, which does not do."""
    endpoints = {endpoint.address for part in slices.values() for endpoint in part.endpoints}
    return {
        ref: each for ref, each in seen.services.items() if not endpoints.isdisjoint(each.addresses)
    }
