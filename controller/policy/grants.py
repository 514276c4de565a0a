"""What policies allow, as values that compare by what they say.

A `Grant` is one rule's worth of connections: subjects, peers and ports. Rules that say the same,
of one policy or of many, are the same grant, and become the same flows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import NamedTuple

import msgspec

from ovsnet.controller.policy.selection import Group, Member
from ovsnet.flows.flow import OwnerKind
from ovsnet.flows.policy import ANY_PORT, Place, PortRange, merged
from ovsnet.model import (
    Direction,
    IPAddress,
    IPBlock,
    IPNetwork,
    NetworkPolicy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Protocol,
    Selector,
)


class PortName(NamedTuple):
    """A port by the name that the pod which is called has for it."""

    protocol: Protocol
    name: str

    def number(self, member: Member) -> int | None:
        """The number that a pod declares under the name. A name is declared once in a pod; were
        there two, the first one would count.
        """
        for port in member.ports:
            if port.name == self.name and port.protocol == self.protocol:
                return port.port
        return None


class Grant(msgspec.Struct, frozen=True):
    """Connections that are allowed: between subjects and peers, to ports.

    Peers are pods of `groups` and addresses of `networks`, or with `anyone` everybody; ports are
    `ports`, None: all. With `named` it is only about pods at the called end that declare this
    port name as the one number in `ports`.
    """

    direction: Direction
    subjects: Group
    anyone: bool
    groups: tuple[Group, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    ports: tuple[PortRange, ...] | None = None
    named: PortName | None = None

    def subject_addresses(self, member: Member) -> tuple[IPAddress, ...]:
        """The addresses of a pod of `subjects` that the grant is for."""
        if self.named is not None and self.direction is Direction.INGRESS:
            return self._if_named(self.named, member)
        return member.addresses

    def peer_addresses(self, group: Group, member: Member) -> tuple[IPAddress, ...]:
        """The addresses of a pod that are peers because it is in one of `peer_groups`."""
        addresses = member.addresses
        if self.named is not None and self.direction is Direction.EGRESS:
            addresses = self._if_named(self.named, member)
            if group == EVERY_POD and not self.anyone:
                return tuple(a for a in addresses if any(_within(a, n) for n in self.networks))
        return addresses

    @property
    def peer_groups(self) -> tuple[Group, ...]:
        """The groups whose pods may be peers.

        A port name in an egress rule means something only where the peer is a pod, whatever the
        rule names its peers by.
        """
        if self._names_peers_ports and (self.anyone or self.networks):
            return (*self.groups, EVERY_POD)
        return self.groups

    @property
    def peer_places(self) -> tuple[Place, ...]:
        """The networks that are peers, whoever has the addresses; one of a single address as that
        address, for it may be a peer by another reason, too.
        """
        if self._names_peers_ports:
            return ()
        return tuple(
            n.network_address if n.prefixlen == n.max_prefixlen else n for n in self.networks
        )

    @property
    def any_peer(self) -> bool:
        """Whether it does not matter who the peer is."""
        return self.anyone and not self._names_peers_ports

    @property
    def _names_peers_ports(self) -> bool:
        return self.named is not None and self.direction is Direction.EGRESS

    def _if_named(self, named: PortName, member: Member) -> tuple[IPAddress, ...]:
        assert self.ports is not None
        return member.addresses if self.ports[0].first == named.number(member) else ()

    def digest(self) -> bytes:
        """16 octets that depend on all that it says and on nothing else."""
        text = msgspec.msgpack.encode(self, enc_hook=str)
        return hashlib.blake2b(text, digest_size=16).digest()


EVERY_POD = Group(Selector())
"""All pods of the cluster."""


class NamedGrant(msgspec.Struct, frozen=True):
    """A grant but for the number of its port, of which there may be several in the cluster."""

    grant: Grant
    name: PortName

    def of(self, number: int) -> Grant:
        """The grant for pods that declare the name as this number."""
        ports = (PortRange(self.name.protocol, number, number),)
        return msgspec.structs.replace(self.grant, ports=ports, named=self.name)


def cookie_of(digest: bytes) -> int:
    """The cookie of a grant's flows: the kind of owner in 8 bits, the digest's first 56."""
    return OwnerKind.POLICY << 56 | int.from_bytes(digest[:7], "big")


def subjects_of(policy: NetworkPolicy) -> Group:
    """The pods that a policy selects."""
    return Group(policy.pods, policy.namespace)


def grants_of(
    policy: NetworkPolicy, direction: Direction
) -> Iterator[tuple[int, list[Grant | NamedGrant]]]:
    """What each rule of a policy grants, with the rule's number, counted from 1."""
    for number, rule in enumerate(policy.rules(direction), 1):
        yield number, list(_granted(policy, direction, rule))


def _granted(
    policy: NetworkPolicy, direction: Direction, rule: PolicyRule
) -> Iterator[Grant | NamedGrant]:
    if rule.peers is None:
        base = Grant(direction, subjects_of(policy), anyone=True)
    else:
        found = {g for p in rule.peers for g in _groups(policy, p)}
        groups = tuple(sorted(found, key=_order))
        networks = tuple(networks_of(p.ip_block for p in rule.peers if p.ip_block is not None))
        if not groups and not networks:
            return
        base = Grant(direction, subjects_of(policy), False, groups, networks)
    if rule.ports is None:
        yield base
        return
    numbers = [port for port in rule.ports if not isinstance(port.port, str)]
    if numbers:
        yield msgspec.structs.replace(base, ports=merged(map(_range, numbers)))
    names = {PortName(p.protocol, p.port) for p in rule.ports if isinstance(p.port, str)}
    for name in sorted(names):
        yield NamedGrant(base, name)


def _order(group: Group) -> tuple[object, ...]:
    return group.order


def _range(port: PolicyPort) -> PortRange:
    assert not isinstance(port.port, str)
    if port.port is None:
        return PortRange(port.protocol, *ANY_PORT)
    return PortRange(port.protocol, port.port, port.port if port.end is None else port.end)


def _groups(policy: NetworkPolicy, peer: PolicyPeer) -> Iterator[Group]:
    if peer.ip_block is not None:
        return
    pods = peer.pods or Selector()
    if peer.namespaces is None:
        yield Group(pods, policy.namespace)
    else:
        yield Group(pods, namespaces=peer.namespaces)


def networks_of(blocks: Iterable[IPBlock]) -> Iterator[IPNetwork]:
    """The fewest networks that have the addresses of these blocks, and no others; IPv4 first."""
    found = [network for each in blocks for network in _without(each)]
    yield from collapse_addresses(n for n in found if isinstance(n, IPv4Network))
    yield from collapse_addresses(n for n in found if isinstance(n, IPv6Network))


def _without(block: IPBlock) -> list[IPNetwork]:
    left: list[IPNetwork] = [block.cidr]
    for exception in block.exceptions:
        left = [part for network in left for part in _excluded(network, exception)]
    return left


def _excluded(network: IPNetwork, exception: IPNetwork) -> Iterator[IPNetwork]:
    if not _overlap(network, exception):
        yield network
    elif exception.prefixlen > network.prefixlen:
        yield from network.address_exclude(exception)  # type: ignore[arg-type]  # same family


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _within(address: IPAddress, network: IPNetwork) -> bool:
    return address.version == network.version and address in network
