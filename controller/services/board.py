"""All services, kept up to date: what each event changes of the flows about them.

A service is compiled anew when it or one of its slices changes, or when another service takes or
leaves what it wants, too. What nodes have of it in common stands in commons: those of all nodes,
and those of each zone. Whatever the order of events, the result is that of putting everything in
at once; tests hold it to that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from ovsnet.controller.services.compile import VERSIONS, Choices, Compiled, compiled
from ovsnet.controller.services.complaints import has_sctp
from ovsnet.controller.services.doors import (
    Claims,
    Entrance,
    Ranges,
    Way,
    addresses,
    entrances,
)
from ovsnet.controller.services.endpoints import candidates, choose
from ovsnet.controller.services.nodeports import within
from ovsnet.controller.services.objections import Objection, objections
from ovsnet.flows.balance import spread_block, spread_owner
from ovsnet.flows.commons import Change, Commons
from ovsnet.flows.flow import Block, Flow, Owner, block
from ovsnet.flows.service import Target, called_otherwise, errors_for_a_node, service_owner
from ovsnet.model import (
    EndpointSlice,
    IPAddress,
    IPNetwork,
    Service,
    ServicePort,
    ServiceRef,
    SliceEndpoint,
    SliceRef,
)
from ovsnet.names import NODE_PORTS, PortRange


class Changes(msgspec.Struct, frozen=True):
    """What has changed: of commons (which have changed already), and of single nodes' blocks."""

    everywhere: list[Change]
    zones: Mapping[str, list[Change]]
    nodes: Mapping[str, tuple[list[Block], list[Owner]]]


