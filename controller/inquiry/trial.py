"""A connection on trial: packets of it carried through the flows that the switches hold, and their
fates held against what the policies decide.

If it is allowed, its first packet, the answer and a later packet must arrive. If it is denied, the
first one must be dropped at the end whose policies deny it; and as it may have begun before they
did, so must the packets of one that the trackers know as established, in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from ovsnet.controller.inquiry.ends import End
from ovsnet.controller.inquiry.passage import Fabric, Post, Trackers, Way
from ovsnet.controller.inquiry.why import Fate, Flows, Reading
from ovsnet.controller.network import NodeView
from ovsnet.flows.fields import Field, IpProto
from ovsnet.flows.flow import Flow
from ovsnet.flows.node import gateway_of
from ovsnet.flows.policy import WAYS
from ovsnet.flows.simulator import Connection, Connections, Packet, echo, ip, tcp, udp
from ovsnet.flows.simulator.conntrack import ends_of
from ovsnet.flows.simulator.packet import ACK, SYN
from ovsnet.flows.terms import mac
from ovsnet.flows.text import print_flow
from ovsnet.flows.words import owner_words, words
from ovsnet.model import Direction, IPAddress
from ovsnet.names import GATEWAY_OFPORT, POLICY_ZONE, ROUTER_MAC, TUNNEL_OFPORT, Table
from ovsnet.policy.evaluate import Traffic, Verdict

CLIENT_PORT: Final = 40000
"""The port that connections on trial come from."""

_NAMES: Final = {GATEWAY_OFPORT: "the node", TUNNEL_OFPORT: "the tunnel"}


class Start(NamedTuple):
    """Where an end's packets come in, with its MAC, and where packets to it come out."""

    post: Post
    mac: int


class _Packets(NamedTuple):
    """Of a connection: its first packet, the answer to it, and a later one."""

    first: Packet
    answer: Packet
    later: Packet


class _Denied(NamedTuple):
    """Where a connection must be dropped: by the policies of a direction, on one node."""

    node: str
    direction: Direction

    @property
    def tables(self) -> tuple[Table, Table, Table]:
        way = WAYS[self.direction]
        return way.isolation, way.policy, way.default


def start(nodes: Mapping[str, NodeView], end: End, address: IPAddress, other: End) -> Start | None:
    """Where an end with this address enters the pod network on its way to another; None if no port
    of it is known, or no node that has one.

    Who is neither pod nor gateway of a node speaks through the node of the other end: the world,
    and other nodes by the addresses that they have of their own.
    """
    if end.pod is not None:
        if end.endpoint is None:
            return None
        return Start(Post(end.node, end.endpoint.ofport), mac(end.endpoint.mac))
    for name in (end.node, other.node):
        gateway = gateway_of(nodes[name].node) if name in nodes else None
        if gateway is not None and (name == other.node or address in gateway.addresses):
            return Start(Post(name, GATEWAY_OFPORT), gateway.mac)
    return None


