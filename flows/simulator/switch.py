"""A switch as a value, and the way of packets through it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from copy import copy

from ovsnet.flows.balance import GROUPS
from ovsnet.flows.flow import Flow
from ovsnet.flows.simulator.conntrack import Connections, Tracker
from ovsnet.flows.simulator.group import GroupEntry, selecting
from ovsnet.flows.simulator.lookup import TableIndex
from ovsnet.flows.simulator.packet import Packet
from ovsnet.flows.simulator.trace import Choice, Pass, Trace
from ovsnet.flows.simulator.walk import Walk
from ovsnet.names import TUNNEL_OFPORT, Table

MAX_PASSES = 64
"""How often the tracker gives one packet back before its flows are taken for a loop."""


class Switch:
    """Flows, ports and groups of a switch. Not changed once made.

    `ports` are the port numbers that exist, `tunnels` those of them that lead through a
    flow-based tunnel. The groups are those of every switch unless others are given. Making it
    sorts the flows for lookup once; tracing then costs little.
    """

    def __init__(
        self,
        flows: Iterable[Flow],
        ports: Iterable[int],
        tunnels: Iterable[int] = (TUNNEL_OFPORT,),
        groups: Mapping[int, GroupEntry] | None = None,
    ) -> None:
        by_table: dict[Table, list[Flow]] = {}
        for flow in flows:
            by_table.setdefault(flow.table, []).append(flow)
        empty = TableIndex(())
        self.tables = {t: TableIndex(by_table[t]) if t in by_table else empty for t in Table}
        self.ports = frozenset(ports)
        self.tunnels = frozenset(tunnels)
        self.groups = dict(selecting(GROUPS) if groups is None else groups)

    def having(self, flows: Iterable[Flow]) -> Switch:
        """The switch with these flows, too: what it has learnt, for one."""
        by_table: dict[Table, list[Flow]] = {}
        for flow in flows:
            by_table.setdefault(flow.table, []).append(flow)
        if not by_table:
            return self
        made = copy(self)
        more = {t: TableIndex((*self.tables[t].flows, *found)) for t, found in by_table.items()}
        made.tables = self.tables | more
        return made

    def trace(
        self,
        packet: Packet,
        tracker: Tracker | None = None,
        choices: tuple[int, ...] = (),
        start: Table = Table.CLASSIFY,
    ) -> Trace:
        """Carry a packet through the flows.

        `tracker` is the state of the connection tracker, empty if it is left out. `choices` says
        which bucket the select groups on the way take, and which value those bits of the packet's
        hash have that actions read. Where it does not say, the packet's own hash does (dp_hash),
        if it comes with one, and otherwise the first are taken. What the switch learns holds from
        the next pass on.

        Raises:
            ValueError: a flow sends to a port whose meaning is not modelled (NORMAL, FLOOD, ...).
        """
        state: Tracker = Connections() if tracker is None else tracker
        waiting = deque([(packet, start)])
        passes: list[Pass] = []
        taken: list[Choice] = []
        switch = self
        while waiting and len(passes) < MAX_PASSES:
            walk = Walk(switch, *waiting.popleft(), state, choices[len(taken) :])
            passes.append(walk.result())
            switch = switch.having(walk.learnt.values())
            taken += walk.taken
            if not walk.failed:
                state = walk.tracker
                waiting.extend(walk.forks)
        return Trace(tuple(passes), state, tuple(taken))

    def traces(self, packet: Packet, tracker: Tracker | None = None) -> Iterator[Trace]:
        """Every way that a packet can take: one for each choice of buckets in select groups.

        Raises:
            ValueError: as `trace`.
        """
        waiting: list[tuple[int, ...]] = [()]
        while waiting:
            given = waiting.pop()
            trace = self.trace(packet, tracker, given)
            yield trace
            made = tuple(choice.bucket for choice in trace.choices)
            for place in range(len(given), len(made)):
                for other in range(1, trace.choices[place].of):
                    waiting.append((*made[:place], other))
