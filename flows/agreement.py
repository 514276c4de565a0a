"""Nodes agree on who began a connection.

Each node has a connection tracker of its own, and policy judges a connection in the direction in
which it began. Two pods that send each other a first UDP packet at the same moment, between the
same two ports, would be callers both, each in its own node's eyes, and each node would judge by
its own pod's egress alone. So a node says with every packet in the tunnel which direction it
takes the packet for, by the network identifier. Where the other node takes it otherwise, the node
with the lower underlay address is right.

A node that says the wrong thing changes nothing but how its own pods' connections are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovsnet.flows.fields import CtState, Field, IpProto
from ovsnet.flows.flow import Ct, Flow, Goto, OutputField, SetField, Term, match, term
from ovsnet.flows.priorities import AHEAD, BEFORE, FIRST, USUAL
from ovsnet.flows.registers import OUT_PORT, SAID, SOURCE, Said, Side
from ovsnet.flows.terms import FAMILIES, REPLY, ct_state, in_port
from ovsnet.model import IPAddress
from ovsnet.names import TUNNEL_KEY, TUNNEL_OFPORT, TUNNEL_REPLY_KEY, Table

_UDP = Term(Field.IP_PROTO, IpProto.UDP)


def from_tunnel() -> Iterator[Flow]:
    """Packets of the overlay's own two network identifiers from other nodes, with what the node
    says of their direction; others are dropped.
    """
    for key, said in ((TUNNEL_KEY, Said.FORWARD), (TUNNEL_REPLY_KEY, Said.REPLY)):
        yield Flow(
            Table.CLASSIFY,
            USUAL,
            match(in_port(TUNNEL_OFPORT), Term(Field.TUN_ID, key)),
            (SOURCE.set(Side.TUNNEL), SAID.set(said), Goto(Table.SPOOF_GUARD)),
        )


def replies_to_peers() -> Flow:
    """Reply packets that leave through the tunnel: they say that they are."""
    return Flow(
        Table.OUTPUT,
        USUAL,
        match(OUT_PORT.matches(TUNNEL_OFPORT), REPLY),
        (SetField(Field.TUN_ID, TUNNEL_REPLY_KEY), OutputField(OUT_PORT.bits)),
    )


def the_lower_node_is_right(own: Iterable[IPAddress], zone: int) -> Iterator[Flow]:
    """UDP packets from a node with a lower underlay address that says that they go forward, while
    the tracker here takes them for replies: the entry is made anew in their direction, and they
    are judged in it.

    Of a node with both families the IPv4 address counts, by which all that have one reach it. With
    a look at both sources of a packet the kernel's datapath could cache none ("Mixed IPv4 and IPv6
    tunnel attributes", net/openvswitch/flow_netlink.c): each would go through ovs-vswitchd.
    """
    address = min(own, key=lambda address: address.version, default=None)
    if address is None:
        return
    field = Field.TUN_SRC if address.version == 4 else Field.TUN_IPV6_SRC
    said = (SAID.matches(Said.FORWARD), REPLY, _UDP)
    if address.version == 4:
        # From a node that has IPv6 alone, which would be lower than all. It is not turned.
        for family in FAMILIES:
            condition = match(*said, Term(field, 0), family)
            yield Flow(Table.CONNTRACK_STATE, FIRST, condition, (Goto(Table.EGRESS_ISOLATION),))
    turned = (SAID.set(Said.NOTHING), Ct(zone, Table.CONNTRACK_STATE, commit=True, force=True))
    for value, mask in lower(int(address), address.max_prefixlen):
        for family in FAMILIES:
            condition = match(*said, term(field, value, mask), family)
            yield Flow(Table.CONNTRACK_STATE, AHEAD, condition, turned)


def replies_begin_nothing() -> Iterator[Flow]:
    """Packets that no connection is known for, while their node says that they are replies: they
    pass if they might begin a connection themselves, but the entry is left to the caller's next
    packet, so that it has the right direction. So it is after a tracker has lost its entries.
    """
    for family in FAMILIES:
        condition = match(SAID.matches(Said.REPLY), ct_state(CtState.TRK | CtState.NEW), family)
        yield Flow(Table.COMMIT, BEFORE, condition, (Goto(Table.ANSWER),))


def lower(value: int, bits: int) -> Iterator[tuple[int, int]]:
    """The fewest pairs of value and mask that match all numbers of so many bits below `value`."""
    full = (1 << bits) - 1
    for bit in range(bits):
        if value >> bit & 1:
            yield (value >> bit ^ 1) << bit, full ^ ((1 << bit) - 1)
