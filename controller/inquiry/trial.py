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
from ovsnet.controller.inquiry.packets import CLIENT_PORT, packets_between
from ovsnet.controller.inquiry.passage import Fabric, Post, Trackers, Way
from ovsnet.controller.inquiry.reading import Reader
from ovsnet.controller.inquiry.record import Barrier, Record
from ovsnet.controller.inquiry.why import Flows
from ovsnet.controller.views import NodeView
from ovsnet.flows.fields import Field, IpProto
from ovsnet.flows.node import gateway_of
from ovsnet.flows.policy import WAYS
from ovsnet.flows.simulator import Connection, Connections, Packet
from ovsnet.flows.simulator.conntrack import ends_of
from ovsnet.flows.terms import mac
from ovsnet.model import Direction, IPAddress
from ovsnet.names import GATEWAY_OFPORT, POLICY_ZONE, ROUTER_MAC
from ovsnet.policy.evaluate import Traffic, Verdict
from ovsnet.services.world import Endpoint

ALLOWED: Final = "policies allow it"


class Start(NamedTuple):
    """Where an end's packets come in, with its MAC, and where packets to it come out."""

    post: Post
    mac: int

    def sends(self, packet: Packet) -> Packet:
        """A packet as it comes from there."""
        return packet.replace({Field.ETH_SRC: self.mac, Field.ETH_DST: mac(ROUTER_MAC)})


def barrier(verdict: Verdict, here: str, there: str) -> Barrier | None:
    """Where the policies deny a connection from a node to a node, if they do."""
    if not verdict.egress.allowed:
        return _barrier(here, Direction.EGRESS)
    if not verdict.ingress.allowed:
        return _barrier(there, Direction.INGRESS)
    return None


def _barrier(node: str, direction: Direction) -> Barrier:
    way = WAYS[direction]
    words = f"{direction.lower()} policies deny it on {node}"
    return Barrier(node, (way.isolation, way.policy, way.default), words)


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
        names = {start.post: end.name for end, start in (source, destination)}
        self._reader = Reader(fabric, owners, {}, names)

    def flows(self, traffic: Traffic, verdict: Verdict, back: Verdict) -> Flows:
        """What the flows do to a connection for which the policies decide this; `back` is for one
        that its answers would begin.
        """
        record = Record(self._reader, self._barrier(verdict), ALLOWED)
        try:
            for name, way, goal in self._ways(traffic, verdict.allowed, back.allowed):
                record.note(name, way, goal)
        except ValueError as error:
            return record.broken(error)
        return record.flows()

    def _barrier(self, verdict: Verdict) -> Barrier | None:
        return barrier(verdict, self._source.post.node, self._destination.post.node)

    def _ways(
        self, traffic: Traffic, allowed: bool, back_allowed: bool
    ) -> Iterator[tuple[str, Way, Post]]:
        """Packets by name, with their ways and where they are bound for."""
        # No flow looks at the ports of SCTP packets themselves, so those without are what such a
        # tracker makes of them.
        portless = traffic.protocol == IpProto.SCTP and self._fabric.userspace
        packets = packets_between(
            traffic.protocol,
            Endpoint(traffic.source, 0 if portless else CLIENT_PORT),
            Endpoint(traffic.destination, 0 if portless else traffic.port or 0),
        )
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
        return self._fabric.carry(begin.post, begin.sends(packet), trackers)


def _established(first: Packet, nodes: frozenset[str]) -> Trackers:
    """The trackers of all nodes when the connection that a packet begins has been answered."""
    ends = ends_of(first)
    known = Connection(POLICY_ZONE, ends, ends.reverse, answered=True)
    both = {(POLICY_ZONE, ends): known, (POLICY_ZONE, ends.reverse): known}
    return dict.fromkeys(nodes, Connections(both))
