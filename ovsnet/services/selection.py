"""Which endpoints may take a call: EndpointSlices (discovery.k8s.io/v1), read out.

The rules are those of kube-proxy 1.34 (pkg/proxy/topology.go, CategorizeEndpoints), which the API
names as the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ovsnet.model import EndpointSlice, Service, ServicePort, SliceEndpoint, SliceRef
from ovsnet.services.claims import cluster_addresses
from ovsnet.services.world import Endpoint, World


class Candidate(NamedTuple):
    """An endpoint, and what its slice says of it."""

    endpoint: Endpoint
    entry: SliceEndpoint


def candidates(
    world: World, service: Service, port: ServicePort, family: int
) -> tuple[Candidate, ...]:
    """Every endpoint of a service's port in a family of addresses, each once, usable or not.

    A slice's port is the service's port of the same name and protocol. An endpoint whose address
    is a service's cluster address is left out.

    An endpoint (address and port) that stands in several slices is as good as the best of its
    copies: ready before serving and terminating before neither, and of equally good ones the
    first by the slice's name. kube-proxy does not settle that (endpointslicecache.go,
    addEndpoints): of copies that disagree it takes one on its own node, and otherwise whichever
    slice Go's map yields first.
    """
    mine = sorted((one for one in world.slices.values() if one.owner == service.ref), key=_name)
    services = cluster_addresses(world, {e.address for one in mine for e in one.endpoints})
    found: dict[Endpoint, Candidate] = {}
    for one in mine:
        for entry in one.endpoints:
            if entry.address.version != family or entry.address in services:
                continue
            for number in _numbers(one, port):
                new = Candidate(Endpoint(entry.address, number), entry)
                best = found.setdefault(new.endpoint, new)
                if _goodness(new) > _goodness(best):
                    found[new.endpoint] = new
    return tuple(found.values())


def _name(one: EndpointSlice) -> SliceRef:
    return one.ref


def _numbers(one: EndpointSlice, port: ServicePort) -> Iterator[int]:
    return (p.port for p in one.ports if (p.name, p.protocol) == (port.name, port.protocol))


def _goodness(candidate: Candidate) -> tuple[bool, bool]:
    return _ready(candidate), _draining(candidate)


def _ready(candidate: Candidate) -> bool:
    return candidate.entry.ready


def _draining(candidate: Candidate) -> bool:
    """Better than nothing: it is on its way out, and still answers."""
    return candidate.entry.serving and candidate.entry.terminating


def usable(known: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The ready ones; if there are none, those that are serving and terminating."""
    known = tuple(known)
    return tuple(filter(_ready, known)) or tuple(filter(_draining, known))


def everywhere(known: Iterable[Candidate], node: str, zone: str) -> tuple[Candidate, ...]:
    """Traffic policy Cluster: endpoints wherever they are, as their hints say for a node.

    Hints count where there are ready endpoints, and only if every ready endpoint has them and one
    of them fits: first those for nodes, then those for zones.
    """
    found = usable(known)
    if not all(map(_ready, found)):
        return found
    return (
        _hinted(found, node, lambda entry: entry.nodes)
        or _hinted(found, zone, lambda entry: entry.zones)
        or found
    )


def _hinted(
    known: tuple[Candidate, ...], name: str, hints: Callable[[SliceEndpoint], tuple[str, ...]]
) -> tuple[Candidate, ...]:
    if not all(hints(candidate.entry) for candidate in known):
        return ()
    return tuple(candidate for candidate in known if name in hints(candidate.entry))


def here(known: Iterable[Candidate], node: str) -> tuple[Candidate, ...]:
    """Traffic policy Local: endpoints on the node, whatever their hints."""
    return usable(candidate for candidate in known if candidate.entry.node == node)


def healthy(world: World, service: Service, node: str) -> bool:
    """What a `healthCheckNodePort` says: whether the node has a ready endpoint of any port of the
    service, in whatever family of addresses. One that only drains does not count (kube-proxy,
    LocalReadyEndpoints).
    """
    return any(
        candidate.entry.node == node and _ready(candidate)
        for port in service.ports
        for family in (4, 6)
        for candidate in candidates(world, service, port, family)
    )
