"""Flows that every node has: its gateway port, the way through the tables, the answers for ARP
and neighbour discovery, the way out to the world.

Tables are passed in the order of `names.Table`. A flow here is made by one small function whose
docstring says which packets it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_network

import msgspec

from ovsnet.flows.agreement import (
    from_tunnel,
    replies_begin_nothing,
    replies_to_peers,
    the_lower_node_is_right,
)
from ovsnet.flows.fields import CtState, Field, IpProto
from ovsnet.flows.flow import (
    Block,
    Ct,
    Flow,
    Goto,
    InPort,
    Match,
    Move,
    OutputField,
    Owner,
    OwnerKind,
    SetField,
    Term,
    block,
    match,
    whole,
)
from ovsnet.flows.hostport import answers_sent_back, commit_sent_back
from ovsnet.flows.policy import drops_that_no_pod_counts, own_node
from ovsnet.flows.priorities import AHEAD, BEFORE, FIRST, LAST, OTHERWISE, SOONER, USUAL
from ovsnet.flows.registers import DESTINATION, NATTED, OUT_PORT, SOURCE, Side
from ovsnet.flows.serving import legs, nobody_there, refused_by_the_node, serving
from ovsnet.flows.terms import (
    ARP,
    FAMILIES,
    IPV4,
    IPV6,
    ct_state,
    destination,
    icmpv6,
    in_port,
    mac,
)
from ovsnet.model import IPAddress, IPNetwork, Node
from ovsnet.names import (
    GATEWAY_OFFSET,
    GATEWAY_OFPORT,
    POLICY_ZONE,
    ROUTER_MAC,
    TUNNEL_OFPORT,
    Table,
    pod_mac,
)

_ROUTER = mac(ROUTER_MAC)
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_NEIGHBOUR_DISCOVERY = range(133, 138)
_UNROUTABLE = tuple(
    ip_network(n) for n in ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "fe80::/10")
)


class Gateway(msgspec.Struct, frozen=True):
    """A node's own side of the pod network: the addresses and the MAC of its gateway port."""

    addresses: tuple[IPAddress, ...]
    mac: int


def gateway_of(node: Node) -> Gateway | None:
    """The gateway of a node, or None while it has no pod range."""
    ranges = [r for r in (node.range4, node.range6) if r is not None]
    if not ranges:
        return None
    addresses = tuple(r[GATEWAY_OFFSET] for r in ranges)
    first = addresses[0]
    key = GATEWAY_OFFSET if isinstance(first, IPv6Address) else int(first)
    return Gateway(addresses, mac(pod_mac(key)))


def node_block(node: Node) -> Block:
    """Everything that a node's switch needs before it has a pod or knows another node."""
    return block(Owner(OwnerKind.NODE, node.name), _flows(node))


def _flows(node: Node) -> Iterator[Flow]:
    yield from_gateway()
    yield from from_tunnel()
    yield from neighbour_discovery_ends_here()
    yield from no_dhcp_servers()
    yield from through_conntrack()
    yield from conntrack_verdicts()
    yield from past_empty_tables()
    yield from unroutable()
    yield no_relay()
    yield from drops_that_no_pod_counts()
    yield from the_lower_node_is_right(node.addresses, POLICY_ZONE)
    yield from replies_begin_nothing()
    yield from serving(node)
    yield from commit_new()
    yield replies_to_peers()
    yield send()
    yield from explicit_drops()
    gateway = gateway_of(node)
    services = (leg.service for leg in legs(node))
    own = (*(gateway.addresses if gateway else ()), *services, *node.addresses)
    yield from own_node(own)
    if gateway is None:
        return
    yield from host_traffic()
    yield from to_the_world(gateway.mac)
    yield from nobody_there(gateway.mac)
    yield from refused_by_the_node(gateway.mac)
    yield from commit_sent_back(node.pod_cidrs)
    yield from answers_by_the_node(gateway.mac)
    for address in gateway.addresses:
        yield to_gateway(address, gateway.mac)
        if isinstance(address, IPv6Address):
            yield answer_solicitation(address)
        else:
            yield answer_arp(int(address))
    for network in node.pod_cidrs:
        yield no_such_pod(network)


