"""A call of a service on trial: its packets carried through the flows that the switches hold.

The first packet must be led to every endpoint that may take it and to no other. From there all is
as for other connections (see `trial`), but that the endpoint answers to whom it sees, and the
client must be answered from where it called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ovsnet.controller.inquiry.calls import ServiceCall
from ovsnet.controller.inquiry.ends import End
from ovsnet.controller.inquiry.openings import Opening, openings
from ovsnet.controller.inquiry.packets import (
    CLIENT_PORT,
    Packets,
    packets_between,
    places,
    refusal,
)
from ovsnet.controller.inquiry.passage import Fabric, Post, Trackers, Way
from ovsnet.controller.inquiry.reading import Reader
from ovsnet.controller.inquiry.record import Barrier, Record
from ovsnet.controller.inquiry.trial import ALLOWED, Start, barrier
from ovsnet.controller.inquiry.why import Fate, Flows
from ovsnet.flows.fields import Field, IpProto
from ovsnet.flows.registers import Natted
from ovsnet.flows.simulator import Connection, Connections, Packet
from ovsnet.flows.simulator.conntrack import ends_of
from ovsnet.flows.terms import mac
from ovsnet.model import IPAddress
from ovsnet.names import GATEWAY_OFPORT, POLICY_ZONE, REFUSER_MAC, Table
from ovsnet.policy.evaluate import Verdict
from ovsnet.services.world import Endpoint

_CHOOSING: Final = tuple(t for t in Table if Table.SERVICE <= t < Table.SOURCE_NAT)


class ServiceTrial:
    """Tries one call by an IP protocol (IANA number): of `source`, whose packets come in at a port.
    `owners` and `sets` are those of `Reader`.
    """

    def __init__(
        self,
        fabric: Fabric,
        made: ServiceCall,
        protocol: int,
        source: tuple[End, Start],
        owners: Mapping[int, str],
        sets: Mapping[int, str],
    ) -> None:
        self._fabric = fabric
        self._made = made
        self._protocol = protocol
        self._name, self._here = source[0].name, source[1]
        self._owners, self._sets = owners, sets
        ports = protocol in (IpProto.TCP, IpProto.UDP, IpProto.SCTP)
        self._client = Endpoint(made.call.client.address, CLIENT_PORT if ports else 0)
        self._called = Endpoint(made.destination, made.call.port or 0)
        self._first = self._here.sends(self._between(self._client, self._called).first)
        self._openings: dict[Endpoint | None, Opening] = {}
        self._broken: ValueError | None = None
        try:
            for opening in openings(fabric, self._here.post, self._first):
                self._openings.setdefault(opening.endpoint, opening)
        except ValueError as error:
            self._broken = error

    def choice(self, expected: frozenset[Endpoint]) -> Flows:
        """Whether the first packet is led to each of these endpoints, and to no other."""
        record = Record(self._reader({}), None, "")
        if self._broken is not None:
            return record.broken(self._broken)
        for found, opening in self._openings.items():
            if found not in expected:
                way, node = opening.way, self._here.post.node
                where = "may be led to no endpoint" if found is None else f"may be led to {found}"
                reading = self._reader({}).flow(node, way.last(node, _CHOOSING))
                fate = Fate("first packet", bool(way.arrivals), where, False, reading)
                return Flows(False, f"the {fate.packet} {fate.where}", (fate,))
        missing = sorted(expected - self._openings.keys())
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            return Flows(False, f"no flow leads to {missing[0]}{more}")
        return record.flows()

    def refused(self, gateway: IPAddress) -> Flows:
        """Whether the node is asked to refuse it, and a pod hears what its gateway answers. Whoever
        calls from the node or through it hears that without any switch.
        """
        node = Start(Post(self._here.post.node, GATEWAY_OFPORT), self._here.mac)
        record = Record(self._reader({}), None, "it is to be refused")
        if self._broken is not None:
            return record.broken(self._broken)
        opening = next(iter(self._openings.values()))
        sent = opening.way.packets[0] if opening.way.packets else None
        meant = sent is not None and sent[Field.ETH_SRC] == mac(REFUSER_MAC)
        otherwise = "" if meant else ", and is not to be refused there"
        arrives = record.note("first packet", opening.way, node.post, otherwise)
        if arrives and meant and sent is not None and self._here.post != node.post:
            answer = node.sends(refusal(sent, gateway))
            try:
                way, _ = self._fabric.carry(node.post, answer, opening.trackers)
            except ValueError as error:
                return record.broken(error)
            # An error comes from the node, which is no end of the connection.
            otherwise = "" if answer.quoted else _unlike(way, self._called, self._client)
            record.note("refusal", way, self._here.post, otherwise)
        return record.flows()

    def dropped(self) -> Flows:
        """Whether the service itself drops it on the node."""
        node = self._here.post.node
        words = f"the service drops it on {node}"
        record = Record(self._reader({}), Barrier(node, (Table.SERVICE, Table.BALANCE), words), "")
        if self._broken is not None:
            return record.broken(self._broken)
        for opening in self._openings.values():
            record.note("first packet", opening.way, self._here.post)
        return record.flows()

    def endpoint(
        self, endpoint: Endpoint, there: tuple[End, Start], verdict: Verdict | None, *, back: bool
    ) -> Flows:
        """What becomes of it where it is led to this endpoint, whose packets come in `there`.

        `verdict` is what policies decide, None: they are not asked. `back` says whether they allow
        the connection that the answers would begin.
        """
        name, start = there[0].name, there[1]
        node = self._here.post.node
        denied = None if verdict is None else barrier(verdict, node, start.post.node)
        record = Record(self._reader({start.post: name}), denied, ALLOWED)
        opening = self._openings.get(endpoint)
        if self._broken is not None:
            return record.broken(self._broken)
        if opening is None:
            return Flows(False, "no flow leads to it")
        try:
            if denied is None:
                self._try_allowed(record, opening, endpoint, start)
            else:
                self._try_denied(record, opening, endpoint, start, back=back)
        except ValueError as error:
            return record.broken(error)
        return record.flows()

    def _try_allowed(
        self, record: Record, opening: Opening, endpoint: Endpoint, there: Start
    ) -> None:
        way, goal = opening.way, there.post
        if not record.note("first packet", way, goal, _unlike(way, None, endpoint)):
            return
        seen, _ = places(way.packets[0])
        packets = self._between(seen, endpoint)
        way, trackers = self._fabric.carry(goal, there.sends(packets.answer), opening.trackers)
        home = self._here.post
        record.note("answer", way, home, _unlike(way, self._called, self._client))
        later = self._here.sends(self._between(self._client, self._called).later)
        way, _ = self._fabric.carry(home, later, trackers)
        record.note("later packet", way, goal, _unlike(way, seen, endpoint))

    def _try_denied(
        self, record: Record, opening: Opening, endpoint: Endpoint, there: Start, *, back: bool
    ) -> None:
        home, goal = self._here.post, there.post
        record.note("first packet", opening.way, goal)
        judged = _judged(opening.way, home.node)
        if judged is None:
            return
        seen, _ = places(judged)
        live = self._live(opening, judged, goal.node)
        later = self._here.sends(self._between(self._client, self._called).later)
        way, _ = self._fabric.carry(home, later, live)
        record.note("packet of a live connection", way, goal)
        # An answer of another protocol than TCP may be taken for the first packet of a connection
        # of its own. If the policies allow that one, either fate is right.
        if self._protocol == IpProto.TCP or not back:
            answer = there.sends(self._between(seen, endpoint).answer)
            way, _ = self._fabric.carry(goal, answer, live)
            record.note("answer in a live connection", way, home)

    def _live(self, opening: Opening, judged: Packet, there: str) -> Trackers:
        """The trackers if the connection had been answered before policies denied it; `judged` is
        its first packet as policies saw it.
        """
        here = self._here.post.node
        ends = ends_of(judged)
        source = places(judged)[0].address
        mark = Natted.SERVED | (Natted.SOURCE if source != self._client.address else 0)
        marks = {there: 0} | {here: int(mark)}
        found = dict(opening.trackers)
        for node, bits in marks.items():
            known = found.get(node, Connections())
            policy = Connection(POLICY_ZONE, ends, ends.reverse, answered=True, mark=bits)
            both = {(POLICY_ZONE, ends): policy, (POLICY_ZONE, ends.reverse): policy}
            answered = {
                key: msgspec.structs.replace(each, answered=True)
                for key, each in known.by_ends.items()
            }
            found[node] = Connections({**answered, **both})
        return found

    def _between(self, source: Endpoint, destination: Endpoint) -> Packets:
        return packets_between(self._protocol, source, destination)

    def _reader(self, names: Mapping[Post, str]) -> Reader:
        known = {**names, self._here.post: self._name}
        return Reader(self._fabric, self._owners, self._sets, known)


def _unlike(way: Way, source: Endpoint | None, destination: Endpoint) -> str:
    """What is wrong with the addresses of a packet that has arrived; nothing if they are these.
    Without a source, any will do.
    """
    if not way.packets:
        return ""
    found = places(way.packets[0])
    if found[1] == destination and source in (None, found[0]):
        return ""
    return f", from {found[0]} to {found[1]}"


def _judged(way: Way, node: str) -> Packet | None:
    """The packet as policies saw it on a node, if it got that far."""
    met = (h.step for h in way.hops if h.node == node and h.step.table is Table.CONNTRACK)
    return next((step.packet for step in met), None)
