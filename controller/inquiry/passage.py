"""The way of packets through the flows that switches hold: in by a port of one, out by another's.

The switches are simulated (`ovsnet.flows.simulator`), and the tunnel between them with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.flows.balance import GROUPS
from ovsnet.flows.channel import underlay_between
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow
from ovsnet.flows.simulator import (
    Connections,
    GroupEntry,
    GroupKind,
    Packet,
    Step,
    Switch,
    Trace,
)
from ovsnet.flows.simulator.lookup import TableIndex
from ovsnet.model import Node
from ovsnet.names import GATEWAY_OFPORT, TUNNEL_OFPORT, Table

_MOST_HOPS: Final = 8
_GROUPS: Final = {each.id: GroupEntry(GroupKind.SELECT, each.buckets) for each in GROUPS}
"""What every switch has: nobody asks it for its groups."""

_REGISTERS: Final = dict.fromkeys((f for f in Field if f <= Field.CONJ_ID), 0)

Trackers: TypeAlias = Mapping[str, Connections]
"""The connection trackers of switches, by node."""


class Held(msgspec.Struct, frozen=True):
    """What the switch of a node holds: its flows, and its ports' names by their numbers.

    `userspace` says that its datapath is Open vSwitch's own, whose tracker knows no ports of SCTP.
    """

    node: Node
    flows: tuple[Flow | ForeignFlow, ...]
    ports: Mapping[int, str]
    userspace: bool = False


class Post(NamedTuple):
    """A port of a node's switch."""

    node: str
    port: int


class Hop(msgspec.Struct, frozen=True):
    """One lookup on the way."""

    node: str
    step: Step


class Drop(msgspec.Struct, frozen=True):
    """Where a packet came to nothing, by which flow (None: no flow matches), and why."""

    node: str
    table: Table
    flow: Flow | None
    reason: str


class Way(msgspec.Struct, frozen=True):
    """The way of one packet.

    `drop` is where it ended if it has not arrived; `packets` is what it was where it has, in the
    order of `arrivals`. `unread` are flows in tables on the way that the simulator cannot follow,
    so that nobody can say what they would have done. `choices` says of how many possibilities one
    was taken, each time that the packet's hash had a say.
    """

    hops: tuple[Hop, ...]
    arrivals: tuple[Post, ...]
    drop: Drop | None
    unread: tuple[tuple[str, ForeignFlow], ...] = ()
    packets: tuple[Packet, ...] = ()
    choices: tuple[int, ...] = ()

    def last(self, node: str, tables: Iterable[Table]) -> Flow | None:
        """The flow that it met last in any of these tables on a node."""
        among = frozenset(tables)
        met = [h.step.flow for h in self.hops if h.node == node and h.step.table in among]
        return next((flow for flow in reversed(met) if flow is not None), None)


class _Switch(NamedTuple):
    held: Held
    simulated: Switch
    unread: Mapping[int, tuple[ForeignFlow, ...]]