def from_gateway() -> Flow:
    """Packets that the node itself sends or forwards into the pod network."""
    return Flow(
        Table.CLASSIFY,
        USUAL,
        match(in_port(GATEWAY_OFPORT)),
        (SOURCE.set(Side.GATEWAY), Goto(Table.SPOOF_GUARD)),
    )


def neighbour_discovery_ends_here() -> Iterator[Flow]:
    """Router and neighbour messages of anybody. What a pod may ask is admitted more urgently,
    everything else (a pod that plays router, above all: CVE-2020-10749) is dropped.
    """
    for kind in _NEIGHBOUR_DISCOVERY:
        yield Flow(Table.SPOOF_GUARD, BEFORE, match(*icmpv6(kind)))


def no_dhcp_servers() -> Iterator[Flow]:
    """What DHCP servers send. Nobody on the pod network asks for it."""
    udp = Term(Field.IP_PROTO, IpProto.UDP)
    yield Flow(Table.SPOOF_GUARD, BEFORE, match(IPV4, udp, Term(Field.UDP_SRC, 67)))
    yield Flow(Table.SPOOF_GUARD, BEFORE, match(IPV6, udp, Term(Field.UDP_SRC, 547)))


def host_traffic() -> Iterator[Flow]:
    """Packets from the node, with any address but those of other nodes' pods: the node's own,
    and what it forwards (host ports, for one, come back with the address of a pod or a client).
    """
    for family in FAMILIES:
        yield Flow(
            Table.SPOOF_GUARD,
            USUAL,
            match(in_port(GATEWAY_OFPORT), family),
            (Goto(Table.NODE_PORT),),
        )


def answer_arp(gateway: int) -> Flow:
    """A pod asks who has the gateway's IPv4 address: the virtual router has (RFC 826)."""
    return Flow(
        Table.NEIGHBOUR,
        USUAL,
        match(ARP, Term(Field.ARP_OP, 1), Term(Field.ARP_TPA, gateway)),
        (
            Move(whole(Field.ETH_SRC), whole(Field.ETH_DST)),
            SetField(Field.ETH_SRC, _ROUTER),
            SetField(Field.ARP_OP, 2),
            Move(whole(Field.ARP_SHA), whole(Field.ARP_THA)),
            SetField(Field.ARP_SHA, _ROUTER),
            Move(whole(Field.ARP_SPA), whole(Field.ARP_TPA)),
            SetField(Field.ARP_SPA, gateway),
            InPort(),
        ),
    )


def answer_solicitation(gateway: IPv6Address) -> Flow:
    """A pod asks who has the gateway's IPv6 address: the virtual router has (RFC 4861, 7.2.4).

    The answer's Ethernet header alone says at which address. What else belongs into an
    advertisement, its flags and the option with the address, the kernel's datapath lets no flow
    write. It tells the agent that the pod's flows are in; a pod need not ask (`cni.podside`).
    """
    return Flow(
        Table.NEIGHBOUR,
        USUAL,
        match(
            *icmpv6(_NEIGHBOUR_SOLICITATION),
            Term(Field.ICMPV6_CODE, 0),
            Term(Field.ND_TARGET, int(gateway)),
        ),
        (
            Move(whole(Field.ETH_SRC), whole(Field.ETH_DST)),
            SetField(Field.ETH_SRC, _ROUTER),
            Move(whole(Field.IPV6_SRC), whole(Field.IPV6_DST)),
            SetField(Field.IPV6_SRC, int(gateway)),
            SetField(Field.ICMPV6_TYPE, _NEIGHBOUR_ADVERTISEMENT),
            InPort(),
        ),
    )


def through_conntrack() -> Iterator[Flow]:
    """Every IP packet whose source was believed."""
    for family in FAMILIES:
        yield Flow(
            Table.CONNTRACK,
            USUAL,
            match(family),
            (Ct(POLICY_ZONE, Table.CONNTRACK_STATE),),
        )


def conntrack_verdicts() -> Iterator[Flow]:
    """What the tracker says: invalid packets are dropped. Replies, and errors about connections,
    pass the policies as all others do, which judge connections and not packets: so a change of
    policy ends what it forbids in both directions.
    """
    table, onward = Table.CONNTRACK_STATE, (Goto(Table.EGRESS_ISOLATION),)
    yield Flow(table, FIRST, match(ct_state(CtState.TRK | CtState.INV)))
    yield Flow(table, USUAL, match(ct_state(CtState.TRK)), onward)


