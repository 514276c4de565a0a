"""Flows that one node has for another: the way to its pods, and what it may claim to be."""

from __future__ import annotations

from collections.abc import Iterator

from ovsnet.flows.channel import Channel, underlay_between
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import (
    Action,
    Block,
    DecTtl,
    Flow,
    Goto,
    Owner,
    OwnerKind,
    SetField,
    block,
    match,
)
from ovsnet.flows.priorities import BEFORE, USUAL
from ovsnet.flows.terms import destination, in_port, mac, source, tunnel_source
from ovsnet.model import IPAddress, IPNetwork, Node
from ovsnet.names import GATEWAY_OFPORT, ROUTER_MAC, TUNNEL_OFPORT, Table

_ROUTER = mac(ROUTER_MAC)


def peer_owner(name: str) -> Owner:
    """The owner of the flows that other nodes have for the node of this name."""
    return Owner(OwnerKind.PEER, name)


def peer_block(this: Node, that: Node, channel: Channel) -> Block:
    """Everything that `this` needs for `that`: a few flows per range, however many its pods."""
    return block(peer_owner(that.name), _flows(this, that, channel))


def _flows(this: Node, that: Node, channel: Channel) -> Iterator[Flow]:
    way = channel.way(this, that)
    outer = underlay_between(this, that)
    for network in that.pod_cidrs:
        yield not_through_the_host(network)
        if outer is not None:
            yield speaks_for_its_own_pods(outer, network)
        if way is not None:
            yield to_peer(network, way)


def not_through_the_host(network: IPNetwork) -> Flow:
    """Packets that enter through the node with the address of another node's pod. Such pods'
    packets come by the tunnel, or with their node's address.
    """
    return Flow(Table.SPOOF_GUARD, BEFORE, match(in_port(GATEWAY_OFPORT), *source(network)))


def speaks_for_its_own_pods(outer: IPAddress, network: IPNetwork) -> Flow:
    """Tunnel packets from that node's underlay address that carry an address of its own range.
    A node that was taken over gains the rights of its own pods and no more.
    """
    return Flow(
        Table.SPOOF_GUARD,
        USUAL,
        match(in_port(TUNNEL_OFPORT), tunnel_source(outer), *source(network)),
        (Goto(Table.CONNTRACK),),
    )


def to_peer(network: IPNetwork, way: tuple[Action, ...]) -> Flow:
    """Packets to any pod of that node."""
    return Flow(
        Table.ROUTE,
        USUAL,
        match(*destination(network)),
        (
            SetField(Field.ETH_SRC, _ROUTER),
            SetField(Field.ETH_DST, _ROUTER),
            DecTtl(),
            *way,
            Goto(Table.OUTPUT),
        ),
    )