class Fabric:
    """Switches and the tunnel that joins them; `nodes` are all nodes of the cluster."""

    def __init__(self, held: Iterable[Held], nodes: Iterable[Node]) -> None:
        self._switches = {each.node.name: _simulated(each) for each in held}
        self._by_underlay = {int(address): node for node in nodes for address in node.addresses}

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes whose switches are known."""
        return frozenset(self._switches)

    @property
    def userspace(self) -> tuple[str, ...]:
        """The nodes whose datapath is Open vSwitch's own, in order."""
        return tuple(sorted(name for name, s in self._switches.items() if s.held.userspace))

    def ports(self, node: str) -> Mapping[int, str]:
        """The names of a node's ports."""
        return self._switches[node].held.ports

    def table(self, node: str, table: Table) -> TableIndex:
        """The flows of a table of a node's switch, as far as they are known."""
        return self._switches[node].simulated.tables[table]

    def carry(
        self, at: Post, packet: Packet, trackers: Trackers, choices: tuple[int, ...] = ()
    ) -> tuple[Way, Trackers]:
        """Carry a packet that comes in by a port; returns its way, and the trackers after it.

        What reaches the tunnel of a node whose switch is not known counts as arrived there. The
        packet's hash is what `choices` says, wherever it has a say (see `Switch.trace`).

        Raises:
            ValueError: a flow sends to a port whose meaning is not modelled, or the packet goes
                round between nodes.
        """
        walk = _Walk(dict(trackers), choices)
        waiting = [(at, packet)]
        for _ in range(_MOST_HOPS):
            if not waiting:
                return walk.way(), walk.trackers
            where, arriving = waiting.pop(0)
            waiting += self._pass(where, arriving, walk)
        nodes = " and ".join(sorted({hop.node for hop in walk.way().hops}))
        raise ValueError(f"the packet goes round between {nodes}")

    def _pass(self, at: Post, packet: Packet, walk: _Walk) -> Iterator[tuple[Post, Packet]]:
        switch = self._switches[at.node]
        incoming = packet.replace({Field.IN_PORT: at.port})
        trace = switch.simulated.trace(incoming, walk.trackers.get(at.node), walk.given)
        walk.note(switch, trace)
        for out in trace.deliveries:
            if out.port != TUNNEL_OFPORT:
                walk.arrive(Post(at.node, out.port), out.packet)
                continue
            there = self._by_underlay.get(out.packet[Field.TUN_DST])
            there = there or self._by_underlay.get(out.packet[Field.TUN_IPV6_DST])
            if there is None or there.name not in self._switches:
                walk.arrive(Post(there.name if there else "", TUNNEL_OFPORT), out.packet)
            else:
                yield Post(there.name, TUNNEL_OFPORT), _tunnelled(out.packet, switch, there)


class _Walk:
    """What is gathered on the way."""

    def __init__(self, trackers: dict[str, Connections], choices: tuple[int, ...]) -> None:
        self.trackers = trackers
        self.given = choices
        self._arrivals: list[Post] = []
        self._packets: list[Packet] = []
        self._choices: list[int] = []
        self._hops: list[Hop] = []
        self._drop: Drop | None = None
        self._unread: list[tuple[str, ForeignFlow]] = []

    def arrive(self, post: Post, packet: Packet) -> None:
        """The packet, or one of its copies, comes out by a port."""
        self._arrivals.append(post)
        self._packets.append(packet)

    def note(self, switch: _Switch, trace: Trace) -> None:
        """The packet has passed a switch."""
        node = switch.held.node.name
        assert isinstance(trace.tracker, Connections)
        self.trackers[node] = trace.tracker
        self._hops += (Hop(node, step) for step in trace.steps)
        self._choices += (choice.of for choice in trace.choices)
        for table in sorted({step.table for step in trace.steps}):
            self._unread += ((node, foreign) for foreign in switch.unread.get(table, ()))
        if trace.losses:
            lost = trace.losses[-1]
            self._drop = Drop(node, lost.table, lost.flow, str(lost.reason))
        elif trace.dropped:
            last = trace.steps[-1]
            self._drop = Drop(node, last.table, last.flow, "no flow sends it on")

    def way(self) -> Way:
        """The way so far."""
        return Way(
            hops=tuple(self._hops),
            arrivals=tuple(self._arrivals),
            drop=None if self._arrivals else self._drop,
            unread=tuple(self._unread),
            packets=tuple(self._packets),
            choices=tuple(self._choices),
        )


def _simulated(held: Held) -> _Switch:
    known = [flow for flow in held.flows if isinstance(flow, Flow)]
    unread: dict[int, tuple[ForeignFlow, ...]] = {}
    for flow in held.flows:
        if isinstance(flow, ForeignFlow):
            unread[flow.table] = (*unread.get(flow.table, ()), flow)
    ports = (GATEWAY_OFPORT, TUNNEL_OFPORT, *held.ports)
    return _Switch(held, Switch(known, ports, groups=_GROUPS), unread)


def _tunnelled(packet: Packet, here: _Switch, there: Node) -> Packet:
    """The packet as it comes out of the tunnel: without what only the first switch knew of it."""
    outer = underlay_between(there, here.held.node)
    key = packet[Field.TUN_ID]
    plain = packet.replace({**_REGISTERS, Field.TUN_DST: 0, Field.TUN_IPV6_DST: 0}).untracked()
    to = underlay_between(here.held.node, there)
    if outer is None or to is None:
        return plain
    return plain.through_tunnel(TUNNEL_OFPORT, key, str(outer), str(to))
