"""What a change of policies, labels or namespaces opens and closes, between whom and on what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, product
from typing import NamedTuple

import msgspec

from ovsnet.model import Direction, PodRef, PolicyRule, Protocol
from ovsnet.policy.alike import FAMILIES, Group, Place, Role, groups
from ovsnet.policy.rules import NUMBERS, Connection, fits_port, rules_for_peer
from ovsnet.policy.spans import Ports, Span, joined, segments
from ovsnet.policy.world import Party, World

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
        if all(family in group.before.parties for group in (source, destination)):
            earlier = _way(before, source.before, destination.before, family)
            later = _way(after, source.after, destination.after, family)
            for allowed, traffic in _compare(earlier, later):
                by_traffic.setdefault((allowed, traffic), []).append(family)
    for (allowed, traffic), families in by_traffic.items():
        yield _Facet(allowed, tuple(families), traffic)


class _Way(NamedTuple):
    """From one end to another in one world: for each of them that is isolated, its rules that
    mean the other one.
    """

    source: Party
    destination: Party
    filters: tuple[tuple[PolicyRule, ...], ...]

    @property
    def rules(self) -> Iterator[PolicyRule]:
        """The rules of both ends."""
        return chain.from_iterable(self.filters)

    def allows(self, protocol: int, port: int | None) -> bool:
        """Whether both ends allow traffic, were they different pods."""
        connection = Connection(self.source, self.destination, protocol, port)
        return all(any(fits_port(rule, connection) for rule in rules) for rules in self.filters)


def _way(world: World, source: Role, destination: Role, family: int) -> _Way:
    one, other = source.parties[family], destination.parties[family]
    return _Way(
        one,
        other,
        tuple(
            tuple(rule for _, rule in rules_for_peer(world, policies, direction, peer))
            for policies, direction, peer in (
                (source.egress, Direction.EGRESS, other),
                (destination.ingress, Direction.INGRESS, one),
            )
            if policies
        ),
    )


def _compare(earlier: _Way, later: _Way) -> Iterator[tuple[bool, tuple[Ports, ...]]]:
    """What becomes allowed (True) and denied (False) between two ends."""
    found: dict[bool, list[Ports]] = {}
    rules = [*earlier.rules, *later.rules]
    destinations = (earlier.destination.pod, later.destination.pod)
    for protocol in Protocol:
        number = NUMBERS[protocol]
        changed: dict[bool, list[Span]] = {}
        for span in segments(rules, protocol, destinations):
            will = later.allows(number, span.first)
            if earlier.allows(number, span.first) is not will:
                changed.setdefault(will, []).append(span)
        for allowed, spans in changed.items():
            found.setdefault(allowed, []).append(Ports(protocol, joined(spans)))
    will = later.allows(_UNNAMED, None)
    if earlier.allows(_UNNAMED, None) is not will:
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
    for block in blocks:
        sources, destinations = (_members(everybody, numbers) for numbers in block)
        # A pod to itself is no part of any change, so a pod alone at one end need not be named
        # among many at the other.
        if len(destinations) == 1:
            sources = tuple(place for place in sources if place != destinations[0])
        elif len(sources) == 1:
            destinations = tuple(place for place in destinations if place != sources[0])
        yield Change(sources, destinations, facet.families, facet.traffic)


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