class Board:
    """The services of the cluster. `fingerprint` is that of `Ledger`; cluster addresses must be in
    one of `ranges`, if there are any, and ports of nodes among `node_ports`.
    """

    def __init__(
        self,
        fingerprint: Callable[[Flow], int],
        ranges: Iterable[IPNetwork] = (),
        node_ports: PortRange = NODE_PORTS,
    ) -> None:
        self.node_ports = node_ports
        self._fingerprint = fingerprint
        self._ranges = Ranges(ranges)
        self._pod_ranges = Ranges()
        self._services: dict[ServiceRef, Service] = {}
        self._slices: dict[SliceRef, EndpointSlice] = {}
        self._slices_of: dict[ServiceRef, dict[SliceRef, EndpointSlice]] = {}
        self._claims = Claims()
        # Who has an address as its cluster address; who names it otherwise; whose endpoint it is.
        self._clusters: dict[IPAddress, set[ServiceRef]] = {}
        self._mentions: dict[IPAddress, Counter[ServiceRef]] = {}
        self._compiled: dict[ServiceRef, Compiled] = {}
        self._objections: dict[ServiceRef, tuple[Objection, ...]] = {}
        self._with_sctp: dict[ServiceRef, Service] = {}
        self._sets = 0
        self._on_nodes: dict[str, dict[ServiceRef, Block]] = {}
        self._shared: Counter[IPAddress | int] = Counter()
        self._node_addresses: frozenset[IPAddress] = frozenset()
        self._dirty: set[ServiceRef] = set()
        self._unsettled: set[IPAddress | int] = set()
        self._everywhere = Commons(fingerprint)
        self._zones: dict[str, Commons] = {}

    @property
    def services(self) -> Mapping[ServiceRef, Service]:
        """Every service of the cluster."""
        return MappingProxyType(self._services)

    @property
    def slices(self) -> Mapping[SliceRef, EndpointSlice]:
        """Every slice of the cluster."""
        return MappingProxyType(self._slices)

    @property
    def objections(self) -> Iterable[Objection]:
        """What is wrong with services and their slices, in the order of the services."""
        for ref in sorted(self._objections):
            yield from self._objections[ref]

    @property
    def with_sctp(self) -> Collection[Service]:
        """The services that have ports of SCTP."""
        return self._with_sctp.values()

    @property
    def sets(self) -> int:
        """How many ports of services have endpoints, those of each family by themselves."""
        return self._sets

    def commons(self, zone: str) -> tuple[Commons, ...]:
        """The flows that nodes of this zone have in common; of no zone is `""`."""
        if not zone:
            return (self._everywhere,)
        found = self._zones.get(zone)
        if found is None:
            found = self._zones[zone] = Commons(self._fingerprint)
            found.update(c.zones[zone] for c in self._compiled.values() if zone in c.zones)
        return self._everywhere, found

    @property
    def all_commons(self) -> tuple[Commons, ...]:
        """The flows that nodes have in common, of whatever zone."""
        return self._everywhere, *self._zones.values()

    def blocks_on(self, node: str) -> Iterable[Block]:
        """What a node has for itself."""
        return self._on_nodes.get(node, {}).values()

    def put_service(self, service: Service) -> None:
        """A service as it is now."""
        service = within(service, self.node_ports)
        before = self._services.get(service.ref)
        if before == service:
            return
        if before is not None:
            self._withdraw(before)
        self._services[service.ref] = service
        if has_sctp(service):
            self._with_sctp[service.ref] = service
        self._dirty.add(service.ref)
        self._dirty.update(self._claims.add(service, entrances(service)))
        for address, way, _ in addresses(service):
            if way is Way.CLUSTER:
                self._clusters.setdefault(address, set()).add(service.ref)
                self._dirty.update(self._mentions.get(address, ()))
            else:
                self._mention(address, service.ref, 1)

    def drop_service(self, ref: ServiceRef, uid: str = "") -> None:
        """A service is gone. With a uid, only that one and no later one of its name."""
        before = self._services.get(ref)
        if before is None or (uid and before.uid != uid):
            return
        del self._services[ref]
        self._dirty.add(ref)
        self._withdraw(before)

    def put_slice(self, part: EndpointSlice) -> None:
        """A slice as it is now."""
        before = self._slices.get(part.ref)
        if before == part:
            return
        if before is not None:
            self._take_out(before)
        self._slices[part.ref] = part
        self._slices_of.setdefault(part.owner, {})[part.ref] = part
        self._dirty.add(part.owner)
        for endpoint in part.endpoints:
            self._mention(endpoint.address, part.owner, 1)

    def drop_slice(self, ref: SliceRef, uid: str = "") -> None:
        """A slice is gone. With a uid, only that one and no later one of its name."""
        before = self._slices.get(ref)
        if before is None or (uid and before.uid != uid):
            return
        del self._slices[ref]
        self._take_out(before)

    def set_services(self, services: Iterable[Service]) -> None:
        """These are all the services there are."""
        present = {service.ref: service for service in services}
        for ref in self._services.keys() - present.keys():
            self.drop_service(ref)
        for service in present.values():
            self.put_service(service)

    def set_slices(self, slices: Iterable[EndpointSlice]) -> None:
        """These are all the slices there are."""
        present = {part.ref: part for part in slices}
        for ref in self._slices.keys() - present.keys():
            self.drop_slice(ref)
        for part in present.values():
            self.put_slice(part)

    def set_pod_ranges(self, ranges: Iterable[IPNetwork]) -> None:
        """These are the pod ranges of all nodes: no service may have an address there."""
        found = Ranges(ranges)
        if found != self._pod_ranges:
            self._pod_ranges = found
            self._dirty.update(self._services)

    def set_node_addresses(self, addresses: Iterable[IPAddress]) -> None:
        """These are all nodes' own addresses. A service may have one of them as well; what is not
        for the service then stays the node's.
        """
        found = frozenset(addresses)
        self._unsettled |= {a for a in found ^ self._node_addresses if a in self._shared}
        self._node_addresses = found

    def take_changes(self) -> Changes:
        """What has changed since this was called last."""
        work = _Work()
        work.shared, self._unsettled = frozenset(self._unsettled), set()
        for ref in sorted(self._dirty):
            self._settle(ref, work)
        self._dirty.clear()
        blocks, gone = work.everywhere
        for what in sorted(work.shared, key=str):
            if not self._shared[what]:
                del self._shared[what]
                gone.append(_shared_owner(what))
            else:
                blocks.append(_shared_block(what, what in self._node_addresses))
        return Changes(
            self._everywhere.update(blocks, gone) if blocks or gone else [],
            {zone: self._zones[zone].update(*work.zones[zone]) for zone in work.zones},
            work.nodes,
        )

    def _withdraw(self, service: Service) -> None:
        self._with_sctp.pop(service.ref, None)
        self._dirty.update(self._claims.remove(service, entrances(service)))
        for address, way, _ in addresses(service):
            if way is Way.CLUSTER:
                self._clusters[address].discard(service.ref)
                if not self._clusters[address]:
                    del self._clusters[address]
                self._dirty.update(self._mentions.get(address, ()))
            else:
                self._mention(address, service.ref, -1)

    def _take_out(self, part: EndpointSlice) -> None:
        here = self._slices_of[part.owner]
        del here[part.ref]
        if not here:
            del self._slices_of[part.owner]
        self._dirty.add(part.owner)
        for endpoint in part.endpoints:
            self._mention(endpoint.address, part.owner, -1)

    def _mention(self, address: IPAddress, ref: ServiceRef, count: int) -> None:
        here = self._mentions.setdefault(address, Counter())
        here[ref] += count
        if not here[ref]:
            del here[ref]
            if not here:
                del self._mentions[address]

    def _settle(self, ref: ServiceRef, work: _Work) -> None:
        """Compile a service anew, and note what of it changes."""
        before = self._compiled.pop(ref, None)
        self._objections.pop(ref, None)
        service = self._services.get(ref)
        now = None if service is None else self._compile(service)
        if now is not None:
            self._compiled[ref] = now
        if before == now:
            return
        self._sets += (now.sets if now else 0) - (before.sets if before else 0)
        owner = service_owner(str(ref))
        blocks, gone = work.everywhere
        if now is None:
            gone.append(owner)
        else:
            blocks.append(now.everywhere)
        for zone, here in _changed(before.zones if before else {}, now.zones if now else {}):
            if zone in self._zones:
                work.note(work.zones, zone, here, service_owner(f"{ref} in zone {zone}"))
        for node, here in _changed(before.nodes if before else {}, now.nodes if now else {}):
            work.note(work.nodes, node, here, service_owner(f"{ref} on this node"))
            on_node = self._on_nodes.setdefault(node, {})
            if here is None:
                del on_node[ref]
            else:
                on_node[ref] = here
            if not on_node:
                del self._on_nodes[node]
        work.shared |= self._count(before, -1) ^ self._count(now, 1)

    def _count(self, service: Compiled | None, step: int) -> frozenset[IPAddress | int]:
        """Count what a service shares with others; returns it."""
        if service is None:
            return frozenset()
        shared = service.addresses | service.counts
        for what in shared:
            self._shared[what] += step
        return shared

    def _compile(self, service: Service) -> Compiled:
        wrong = tuple(self._objections_to(service))
        if wrong:
            self._objections[service.ref] = wrong
        refused = {objection.address for objection in wrong if objection.address is not None}
        doors = tuple(
            entrance
            for entrance in entrances(service)
            if self._claims.holder(entrance.face) == service.ref
            and entrance.face.address not in refused
        )
        return compiled(service, doors, self._choices(service))

    def _choices(self, service: Service) -> Choices:
        slices = [part for _, part in sorted(self._slices_of.get(service.ref, {}).items())]
        return {
            (port, version): choose(candidates(self._endpoints(slices, port, version)))
            for port in service.ports
            for version in VERSIONS
        }

    def _endpoints(
        self, slices: Iterable[EndpointSlice], port: ServicePort, version: int
    ) -> Iterator[tuple[Target, SliceEndpoint]]:
        """The endpoints of a port, with those numbers that the slices have for it."""
        for part in slices:
            for each in part.ports:
                if (each.name, each.protocol) == (port.name, port.protocol):
                    for endpoint in part.endpoints:
                        address = endpoint.address
                        if address.version == version and address not in self._clusters:
                            yield Target(address, each.port), endpoint

    def _objections_to(self, service: Service) -> Iterator[Objection]:
        yield from objections(
            service,
            self._slices_of.get(service.ref, {}).values(),
            pod_ranges=self._pod_ranges,
            service_ranges=self._ranges,
            clusters=self._clusters,
            holder=self._holder,
        )

    def _holder(self, entrance: Entrance) -> ServiceRef:
        return self._claims.holder(entrance.face)


