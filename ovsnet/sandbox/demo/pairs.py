"""Who reaches whom by TCP: the attempts, what policies decide about each, and what was seen.

What is decided comes from the evaluator, by the objects that the API server has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import msgspec

from ovsnet.api import NAMESPACE, NETWORK_POLICY, NODE, POD, AnyKind
from ovsnet.api.decode import read_page
from ovsnet.policy.evaluate import Traffic, evaluate
from ovsnet.policy.world import World
from ovsnet.sandbox.demo.application import Pod
from ovsnet.sandbox.demo.checks import Check
from ovsnet.sandbox.demo.reachability import NodeSite, OutsideSite, of_family

FAMILIES = (4, 6)
KINDS: tuple[AnyKind, ...] = (NAMESPACE, POD, NODE, NETWORK_POLICY)
"""What the evaluator has to know."""

OWN_NODE = "their own node"

_TCP = 6


class Place(msgspec.Struct, frozen=True):
    """An end of an attempt; `title` is what it counts as in a table."""

    title: str
    name: str
    addresses: tuple[str, ...]


class Attempt(msgspec.Struct, frozen=True):
    """A connection that somebody tries to make from a network namespace."""

    source: Place
    netns: Path
    destination: Place
    port: int
    family: int

    @property
    def target(self) -> str:
        """The address that is called."""
        return of_family(self.destination.addresses, self.family)

    @property
    def traffic(self) -> Traffic:
        """Its first packet."""
        source = of_family(self.source.addresses, self.family)
        return Traffic(ip_address(source), ip_address(self.target), _TCP, self.port)

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.source.name} to {self.destination.name} port {self.port}, IPv{self.family}"


def attempts(
    pods: Sequence[Pod], sites: Iterable[NodeSite], outside: OutsideSite
) -> tuple[Attempt, ...]:
    """In both families: every pod with a network of its own to every port of everybody else, the
    host outside among them; and every node to its own pods.
    """
    ordinary = [pod for pod in pods if not pod.host_network]
    places = {pod.text: Place(pod.application, pod.text, pod.addresses) for pod in pods}
    doors = [
        *((places[pod.text], port) for pod in pods for port in pod.ports),
        (Place(outside.name, outside.name, outside.addresses), outside.port),
    ]

    def tried() -> Iterator[Attempt]:
        for pod in ordinary:
            source = places[pod.text]
            for place, port in doors:
                for family in FAMILIES if place != source else ():
                    yield Attempt(source, pod.netns, place, port, family)
        for site in sites:
            source = Place(OWN_NODE, site.name, site.gateways)
            for pod in ordinary:
                for port in pod.ports if pod.node == site.name else ():
                    for family in FAMILIES:
                        yield Attempt(source, site.netns, places[pod.text], port, family)

    return tuple(tried())


def world(lists: Mapping[AnyKind, bytes]) -> World:
    """What the API server's lists of all `KINDS` say.

    Raises:
        UnreadableError: one of them is none.
    """
    found = {
        kind: [read.value for read in read_page(kind, body).objects if read.value is not None]
        for kind, body in lists.items()
    }
    return World.of(found[NAMESPACE], found[POD], found[NODE], found[NETWORK_POLICY])


def allowed(by: World, tried: Iterable[Attempt]) -> frozenset[Attempt]:
    """Those of the attempts that policies allow, by the evaluator."""
    return frozenset(attempt for attempt in tried if evaluate(by, attempt.traffic).allowed)


class Cell(NamedTuple):
    """How many attempts of one title at one door there were, and how many got through; whether
    each of them did as it should.
    """

    tried: int
    reached: int
    right: bool

    @property
    def text(self) -> str:
        """All, none, or how many."""
        if self.reached in (0, self.tried):
            return "✓" if self.reached else "·"
        return f"{self.reached}/{self.tried}"


Door = tuple[str, int]
"""A destination's title and port."""


class Survey(msgspec.Struct, frozen=True):
    """All attempts at one time: which of them are allowed, and which got through."""

    tried: tuple[Attempt, ...]
    allowed: frozenset[Attempt]
    reached: frozenset[Attempt]

    @property
    def checks(self) -> tuple[Check, ...]:
        """That in each family the allowed ones got through, and no others."""
        return tuple(self._check(family) for family in FAMILIES)

    def _check(self, family: int) -> Check:
        tried = [attempt for attempt in self.tried if attempt.family == family]
        faults = [_fault(each, self.allowed) for each in tried if not self._right(each)]
        through = sum(attempt in self.reached for attempt in tried)
        seen = f"{through} of {len(tried)} get through"
        if faults:
            seen += f"; {len(faults)} are wrong, first: {faults[0]}"
        claim = f"who is allowed gets through and nobody else does, IPv{family}"
        return Check(claim, bool(tried) and not faults, seen)

    def _right(self, attempt: Attempt) -> bool:
        return (attempt in self.allowed) is (attempt in self.reached)

    @property
    def sources(self) -> tuple[str, ...]:
        """The titles of those who try, in the order of their attempts."""
        return tuple(dict.fromkeys(attempt.source.title for attempt in self.tried))

    @property
    def doors(self) -> tuple[Door, ...]:
        """What they try to reach, in that order."""
        return tuple(dict.fromkeys(map(_door, self.tried)))

    @property
    def cells(self) -> dict[tuple[str, Door], Cell]:
        """What was seen, by title and door."""
        found: dict[tuple[str, Door], list[Attempt]] = {}
        for attempt in self.tried:
            found.setdefault((attempt.source.title, _door(attempt)), []).append(attempt)
        return {
            key: Cell(len(those), len({*those} & self.reached), all(map(self._right, those)))
            for key, those in found.items()
        }


def _door(attempt: Attempt) -> Door:
    return attempt.destination.title, attempt.port


def _fault(attempt: Attempt, those_allowed: Collection[Attempt]) -> str:
    if attempt in those_allowed:
        return f"{attempt.text}: allowed, but does not get through"
    return f"{attempt.text}: denied, but gets through"
