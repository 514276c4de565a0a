"""The connection tracker as a value: every packet that passes yields the tracker's next state.

`Connections` follows ovs-fields(7), section Connection Tracking Fields, and ovs-actions(7), ct.
It knows no time: nothing expires, and TCP is followed without sequence numbers. `Foreseen` says
what it is told to, like the option --ct-next of ofproto/trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol, Self

import msgspec

from ovsnet.flows.fields import CtState, EthType, Field, IpProto
from ovsnet.flows.flow import Ct, Nat, NatKind
from ovsnet.flows.simulator.packet import Packet

F = Field
_FIN, _SYN, _RST, _PSH, _ACK, _URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_SPANS = ((1, 511), (600, 1023), (1024, 0xFFFF))
_ICMP_REQUESTS = {8: 0, 13: 14, 15: 16}
_ICMPV6_REQUESTS = {128: 129}
_PORT_FIELDS: dict[int, tuple[Field, Field]] = {
    IpProto.TCP: (F.TCP_SRC, F.TCP_DST),
    IpProto.UDP: (F.UDP_SRC, F.UDP_DST),
    IpProto.SCTP: (F.SCTP_SRC, F.SCTP_DST),
}


class Ends(NamedTuple):
    """A direction of a connection: protocol, addresses, ports (ICMP has zeros for ports)."""

    ether_type: int
    protocol: int
    source: int
    destination: int
    source_port: int
    destination_port: int

    @property
    def reverse(self) -> Ends:
        """The other direction."""
        return Ends(
            self.ether_type,
            self.protocol,
            self.destination,
            self.source,
            self.destination_port,
            self.source_port,
        )


class Written(NamedTuple):
    """What the actions of ct(exec(...)) write to a connection: value and mask."""

    value: int = 0
    mask: int = 0

    def over(self, old: int) -> int:
        """The old value with the written bits replaced."""
        return old & ~self.mask | self.value & self.mask


class Tracker(Protocol):
    """What the action ct asks."""

    def track(
        self, packet: Packet, action: Ct, mark: Written, label: Written
    ) -> tuple[Packet | None, Self]:
        """Pass a packet through.

        Returns the packet as it is looked up afterwards (None: the tracker keeps it), and the
        tracker after it. `mark` and `label` are what the action writes to the connection.
        """
        ...


class Connection(msgspec.Struct, frozen=True):
    """A committed connection.

    `original` is the direction of the packet that was committed, as it was before NAT; `reply`
    what its answers look like before NAT is undone.
    """

    zone: int
    original: Ends
    reply: Ends
    nat: NatKind | None = None
    answered: bool = False
    mark: int = 0
    label: int = 0


class Connections(msgspec.Struct, frozen=True):
    """Committed connections, by zone and either direction.

    A connection is established once an answer was seen; until then its packets are new.
    Fragments never leave the tracker: reassembly is not modelled. FIN and RST close nothing.
    An ICMP error is translated as its connection is: of its own addresses the one that NAT changes
    in its direction, and all of the packet that it quotes.

    There are two trackers, and they translate the packets of a known connection differently. The
    userspace one does whenever it is to do NAT at all. The kernel's (`kernel`) translates packets
    of a connection without an answer yet only as part of a commit that translates, and so errors
    about answers (`ovs_ct_nat` in net/openvswitch/conntrack.c). Where it translates a destination,
    it says so of the source as well, which it may have to change for want of a free port.
    """

    by_ends: Mapping[tuple[int, Ends], Connection] = {}
    kernel: bool = False

    @property
    def all(self) -> frozenset[Connection]:
        """Every connection once."""
        return frozenset(self.by_ends.values())

    def without(self, gone: Callable[[Connection], bool]) -> Connections:
        """The connections but those: what flushing them leaves."""
        left = {ends: c for ends, c in self.by_ends.items() if not gone(c)}
        return Connections(left, self.kernel)

    def track(
        self, packet: Packet, action: Ct, mark: Written, label: Written
    ) -> tuple[Packet | None, Connections]:
        """See `Tracker.track`."""
        if packet[F.IP_FRAG]:
            return None, self
        passed = self._passed_before(packet, action)
        if passed:
            return self._again(packet, passed, action, mark, label)
        ends, related = (
            (ends_of(packet.quoted).reverse, True) if packet.quoted else (ends_of(packet), False)
        )
        known = self.by_ends.get((action.zone, ends))
        if known and not related and action.force and ends != known.original:
            return self.without(lambda c: c is known).track(packet, action, mark, label)
        if known is None and (related or not may_begin(packet)):
            return _tell(packet, action.zone, CtState.INV, None), self
        if known is None:
            return self._first(packet, ends, action, mark, label)
        answer = ends == known.reply and ends != known.original
        after = known
        if answer and not related:
            after = msgspec.structs.replace(after, answered=True)
        if action.commit:
            after = msgspec.structs.replace(
                after, mark=mark.over(after.mark), label=label.over(after.label)
            )
        state: int = CtState.REL if related else CtState.EST if after.answered else CtState.NEW
        if answer:
            state |= CtState.RPL
        if self._translates(action, state):
            packet, changed = self._translated(packet, after, answer)
            state |= changed
        return _tell(packet, action.zone, state, after), self._with(after)

    def _translates(self, action: Ct, state: int) -> bool:
        """Whether a packet of a known connection is translated, where that has a NAT."""
        if action.nat is None:
            return False
        if not self.kernel or state & (CtState.EST | CtState.RPL):
            return True
        if state & CtState.NEW:
            return action.nat.kind is not NatKind.RESTORE
        return action.commit

    def _translated(
        self, packet: Packet, connection: Connection, answer: bool
    ) -> tuple[Packet, int]:
        """See `_translate`."""
        packet, changed = _translate(packet, connection, answer)
        if self.kernel and changed == CtState.DNAT and not answer:
            changed |= CtState.SNAT
        return packet, changed

    def _passed_before(self, packet: Packet, action: Ct) -> Connection | None:
        """The connection that the tracker found when this packet passed it in this zone before.
        It goes with the packet, whose addresses may be others by now.
        """
        if action.force or packet[F.CT_ZONE] != action.zone or not packet[F.CT_STATE] & CtState.TRK:
            return None
        known = self.by_ends.get((action.zone, _told(packet)))
        return known if known and known.original == _told(packet) else None

    def _again(
        self, packet: Packet, known: Connection, action: Ct, mark: Written, label: Written
    ) -> tuple[Packet, Connections]:
        state = packet[F.CT_STATE]
        if action.commit:
            known = msgspec.structs.replace(
                known, mark=mark.over(known.mark), label=label.over(known.label)
            )
        if self._translates(action, state) and not state & (CtState.SNAT | CtState.DNAT):
            packet, changed = self._translated(packet, known, bool(state & CtState.RPL))
            state |= changed
        return _tell(packet, action.zone, state, known), self._with(known)

    def _first(
        self, packet: Packet, ends: Ends, action: Ct, mark: Written, label: Written
    ) -> tuple[Packet, Connections]:
        if not action.commit:
            return _tell(packet, action.zone, CtState.NEW, None, ends), self
        made = Connection(action.zone, ends, ends.reverse, None, False, mark.over(0), label.over(0))
        state = int(CtState.NEW)
        if action.nat is not None and action.nat.kind is not NatKind.RESTORE:
            reply = self._free(action.zone, _target(ends, action.nat).reverse, action.nat)
            if reply is None:
                return _tell(packet, action.zone, CtState.INV, None), self
            made = msgspec.structs.replace(made, reply=reply, nat=action.nat.kind)
            packet, changed = self._translated(packet, made, answer=False)
            state |= changed
        return _tell(packet, action.zone, state, made), self._with(made)

    def _with(self, connection: Connection) -> Connections:
        zone = connection.zone
        both = {
            (zone, connection.original): connection,
            (zone, connection.reply): connection,
        }
        if all(self.by_ends.get(key) == connection for key in both):
            return self
        return Connections({**self.by_ends, **both}, self.kernel)

    def _free(self, zone: int, reply: Ends, nat: Nat) -> Ends | None:
        """The reply direction to expect. Where that is in use already, the connection gets another
        source port, be it that the NAT changes the destination alone.
        """
        if (zone, reply) not in self.by_ends:
            return reply
        if reply.protocol in _PORT_FIELDS and (nat.kind is NatKind.DESTINATION or nat.port is None):
            for port in _others(reply.destination_port):
                other = reply._replace(destination_port=port)
                if (zone, other) not in self.by_ends:
                    return other
        return None


def _others(port: int) -> Iterator[int]:
    """The ports that one is changed to, the next one first: system ports stay such."""
    first, last = next(span for span in _SPANS if port <= span[1])
    yield from range(port + 1, last + 1)
    yield from range(first, port)


class Foreseen(msgspec.Struct, frozen=True):
    """A tracker that gives these values of ct_state in turn, and then trk+new.

    As ofproto/trace does, it takes marks from the action and translates by the action's own NAT,
    whatever the state.
    """

    states: tuple[int, ...] = ()

    def track(
        self, packet: Packet, action: Ct, mark: Written, label: Written
    ) -> tuple[Packet | None, Foreseen]:
        """See `Tracker.track`."""
        if action.table is None:
            return packet, self
        state, rest = (
            (self.states[0], self.states[1:])
            if self.states
            else (CtState.TRK | CtState.NEW, self.states)
        )
        packet = packet.replace(
            {
                F.CT_STATE: state,
                F.CT_ZONE: action.zone,
                F.CT_MARK: mark.over(packet[F.CT_MARK]),
                F.CT_LABEL: label.over(packet[F.CT_LABEL]),
            }
        )
        if action.nat is not None and action.nat.address is not None:
            wanted = _target(ends_of(packet), action.nat)
            packet = _readdress(packet, wanted)
        return packet, Foreseen(rest)


def ends_of(packet: Packet) -> Ends:
    """The direction of a connection that an IP packet belongs to."""
    ether, protocol = packet[F.ETH_TYPE], packet[F.IP_PROTO]
    source, destination = _address_fields(ether)
    ports = _PORT_FIELDS.get(protocol)
    found = (packet[ports[0]], packet[ports[1]]) if ports else (0, 0)
    return Ends(ether, protocol, packet[source], packet[destination], *found)


def _told(packet: Packet) -> Ends:
    """The original direction of the connection, as the tracker said when the packet passed it."""
    ether = packet[F.ETH_TYPE]
    four = ether == EthType.IPV4
    ends = (F.CT_NW_SRC, F.CT_NW_DST) if four else (F.CT_IPV6_SRC, F.CT_IPV6_DST)
    fields = (F.CT_NW_PROTO, *ends, F.CT_TP_SRC, F.CT_TP_DST)
    return Ends(ether, *(packet[field] for field in fields))


def may_begin(packet: Packet) -> bool:
    """Whether a packet can be the first that the tracker sees of a connection.

    A TCP segment can unless its flags contradict each other or it is an answer to a SYN: the
    tracker takes up connections that began before it. Of ICMP only requests can.
    """
    match packet[F.IP_PROTO]:
        case IpProto.TCP:
            return _flags_make_sense(packet[F.TCP_FLAGS])
        case IpProto.ICMP if packet[F.ETH_TYPE] == EthType.IPV4:
            return packet[F.ICMP_TYPE] in _ICMP_REQUESTS
        case IpProto.ICMPV6 if packet[F.ETH_TYPE] == EthType.IPV6:
            return packet[F.ICMPV6_TYPE] in _ICMPV6_REQUESTS
    return True


def _flags_make_sense(flags: int) -> bool:
    if flags & _SYN:
        return not flags & (_RST | _FIN | _ACK)
    if not flags & (_ACK | _RST):
        return False
    return bool(flags & _ACK) or not flags & (_FIN | _PSH | _URG)


def _address_fields(ether: int) -> tuple[Field, Field]:
    return (F.IPV4_SRC, F.IPV4_DST) if ether == EthType.IPV4 else (F.IPV6_SRC, F.IPV6_DST)


def _target(ends: Ends, nat: Nat) -> Ends:
    """The original direction after a NAT."""
    if nat.kind is NatKind.SOURCE:
        return ends._replace(
            source=ends.source if nat.address is None else nat.address,
            source_port=nat.port or ends.source_port,
        )
    return ends._replace(
        destination=ends.destination if nat.address is None else nat.address,
        destination_port=nat.port or ends.destination_port,
    )


def _translate(packet: Packet, connection: Connection, answer: bool) -> tuple[Packet, int]:
    """The packet with the connection's NAT done, or undone in an answer; and the bits of ct_state
    that say so.
    """
    if connection.nat is None:
        return packet, 0
    source = (connection.nat is NatKind.SOURCE) != answer
    bit = CtState.SNAT if source else CtState.DNAT
    wanted = (connection.original if answer else connection.reply).reverse
    if packet.quoted is None:
        return _readdress(packet, wanted), bit
    fields = _address_fields(packet[F.ETH_TYPE])
    # Who sends an error is none of the connection's ends, perhaps.
    changed = {fields[0]: wanted.source} if source else {fields[1]: wanted.destination}
    outer = packet.replace(changed)
    return Packet(outer.values, _readdress(packet.quoted, wanted.reverse)), bit


def _readdress(packet: Packet, ends: Ends) -> Packet:
    source, destination = _address_fields(ends.ether_type)
    changes = {source: ends.source, destination: ends.destination}
    fields = _PORT_FIELDS.get(ends.protocol)
    if fields and packet.has(fields[0]):
        changes[fields[0]] = ends.source_port
        changes[fields[1]] = ends.destination_port
    return packet.replace(changes)


def _tell(
    packet: Packet,
    zone: int,
    state: int,
    connection: Connection | None,
    original: Ends | None = None,
) -> Packet:
    """The packet with what the tracker says of it."""
    changes: dict[Field, int] = {F.CT_STATE: CtState.TRK | state, F.CT_ZONE: zone}
    if connection:
        original = connection.original
        changes |= {F.CT_MARK: connection.mark, F.CT_LABEL: connection.label}
    if original:
        four = original.ether_type == EthType.IPV4
        ends = (F.CT_NW_SRC, F.CT_NW_DST) if four else (F.CT_IPV6_SRC, F.CT_IPV6_DST)
        changes |= {
            ends[0]: original.source,
            ends[1]: original.destination,
            F.CT_NW_PROTO: original.protocol,
            F.CT_TP_SRC: original.source_port,
            F.CT_TP_DST: original.destination_port,
        }
    return packet.untracked().replace(changes)
