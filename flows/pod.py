"""Flows of one pod on its own node: who it may claim to be, and how its packets reach it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

import msgspec

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import (
    Block,
    DecTtl,
    Flow,
    Goto,
    Owner,
    OwnerKind,
    SetField,
    Term,
    block,
    match,
)
from ovsnet.flows.priorities import BEFORE, FIRST, USUAL
from ovsnet.flows.registers import DESTINATION, INSIDE, OUT_PORT, SOURCE, Side
from ovsnet.flows.serving import hairpin
from ovsnet.flows.terms import ARP, destination, icmpv6, in_port, mac, source
from ovsnet.model import IPAddress, PodRef
from ovsnet.names import ROUTER_MAC, Table, link_local

_ROUTER = mac(ROUTER_MAC)
_NEIGHBOUR_SOLICITATION = 135


class Endpoint(msgspec.Struct, frozen=True):
    """A pod's attachment to the switch of its node, as the controller believes it."""

    pod: PodRef
    ofport: int
    mac: str
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The pod's addresses, IPv4 first."""
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


def pod_owner(pod: PodRef) -> Owner:
    """The owner of a pod's flows."""
    return Owner(OwnerKind.POD, str(pod))


def pod_block(endpoint: Endpoint, services: Iterable[IPAddress]) -> Block:
    """Everything that the pod's own node needs for it; other nodes need nothing. `services` are the
    node's addresses for services, one of each family.
    """
    return block(pod_owner(endpoint.pod), _flows(endpoint, services))


def _flows(endpoint: Endpoint, services: Iterable[IPAddress]) -> Iterator[Flow]:
    yield from_pod(endpoint)
    for address in endpoint.addresses:
        yield honest_packets(endpoint, address)
        yield to_pod(endpoint, address)
    for service in services:
        for address in endpoint.addresses:
            if address.version == service.version:
                yield hairpin(address, service)
    if endpoint.ipv4 is not None:
        yield honest_arp(endpoint, endpoint.ipv4)
    if endpoint.ipv6 is not None:
        yield from honest_solicitations(endpoint, endpoint.ipv6)


def from_pod(endpoint: Endpoint) -> Flow:
    """Packets that the pod sends."""
    return Flow(
        Table.CLASSIFY,
        USUAL,
        match(in_port(endpoint.ofport)),
        (SOURCE.set(Side.POD), INSIDE.set(1), Goto(Table.SPOOF_GUARD)),
    )


def honest_packets(endpoint: Endpoint, address: IPAddress) -> Flow:
    """IP packets from the pod with its own MAC and address. All others are dropped."""
    return Flow(
        Table.SPOOF_GUARD,
        USUAL,
        match(in_port(endpoint.ofport), _own_mac(endpoint), *source(address)),
        (Goto(Table.NODE_PORT),),
    )


def honest_arp(endpoint: Endpoint, address: IPv4Address) -> Flow:
    """ARP from the pod whose body names its own MAC and address as the sender (RFC 826)."""
    return Flow(
        Table.SPOOF_GUARD,
        USUAL,
        match(
            in_port(endpoint.ofport),
            _own_mac(endpoint),
            ARP,
            Term(Field.ARP_SPA, int(address)),
            Term(Field.ARP_SHA, mac(endpoint.mac)),
        ),
        (Goto(Table.NEIGHBOUR),),
    )


def honest_solicitations(endpoint: Endpoint, address: IPv6Address) -> Iterator[Flow]:
    """Neighbour solicitations from the pod's address or link-local address that name its own
    MAC. The only neighbour discovery that a pod may send: nobody asks a pod.

    The code is asked for although it must be 0 (RFC 4861, 7.1.1): what Open vSwitch tells the
    kernel's datapath of a packet has the MAC only beside an exact code (`odp_flow_key_from_flow` in
    lib/odp-util.c). Without it the drop of a false one would be cached for true ones as well.
    """
    for own in (address, link_local(endpoint.mac)):
        yield Flow(
            Table.SPOOF_GUARD,
            FIRST,
            match(
                in_port(endpoint.ofport),
                _own_mac(endpoint),
                *icmpv6(_NEIGHBOUR_SOLICITATION),
                Term(Field.ICMPV6_CODE, 0),
                Term(Field.IPV6_SRC, int(own)),
                Term(Field.ND_SLL, mac(endpoint.mac)),
            ),
            (Goto(Table.NEIGHBOUR),),
        )


def to_pod(endpoint: Endpoint, address: IPAddress) -> Flow:
    """Packets to the pod's address, from wherever."""
    return Flow(
        Table.ROUTE,
        BEFORE,
        match(*destination(address)),
        (
            SetField(Field.ETH_SRC, _ROUTER),
            SetField(Field.ETH_DST, mac(endpoint.mac)),
            DecTtl(),
            DESTINATION.set(Side.POD),
            OUT_PORT.set(endpoint.ofport),
            Goto(Table.OUTPUT),
        ),
    )


def _own_mac(endpoint: Endpoint) -> Term:
    return Term(Field.ETH_SRC, mac(endpoint.mac))