def past_empty_tables() -> Iterator[Flow]:
    """Packets that a table has nothing to do for: no service is meant, no policy isolates the pod,
    the connection is known. And those of isolated pods that no rule allows, on their way to be
    dropped.
    """
    for table, following in (
        (Table.NODE_PORT, Table.SERVICE),
        (Table.SERVICE, Table.CONNTRACK),
        (Table.SOURCE_NAT, Table.CONNTRACK),
        (Table.EGRESS_ISOLATION, Table.INGRESS_ISOLATION),
        (Table.EGRESS_POLICY, Table.EGRESS_DEFAULT),
        (Table.INGRESS_ISOLATION, Table.COMMIT),
        (Table.INGRESS_POLICY, Table.INGRESS_DEFAULT),
        (Table.COMMIT, Table.ANSWER),
        (Table.ANSWER, Table.ROUTE),
    ):
        yield Flow(table, LAST, (), (Goto(following),))


def unroutable() -> Iterator[Flow]:
    """Multicast, broadcast and link-local destinations: the pod network has no broadcast domain."""
    for network in _UNROUTABLE:
        yield Flow(Table.ROUTE, BEFORE, match(*destination(network)))


def no_relay() -> Flow:
    """Tunnel packets to anything but this node's pods and gateway. Every node has ways of its own
    to other nodes and to the world; one that was taken over does not get this one's. Answers to
    clients who called a service by this node are none of them.
    """
    return Flow(Table.ROUTE, SOONER, match(in_port(TUNNEL_OFPORT), NATTED.matches(0)))


def to_gateway(address: IPAddress, gateway_mac: int) -> Flow:
    """Packets to the node's own address on the pod network."""
    return _to_host(BEFORE, match(*destination(address)), gateway_mac)


def to_the_world(gateway_mac: int) -> Iterator[Flow]:
    """Packets to anything that is no pod: the node, other nodes, the world. The node routes them
    and, where they leave the cluster, gives them its own address.
    """
    for family in FAMILIES:
        yield _to_host(OTHERWISE, match(family), gateway_mac)


def answers_by_the_node(gateway_mac: int) -> Iterator[Flow]:
    """Answers of pods that were called by a host port: only the node can translate them back."""
    for condition in answers_sent_back():
        yield _to_host(AHEAD, condition, gateway_mac)


def _to_host(priority: int, condition: Match, gateway_mac: int) -> Flow:
    return Flow(
        Table.ROUTE,
        priority,
        condition,
        (
            SetField(Field.ETH_SRC, _ROUTER),
            SetField(Field.ETH_DST, gateway_mac),
            DESTINATION.set(Side.GATEWAY),
            OUT_PORT.set(GATEWAY_OFPORT),
            Goto(Table.OUTPUT),
        ),
    )


def no_such_pod(own: IPNetwork) -> Flow:
    """Packets to an address of the node's range that no pod has. The node would only send them
    back.
    """
    return Flow(Table.ROUTE, USUAL, match(*destination(own)))


def commit_new() -> Iterator[Flow]:
    """The first packets of connections that no policy forbids. Committing any earlier would let the
    tracker call a connection established that policy denied (antrea#219).
    """
    for family in FAMILIES:
        yield Flow(
            Table.COMMIT,
            USUAL,
            match(family, ct_state(CtState.TRK | CtState.NEW)),
            (Ct(POLICY_ZONE, commit=True), Goto(Table.ANSWER)),
        )


def send() -> Flow:
    """Everything that got this far."""
    return Flow(Table.OUTPUT, LAST, (), (OutputField(OUT_PORT.bits),))


def explicit_drops() -> Iterator[Flow]:
    """What no flow of a table admits. A switch drops it anyway; a flow counts it."""
    for table in (
        Table.CLASSIFY,
        Table.SPOOF_GUARD,
        Table.NEIGHBOUR,
        Table.SPREAD,
        Table.ENDPOINT,
        Table.CONNTRACK,
        Table.CONNTRACK_STATE,
        Table.ANSWER_SERVICE,
        Table.ROUTE,
    ):
        yield Flow(table, LAST, ())
