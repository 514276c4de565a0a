"""From a service and the endpoints of its ports to blocks of flows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ovsnet.controller.services.doors import Entrance, Way
from ovsnet.controller.services.endpoints import Choice
from ovsnet.flows.flow import Block, Flow, block
from ovsnet.flows.priorities import BEFORE, SOONER
from ovsnet.flows.service import (
    Door,
    EndpointSet,
    Target,
    Terms,
    balance,
    balance_instead,
    called,
    called_by_the_few,
    called_from_inside,
    forgotten,
    healthy_here,
    inside_by_the_few,
    service_owner,
    set_id,
    sticky,
)
from ovsnet.flows.serving import healthy, unhealthy
from ovsnet.model import IPAddress, Protocol, Service, ServicePort

VERSIONS = (4, 6)

Choices = Mapping[tuple[ServicePort, int], Choice]
"""The endpoints of each port of a service in each family."""

_NO_CHOICE = Choice()


class Compiled(msgspec.Struct, frozen=True):
    """A service's flows: for all nodes, for those of zones and for single nodes.

    `addresses` are those that it is called by, `counts` the numbers of endpoints that are chosen
    among: what it shares with other services. `sets` is how many of its ports have endpoints, those
    of each family by themselves.
    """

    everywhere: Block
    zones: Mapping[str, Block]
    nodes: Mapping[str, Block]
    addresses: frozenset[IPAddress]
    counts: frozenset[int]
    sets: int


class _Port(msgspec.Struct, frozen=True):
    """A port of a service in one family, with the sets that its endpoints make."""

    choice: Choice
    cluster: EndpointSet
    local: EndpointSet

    def part(self, name: str) -> EndpointSet:
        """The set of those endpoints that are meant for some nodes."""
        cluster = self.cluster
        wider = set_id("part", str(cluster.id), name)
        return EndpointSet(wider, cluster.version, cluster.protocol, cluster.affinity)


def compiled(service: Service, doors: tuple[Entrance, ...], choices: Choices) -> Compiled:
    """The flows of a service that has these doors."""
    ports = {
        (port, version): _port(service, port, version, choices[port, version])
        for port in service.ports
        for version in VERSIONS
    }
    name = str(service.ref)
    used = [made for made in ports.values() if made.choice.everywhere]
    nodes = frozenset(node for made in used for node in _nodes_of(made.choice))
    if service.health_check:
        nodes |= frozenset(node for made in used for node in made.choice.healthy)
    zones = frozenset(zone for made in used for zone in made.choice.zones)
    return Compiled(
        everywhere=block(service_owner(name), _everywhere(service, doors, ports)),
        zones={
            zone: block(service_owner(f"{name} in zone {zone}"), _in_zone(used, zone))
            for zone in sorted(zones)
        },
        nodes={
            node: block(service_owner(f"{name} on this node"), _on_node(service, doors, used, node))
            for node in sorted(nodes)
        },
        addresses=frozenset(d.face.address for d in doors if d.face.address is not None),
        counts=frozenset(_counts(used)) - {0, 1},
        sets=len(used),
    )


def _port(service: Service, port: ServicePort, version: int, choice: Choice) -> _Port:
    name = (service.namespace, service.name, port.name, port.protocol, str(version))
    what = (version, port.protocol, service.affinity)
    if not (service.internal_local or service.external_local or service.health_check):
        # Nobody asks who is local, so nodes need no flows of their own.
        choice = msgspec.structs.replace(choice, local={}, healthy=frozenset())
    local = EndpointSet(set_id(*name, "local"), *what, keeping=service.external_local)
    return _Port(choice, EndpointSet(set_id(*name), *what), local)


def set_names(service: Service) -> Iterator[tuple[int, str]]:
    """The ids of the sets of endpoints that a service's flows may be about, and what these are."""
    for port in service.ports:
        for version in service.families:
            made = _port(service, port, version, _NO_CHOICE)
            name = f"{service.ref}, port {port.name or port.port}, over IPv{version}"
            yield made.cluster.id, name
            yield made.local.id, f"{name}, on this node"
            yield made.part("zone").id, f"{name}, meant for this zone"
            yield made.part("node").id, f"{name}, meant for this node"


def _nodes_of(choice: Choice) -> Iterator[str]:
    yield from choice.nodes
    yield from choice.local


def _counts(ports: list[_Port]) -> Iterator[int]:
    for port in ports:
        choice = port.choice
        yield len(choice.everywhere)
        for some in (choice.zones, choice.nodes, choice.local):
            yield from map(len, some.values())


def _everywhere(
    service: Service,
    doors: tuple[Entrance, ...],
    ports: Mapping[tuple[ServicePort, int], _Port],
) -> Iterator[Flow]:
    for entrance in doors:
        for version in _versions(service, entrance):
            door = Door(version, entrance.face.protocol, entrance.face.port, entrance.face.address)
            if entrance.port is None:
                yield called(door, unhealthy(version))
            else:
                yield from _opened(service, entrance.way, door, ports[entrance.port, version])
    for port in ports.values():
        yield from balance(port.cluster, port.choice.everywhere)
        if service.affinity:
            yield from sticky(port.cluster, port.choice.everywhere)


def _versions(service: Service, entrance: Entrance) -> tuple[int, ...]:
    if entrance.face.address is not None:
        return (entrance.face.address.version,)
    return service.families


def _opened(service: Service, way: Way, door: Door, port: _Port) -> Iterator[Flow]:
    """The flows of one door."""
    some = bool(port.choice.everywhere)
    if way is Way.CLUSTER:
        if service.internal_local:
            yield called(door, port.local, Terms(local_only=some))
        else:
            yield called(door, port.cluster)
        return
    local = service.external_local
    endpoints = port.local if local else port.cluster
    terms = Terms(local_only=some, keep_source=True) if local else Terms()
    if way is Way.LOAD_BALANCER and service.sources is not None:
        sources = [network for network in service.sources if network.version == door.version]
        yield from called_by_the_few(door, endpoints, sources, terms)
        if local:
            yield from inside_by_the_few(door, port.cluster, sources)
    else:
        yield called(door, endpoints, terms)
        if local:
            yield called_from_inside(door, port.cluster)


def _in_zone(ports: list[_Port], zone: str) -> Iterator[Flow]:
    for port in ports:
        yield from _hinted(port, "zone", port.choice.zones.get(zone, ()), SOONER)


def _hinted(port: _Port, name: str, targets: tuple[Target, ...], priority: int) -> Iterator[Flow]:
    """The flows where only those endpoints will do that hints mean for a zone or node; with any."""
    yield from balance_instead(port.cluster, port.part(name), targets, priority)
    if targets and port.cluster.affinity:
        meant = frozenset(targets)
        others = (target for target in port.choice.everywhere if target not in meant)
        yield from sticky(port.cluster, targets, priority)
        yield from forgotten(port.cluster, others, priority)


def _on_node(
    service: Service, doors: tuple[Entrance, ...], ports: list[_Port], node: str
) -> Iterator[Flow]:
    for port in ports:
        yield from _hinted(port, "node", port.choice.nodes.get(node, ()), BEFORE)
        local: tuple[Target, ...] = port.choice.local.get(node, ())
        yield from balance(port.local, local)
        if service.affinity:
            yield from sticky(port.local, local)
    if any(node in port.choice.healthy for port in ports):
        for entrance in doors:
            if entrance.way is Way.HEALTH_CHECK:
                for version in service.families:
                    door = Door(version, Protocol.TCP, entrance.face.port)
                    yield healthy_here(door, healthy(version))
