"""Ends of traffic that policies cannot tell apart, in groups: one of each speaks for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple, TypeAlias

import msgspec

from ovsnet.model import (
    Direction,
    NetworkPolicy,
    Pod,
    PodRef,
    PolicyPeer,
    PolicyPort,
)
from ovsnet.policy.networks import Part, parts
from ovsnet.policy.rules import fits_peer, isolating_policies, port_span
from ovsnet.policy.world import Party, World, in_network

FAMILIES = (4, 6)

Place: TypeAlias = PodRef | Part
"""An end as plans speak of it: a pod, or a part of the address space."""

_Parties: TypeAlias = Mapping[int, Party]
_Labels: TypeAlias = tuple[str, tuple[tuple[str, str], ...]] | None


class Role(msgspec.Struct, frozen=True):
    """An end in one world: its party in each address family that it has, and who isolates it."""

    parties: Mapping[int, Party]
    egress: tuple[NetworkPolicy, ...] = ()
    ingress: tuple[NetworkPolicy, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """Ends that behave alike before and alike after, and the roles of one of them.

    `same` says that they also behave after as they did before.
    """

    members: tuple[Place, ...]
    before: Role
    after: Role
    same: bool


class _Behaviour(NamedTuple):
    """Everything about an end that a verdict about it and another end can depend on."""

    egress: tuple[int, ...]
    ingress: tuple[int, ...]
    peers: tuple[tuple[int, frozenset[int], frozenset[int]], ...]
    ports: tuple[int | None, ...]


def groups(before: World, after: World) -> tuple[Group, ...]:
    """All ends that are there in both worlds with an address of one family at least: pods of the
    network, each with the first address of a family, and the parts of the address space.
    """
    policies = dict.fromkeys((*before.policies.values(), *after.policies.values()))
    terms = _terms(policies)
    one, other = _Survey(before, terms), _Survey(after, terms)
    found: dict[tuple[_Behaviour, _Behaviour], list[Place]] = {}
    roles: dict[tuple[_Behaviour, _Behaviour], tuple[Role, Role]] = {}
    for place, earlier, later in chain(_pods(before, after), _parts(before, after, policies)):
        behaviours = one.behaviour(earlier), other.behaviour(later)
        if behaviours not in found:
            roles[behaviours] = one.role(earlier), other.role(later)
        found.setdefault(behaviours, []).append(place)
    return tuple(
        Group(tuple(members), *roles[key], same=key[0] == key[1]) for key, members in found.items()
    )


def _pods(before: World, after: World) -> Iterator[tuple[Place, _Parties, _Parties]]:
    for ref in sorted(before.pods.keys() & after.pods.keys()):
        earlier, later = _parties(before.pods[ref]), _parties(after.pods[ref])
        families = [family for family in FAMILIES if family in earlier and family in later]
        if families:
            yield ref, {f: earlier[f] for f in families}, {f: later[f] for f in families}


def _parties(pod: Pod) -> _Parties:
    if not in_network(pod):
        return {}
    return {a.version: Party(a, pod) for a in reversed(pod.addresses)}


def _parts(
    before: World, after: World, policies: Iterable[NetworkPolicy]
) -> Iterator[tuple[Place, _Parties, _Parties]]:
    pods = (pod for world in (before, after) for pod in world.pods.values() if in_network(pod))
    for part, address in parts(policies, {a for pod in pods for a in pod.addresses}).items():
        parties: _Parties = {address.version: Party(address)}
        yield part, parties, parties


class _Terms(NamedTuple):
    """What policies say, each once: numbers of equal policies, peers by what they need to know,
    and named ports. The namespace of a peer matters only where it selects pods alone.
    """

    numbers: Mapping[NetworkPolicy, int]
    selecting: tuple[tuple[str, PolicyPeer], ...]
    blocks: tuple[PolicyPeer, ...]
    ports: tuple[PolicyPort, ...]


def _terms(policies: Iterable[NetworkPolicy]) -> _Terms:
    numbers = {policy: number for number, policy in enumerate(policies)}
    rules = [(p.namespace, rule) for p in numbers for rule in (*p.ingress, *p.egress)]
    peers = [(namespace, peer) for namespace, rule in rules for peer in rule.peers or ()]
    selecting = ((n if p.namespaces is None else "", p) for n, p in peers if p.ip_block is None)
    return _Terms(
        numbers,
        tuple(dict.fromkeys(selecting)),
        tuple(dict.fromkeys(p for _, p in peers if p.ip_block is not None)),
        tuple(
            dict.fromkeys(
                port for _, rule in rules for port in rule.ports or () if isinstance(port.port, str)
            )
        ),
    )


class _Survey:
    """What a world's policies make of ends. Remembers what depends on nothing but labels."""

    def __init__(self, world: World, terms: _Terms) -> None:
        self._world = world
        self._terms = terms
        self._policies: dict[str, list[NetworkPolicy]] = {}
        for policy in world.policies.values():
            self._policies.setdefault(policy.namespace, []).append(policy)
        self._isolating: dict[_Labels, tuple[tuple[NetworkPolicy, ...], ...]] = {}
        self._selecting: dict[_Labels, frozenset[int]] = {}

    def role(self, parties: _Parties) -> Role:
        """The role of an end that is a pod in all families or in none."""
        pod = next(iter(parties.values())).pod
        if pod is None:
            return Role(parties)
        key = pod.namespace, pod.labels
        if key not in self._isolating:
            local = World.of(policies=self._policies.get(pod.namespace, ()))
            self._isolating[key] = (
                isolating_policies(local, pod, Direction.EGRESS),
                isolating_policies(local, pod, Direction.INGRESS),
            )
        return Role(parties, *self._isolating[key])

    def behaviour(self, parties: _Parties) -> _Behaviour:
        """The behaviour of such an end."""
        role = self.role(parties)
        pod = next(iter(parties.values())).pod
        numbers = self._terms.numbers
        spans = (port_span(port, pod) for port in self._terms.ports)
        return _Behaviour(
            tuple(numbers[policy] for policy in role.egress),
            tuple(numbers[policy] for policy in role.ingress),
            tuple((family, *self._peers(parties[family])) for family in sorted(parties)),
            tuple(None if span is None else span.start for span in spans),
        )

    def _peers(self, party: Party) -> tuple[frozenset[int], frozenset[int]]:
        """The peers that mean a party: those that select pods, and those that name addresses."""
        pod = party.pod
        key = None if pod is None else (pod.namespace, pod.labels)
        if key not in self._selecting:
            self._selecting[key] = frozenset(
                number
                for number, (namespace, peer) in enumerate(self._terms.selecting)
                if fits_peer(self._world, namespace, peer, party)
            )
        blocks = enumerate(self._terms.blocks)
        return self._selecting[key], frozenset(
            number for number, peer in blocks if fits_peer(self._world, "", peer, party)
        )
