"""What a change of policies, labels or namespaces opens and closes, between whom and on what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

import msgspec

from ovsnet.model import Direction, PodRef, Protocol
from ovsnet.policy.alike import FAMILIES, Group, Place, Role, groups
from ovsnet.policy.rules import NUMBERS, Connection, allowing_rules
from ovsnet.policy.spans import Ports, Span, joined, segments
from ovsnet.policy.world import World

_UNNAMED = 1
"""The number of a protocol that no policy can name; which one makes no difference."""


class Change(msgspec.Struct, frozen=True):
    """Traffic from every source to every destination, apart from a pod to itself, in these
    address families.
    """

    sources: tuple[Place, ...]
    destinations: tuple[Place, ...]
    families: tuple[int, ...]
    traffic: tuple[Ports, ...]

    @property
    def pairs(self) -> int:
        """How many pairs of different ends this is about."""
        return len(self.sources) * len(self.destinations) - len(
            {*self.sources} & {*self.destinations}
        )


class Difference(msgspec.Struct, frozen=True):
    """What one world allows and the other does not. No pair of ends with the same protocol, port
    and family is in two changes.
    """

    allowed: tuple[Change, ...] = ()
    denied: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.allowed or self.denied)


class _Facet(NamedTuple):
    """What changes alike between two ends."""

    allowed: bool
    families: tuple[int, ...]
    traffic: tuple[Ports, ...]


def difference(before: World, after: World) -> Difference:
    """What becomes allowed and what becomes denied from one world to another.

    The ends are the pods of the network that are in both worlds with an address, and the parts
    into which the ipBlocks of both divide the address space; at least one end is a pod. A part
    that holds a node's address stands for that node as the pods of other nodes see it: a pod and
    its own node reach each other in every world. Every pod counts as the only owner of its
    addresses.
    """
    everybody = groups(before, after)
    found: dict[_Facet, set[tuple[int, int]]] = {}
    for (one, source), (other, destination) in product(enumerate(everybody), repeat=2):
        if source.same and destination.same:
            continue
        for facet in _facets(before, after, source, destination):
            found.setdefault(facet, set()).add((one, other))
    changes = [
        (facet.allowed, change)
        for facet, pairs in found.items()
        for change in _changes(facet, pairs, everybody)
        if change.pairs
    ]
    changes.sort(key=lambda pair: _order(pair[1]))
    return Difference(
        tuple(change for allowed, change in changes if allowed),
        tuple(change for allowed, change in changes if not allowed),
    )


def _order(change: Change) -> tuple[list[str], list[str], tuple[int, ...]]:
    return [*map(str, change.destinations)], [*map(str, change.sources)], change.families


def _facets(before: World, after: World, source: Group, destination: Group) -> Iterator[_Facet]:
    by_traffic: dict[tuple[bool, tuple[Ports, ...]], list[int]] = {}
    for family in FAMILIES:
        earlier = _Ends.of(before, source.before, destination.before, family)
        later = _Ends.of(after, source.after, destination.after, family)
        if earlier is None or later is None:
            continue
        for allowed, traffic in _compare(earlier, later):
            by_traffic.setdefault((allowed, traffic), []).append(family)
    for (allowed, traffic), families in by_traffic.items():
        yield _Facet(allowed, tuple(families), traffic)


class _Ends(NamedTuple):
    """Two ends in one world and one family."""

    world: World
    source: Role
    destination: Role
    family: int

    @classmethod
    def of(cls, world: World, source: Role, destination: Role, family: int) -> _Ends | None:
        """The two, if both have addresses of the family."""
        if family in source.parties and family in destination.parties:
            return cls(world, source, destination, family)
        return None

    def allow(self, protocol: int, port: int | None) -> bool:
        """Whether policies allow traffic between two different pods in these roles."""
        source, destination = self.source, self.destination
        connection = Connection(
            source.parties[self.family], destination.parties[self.family], protocol, port
        )
        return all(
            not policies or allowing_rules(self.world, policies, direction, connection)
            for policies, direction in (
                (source.egress, Direction.EGRESS),
                (destination.ingress, Direction.INGRESS),
            )
        )


def _compare(earlier: _Ends, later: _Ends) -> Iterator[tuple[bool, tuple[Ports, ...]]]:
    """What becomes allowed (True) and denied (False) between two ends."""
    found: dict[bool, list[Ports]] = {}
    policies = [p for e in (earlier, later) for p in (*e.source.egress, *e.destination.ingress)]
    destinations = [e.destination.parties[e.family].pod for e in (earlier, later)]
    for protocol in Protocol:
        number = NUMBERS[protocol]
        changed: dict[bool, list[Span]] = {}
        for span in segments(policies, protocol, destinations):
            was, will = earlier.allow(number, span.first), later.allow(number, span.first)
            if was is not will:
                changed.setdefault(will, []).append(span)
        for allowed, spans in changed.items():
            found.setdefault(allowed, []).append(Ports(protocol, joined(spans)))
    was, will = earlier.allow(_UNNAMED, None), later.allow(_UNNAMED, None)
    if was is not will:
        found.setdefault(will, []).append(Ports(None))
    for allowed, traffic in found.items():
        yield allowed, tuple(traffic)


def _changes(
    facet: _Facet, pairs: Iterable[tuple[int, int]], everybody: tuple[Group, ...]
) -> Iterator[Change]:
    """Pairs of groups, put together to as few changes as either of two simple ways yields."""
    by_source = _together(pairs)
    by_destination = _together((other, one) for one, other in pairs)
    if len(by_source) <= len(by_destination):
        blocks = by_source
    else:
        blocks = [(sources, destinations) for destinations, sources in by_destination]
    for sources, destinations in blocks:
        yield Change(
            _members(everybody, sources),
            _members(everybody, destinations),
            facet.families,
            facet.traffic,
        )


def _together(pairs: Iterable[tuple[int, int]]) -> list[tuple[frozenset[int], frozenset[int]]]:
    """Pairs as products: those firsts that go with the same seconds, and these seconds."""
    partners: dict[int, set[int]] = {}
    for first, second in pairs:
        partners.setdefault(first, set()).add(second)
    firsts: dict[frozenset[int], set[int]] = {}
    for first, seconds in partners.items():
        firsts.setdefault(frozenset(seconds), set()).add(first)
    return [(frozenset(those), seconds) for seconds, those in firsts.items()]


def _members(everybody: tuple[Group, ...], numbers: Iterable[int]) -> tuple[Place, ...]:
    """The members of groups: pods first, each kind in order."""
    return tuple(sorted((m for n in numbers for m in everybody[n].members), key=_place))


def _place(place: Place) -> tuple[int, int, int, str]:
    if isinstance(place, PodRef):
        return 0, 0, 0, str(place)
    network = place.network
    return network.version, int(network.network_address), network.prefixlen, ""
