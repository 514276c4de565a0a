"""Flows of NetworkPolicy: who is isolated, which connections are granted, what is dropped.

Policies judge connections, not packets: every condition here is about the original direction of
the packet's connection (ovs-fields(7), ct_nw_src and its like), which the packets of both
directions and the ICMP errors about them have in common. So a change of policy takes effect on
live connections at once, in both directions, and leaves no entry of the tracker to be flushed.

A grant is what one rule allows, or several rules that say the same: connections between subjects
(the pods that the policy selects) and peers, to ports. It becomes one conjunction: a flow for each
subject, for each peer and for each masked port, and one for all of them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

import msgspec

from ovsnet.flows.fields import CtState, Field, IpProto
from ovsnet.flows.flow import Conjunction, Flow, Goto, Match, Term, match, term
from ovsnet.flows.priorities import FIRST, LAST, SOONER, USUAL
from ovsnet.flows.terms import FAMILIES, IPV4, IPV6, ct_state
from ovsnet.model import Direction, IPAddress, IPNetwork, Protocol
from ovsnet.names import Table

Place = IPAddress | IPNetwork
"""Where a subject or a peer is."""


class Way(msgspec.Struct, frozen=True):
    """The tables that a direction's policies stand in, and how its subjects and peers are told.

    The fields are those of IPv4 and of IPv6. `onward` is the table after the policies.
    """

    isolation: Table
    policy: Table
    default: Table
    onward: Table
    subject: tuple[Field, Field]
    peer: tuple[Field, Field]


_BEGAN = (Field.CT_NW_SRC, Field.CT_IPV6_SRC)
_CALLED = (Field.CT_NW_DST, Field.CT_IPV6_DST)

WAYS = {
    Direction.EGRESS: Way(
        Table.EGRESS_ISOLATION,
        Table.EGRESS_POLICY,
        Table.EGRESS_DEFAULT,
        Table.INGRESS_ISOLATION,
        subject=_BEGAN,
        peer=_CALLED,
    ),
    Direction.INGRESS: Way(
        Table.INGRESS_ISOLATION,
        Table.INGRESS_POLICY,
        Table.INGRESS_DEFAULT,
        Table.COMMIT,
        subject=_CALLED,
        peer=_BEGAN,
    ),
}

PROTOCOLS = {
    Protocol.TCP: IpProto.TCP,
    Protocol.UDP: IpProto.UDP,
    Protocol.SCTP: IpProto.SCTP,
}

ANY_PORT = (0, 0xFFFF)

_TRACKED = ct_state(CtState.TRK, CtState.INV)
_PORT_BITS = 16


class PortRange(msgspec.Struct, frozen=True, order=True):
    """Ports of one protocol from `first` to `last`, both included."""

    protocol: Protocol
    first: int
    last: int


def merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports in as few ranges as there can be, in order."""
    found: list[PortRange] = []
    for each in sorted(ranges):
        before = found[-1] if found else None
        if before and before.protocol is each.protocol and each.first <= before.last + 1:
            found[-1] = PortRange(each.protocol, before.first, max(before.last, each.last))
        else:
            found.append(each)
    return tuple(found)


def masked_ports(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The fewest pairs of value and mask that match the ports from `first` to `last`."""
    while first <= last:
        # The largest aligned block that begins here and does not go beyond the end.
        size = first & -first or 1 << _PORT_BITS
        while first + size - 1 > last:
            size >>= 1
        yield first, ANY_PORT[1] & ~(size - 1)
        first += size


def place_match(fields: tuple[Field, Field], place: Place) -> Match:
    """Connections with this address, or one of this network, in a field of its family."""
    if isinstance(place, IPv4Address | IPv4Network):
        family, field = IPV4, fields[0]
    else:
        family, field = IPV6, fields[1]
    if isinstance(place, IPAddress):
        return _TRACKED, Term(field, int(place)), family
    if place.prefixlen == 0:
        return _TRACKED, family
    return _TRACKED, term(field, int(place.network_address), int(place.netmask)), family


def subject(way: Way, place: Place, conjunction: Conjunction, cookie: int) -> Flow:
    """Connections of a pod that a policy selects: the first clause of what the policy grants."""
    condition = place_match(way.subject, place)
    return Flow(way.policy, USUAL, condition, (conjunction,), cookie)


def peer(way: Way, place: Place, conjunction: Conjunction, cookie: int) -> Flow:
    """Connections with an address or network at their other end that a rule names as a peer."""
    condition = place_match(way.peer, place)
    return Flow(way.policy, USUAL, condition, (conjunction,), cookie)


def granted_to_all(way: Way, place: Place, cookie: int) -> Flow:
    """All connections of a subject, where a rule names neither peers nor ports."""
    return Flow(way.policy, SOONER, place_match(way.subject, place), (Goto(way.onward),), cookie)


def granted(way: Way, conjunction: int, cookie: int) -> Flow:
    """Connections of which all clauses of a grant hold: subject, peer and port, as far as the rule
    names them.
    """
    return Flow(way.policy, USUAL, (Term(Field.CONJ_ID, conjunction),), (Goto(way.onward),), cookie)


def ports(
    way: Way, ranges: Iterable[PortRange], conjunction: Conjunction, cookie: int
) -> Iterator[Flow]:
    """Connections to ports that a rule names, in both families; `ranges` are merged."""
    for each in ranges:
        protocol = Term(Field.CT_NW_PROTO, PROTOCOLS[each.protocol])
        for value, mask in masked_ports(each.first, each.last):
            numbers = (term(Field.CT_TP_DST, value, mask),) if mask else ()
            for family in FAMILIES:
                condition = match(_TRACKED, protocol, *numbers, family)
                yield Flow(way.policy, USUAL, condition, (conjunction,), cookie)


def isolated(direction: Direction, addresses: Iterable[IPAddress]) -> Iterator[Flow]:
    """Connections of an isolated pod: they need a grant, and without one they are dropped. The
    drop is the pod's own flow, so that it counts.
    """
    way = WAYS[direction]
    for address in addresses:
        condition = place_match(way.subject, address)
        yield Flow(way.isolation, USUAL, condition, (Goto(way.policy),))
        yield Flow(way.default, USUAL, condition)


def own_node(addresses: Iterable[IPAddress]) -> Iterator[Flow]:
    """Connections between an isolated pod and its own node, which no policy can forbid (kubelet's
    probes are such): NetworkPolicy API, on ipBlock.
    """
    for way in WAYS.values():
        for address in addresses:
            condition = place_match(way.peer, address)
            yield Flow(way.policy, FIRST, condition, (Goto(way.onward),))


def drops_that_no_pod_counts() -> Iterator[Flow]:
    """The ends of the tables that only isolated pods' connections come to."""
    for way in WAYS.values():
        yield Flow(way.default, LAST, ())