class _Work:
    """Blocks that change and owners whose blocks go, gathered until all services are settled."""

    def __init__(self) -> None:
        self.everywhere: tuple[list[Block], list[Owner]] = ([], [])
        self.zones: dict[str, tuple[list[Block], list[Owner]]] = {}
        self.nodes: dict[str, tuple[list[Block], list[Owner]]] = {}
        self.shared: frozenset[IPAddress | int] = frozenset()

    def note(
        self,
        where: dict[str, tuple[list[Block], list[Owner]]],
        name: str,
        here: Block | None,
        owner: Owner,
    ) -> None:
        """A block of a zone or node is this now; None: it goes."""
        blocks, gone = where.setdefault(name, ([], []))
        if here is None:
            gone.append(owner)
        else:
            blocks.append(here)


def _changed(
    old: Mapping[str, Block], new: Mapping[str, Block]
) -> Iterator[tuple[str, Block | None]]:
    """The names whose blocks differ, with what they are now."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, new.get(name)


def _shared_owner(what: IPAddress | int) -> Owner:
    return spread_owner(what) if isinstance(what, int) else service_owner(f"address {what}")


def _shared_block(what: IPAddress | int, of_a_node: bool) -> Block:
    if isinstance(what, int):
        return spread_block(what)
    rest = errors_for_a_node(what) if of_a_node else [called_otherwise(what)]
    return block(_shared_owner(what), rest)