class Trial:
    """Tries connections between two ends. `owners` has the names of flows' owners, by cookie."""

    def __init__(
        self,
        fabric: Fabric,
        source: tuple[End, Start],
        destination: tuple[End, Start],
        owners: Mapping[int, str],
    ) -> None:
        self._fabric = fabric
        self._source = source[1]
        self._destination = destination[1]
        self._names = {start.post: end.name for end, start in (source, destination)}
        self._owners = owners

    def flows(self, traffic: Traffic, verdict: Verdict, back: Verdict) -> Flows:
        """What the flows do to a connection for which the policies decide this; `back` is for one
        that its answers would begin.
        """
        denied = self._denied(verdict)
        fates: list[Fate] = []
        doubts: list[str] = []
        try:
            for name, way, goal in self._ways(traffic, verdict.allowed, back.allowed):
                fates.append(self._fate(name, way, goal, denied))
                doubts += _doubts(way)
        except ValueError as error:
            return Flows(None, f"the flows cannot be followed: {error}", tuple(fates))
        if doubts:
            return Flows(None, doubts[0], tuple(fates))
        wrong = next((fate for fate in fates if not fate.right), None)
        problem = "" if wrong is None else _problem(wrong, denied)
        return Flows(wrong is None, problem, tuple(fates))

    def _denied(self, verdict: Verdict) -> _Denied | None:
        if not verdict.egress.allowed:
            return _Denied(self._source.post.node, Direction.EGRESS)
        if not verdict.ingress.allowed:
            return _Denied(self._destination.post.node, Direction.INGRESS)
        return None

    def _ways(
        self, traffic: Traffic, allowed: bool, back_allowed: bool
    ) -> Iterator[tuple[str, Way, Post]]:
        """Packets by name, with their ways and where they are bound for."""
        # No flow looks at the ports of SCTP packets themselves, so those without are what such a
        # tracker makes of them.
        portless = traffic.protocol == IpProto.SCTP and self._fabric.userspace
        packets = _packets(traffic, 0 if portless else CLIENT_PORT, 0 if portless else traffic.port)
        here, there = self._source, self._destination
        if allowed:
            way, trackers = self._carried(packets.first, here, {})
            yield "first packet", way, there.post
            way, trackers = self._carried(packets.answer, there, trackers)
            yield "answer", way, here.post
            yield "later packet", self._carried(packets.later, here, trackers)[0], there.post
            return
        yield "first packet", self._carried(packets.first, here, {})[0], there.post
        live = _established(packets.first, self._fabric.nodes)
        way, _ = self._carried(packets.later, here, live)
        yield "packet of a live connection", way, there.post
        # An answer of another protocol than TCP may be taken for the first packet of a connection
        # of its own. If the policies allow that one, either fate is right.
        if traffic.protocol == IpProto.TCP or not back_allowed:
            way, _ = self._carried(packets.answer, there, live)
            yield "answer in a live connection", way, here.post

    def _carried(self, packet: Packet, begin: Start, trackers: Trackers) -> tuple[Way, Trackers]:
        macs = {Field.ETH_SRC: begin.mac, Field.ETH_DST: mac(ROUTER_MAC)}
        return self._fabric.carry(begin.post, packet.replace(macs), trackers)

    def _fate(self, name: str, way: Way, goal: Post, denied: _Denied | None) -> Fate:
        arrives = way.arrivals == (goal,)
        drop = way.drop
        if drop is None:
            where = "arrives at " + " and at ".join(map(self._post_words, way.arrivals))
            passing = None
            if denied is not None:
                passing = self._reading(denied.node, way.last(denied.node, denied.tables))
            return Fate(name, arrives, where, arrives and denied is None, passing)
        where = f"is dropped on {drop.node} in {drop.table.text}"
        if drop.flow is None or drop.flow.actions:
            where += f": {drop.reason}"
        right = denied is not None
        if denied is not None and name == "first packet":
            right = drop.node == denied.node and drop.table in denied.tables
        return Fate(name, arrives, where, right, self._reading(drop.node, drop.flow))

    def _post_words(self, post: Post) -> str:
        known = self._names.get(post)
        if known is not None:
            return known
        if not post.node:
            return "a tunnel to no known node"
        name = _NAMES.get(post.port) or f"port {self._port_names(post.node).get(post.port)}"
        return f"{name} of {post.node}"

    def _port_names(self, node: str) -> Mapping[int, str]:
        return self._fabric.ports(node) if node in self._fabric.nodes else {}

    def _reading(self, node: str, flow: Flow | None) -> Reading | None:
        if flow is None:
            return None
        ports = self._port_names(node)
        said = words(flow, ports)
        return Reading(
            node=node,
            table=flow.table.text,
            flow=print_flow(flow, ports),
            packets=said.packets,
            outcome=said.outcome,
            owner=owner_words(flow, self._owners),
        )


def _packets(traffic: Traffic, client: int, port: int | None) -> _Packets:
    ends = str(traffic.source), str(traffic.destination)
    back = ends[::-1]
    ports = client, port or 0
    match traffic.protocol:
        case IpProto.TCP:
            return _Packets(
                tcp(*ends, *ports),
                tcp(*back, *ports[::-1], flags=SYN | ACK),
                tcp(*ends, *ports, flags=ACK),
            )
        case IpProto.UDP:
            return _Packets(udp(*ends, *ports), udp(*back, *ports[::-1]), udp(*ends, *ports))
        case IpProto.SCTP:
            first, answer = _sctp(*ends, *ports), _sctp(*back, *ports[::-1])
            return _Packets(first, answer, first)
        case _:
            return _Packets(echo(*ends), echo(*back, reply=True), echo(*ends))


def _sctp(source: str, destination: str, source_port: int, destination_port: int) -> Packet:
    ports = {Field.SCTP_SRC: source_port, Field.SCTP_DST: destination_port}
    return ip(source, destination, IpProto.SCTP).replace(ports)


def _established(first: Packet, nodes: frozenset[str]) -> Trackers:
    """The trackers of all nodes when the connection that a packet begins has been answered."""
    ends = ends_of(first)
    known = Connection(POLICY_ZONE, ends, ends.reverse, answered=True)
    both = {(POLICY_ZONE, ends): known, (POLICY_ZONE, ends.reverse): known}
    return dict.fromkeys(nodes, Connections(both))


def _doubts(way: Way) -> Iterator[str]:
    """Why nobody can say where a switch would have sent the packet."""
    for node, foreign in way.unread:
        yield (
            f"{node} holds a flow in table {foreign.table} that ovsnet cannot follow "
            f"({foreign.reason})"
        )
    for hop in way.hops:
        taken = hop.step.flow
        # Several rules that allow one connection are rivals that do the same.
        if any(r is None or taken is None or r.actions != taken.actions for r in hop.step.rivals):
            table = hop.step.table.text
            yield f"{hop.node} holds flows in {table} of which any may take the packet"


def _problem(wrong: Fate, denied: _Denied | None) -> str:
    if denied is None:
        return f"policies allow it, and the {wrong.packet} {wrong.where}"
    said = f"{denied.direction.lower()} policies deny it on {denied.node}"
    return f"{said}, and the {wrong.packet} {wrong.where}"
