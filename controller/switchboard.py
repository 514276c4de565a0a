"""All sessions of a controller: who may have one, and which one is a node's."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from typing import Final

from ovsnet.controller.notices import Close, NotDumped, Outcome, TurnedAway
from ovsnet.controller.openflow.encode import SharedAdds
from ovsnet.controller.openflow.events import Connected, Event
from ovsnet.controller.openflow.protocol import BUNDLES_CAPABILITY
from ovsnet.controller.session import Desired, Session
from ovsnet.controller.states import State, Timing
from ovsnet.flows.ledger import Delta
from ovsnet.names import Table, datapath_id

_TABLES: Final = len(Table)


def objection(connected: Connected, nodes: Collection[str]) -> str | None:
    """Why this switch is not let in, in words, or None if it is the switch of one of `nodes`.

    A switch names its node in its description (dp_desc), and its datapath id must be the one
    that follows from the name: a wrong one is a sign of two configurations mixed up.
    """
    name = connected.description
    if name not in nodes:
        return f"dp_desc {name!r} is the name of no node"
    if connected.datapath_id != datapath_id(name):
        return (
            f"datapath id {connected.datapath_id:016x}: "
            f"expected {datapath_id(name):016x} for node {name}"
        )
    if connected.tables < _TABLES:
        return f"{connected.tables} tables: expected at least {_TABLES}"
    if not connected.capabilities & BUNDLES_CAPABILITY:
        return "it has no bundles: expected OpenFlow 1.5 with bundles"
    return None


class Switchboard:
    """The sessions by connection and by node. Of two connections of a node the newer one wins.

    `generation` is the term of our leadership, None while we stand by: a switch that has seen a
    greater one refuses us.
    """

    def __init__(self, generation: int | None, timing: Timing) -> None:
        self._generation = generation
        self._timing = timing
        self._shared = SharedAdds()
        self._by_connection: dict[int, Session] = {}
        self._by_node: dict[str, Session] = {}
        # Times to look at a session, earliest first: one entry a session that is still to be
        # believed, the earliest. Events only put its time off, nearly always, and looking too
        # early does no harm; to ask every session at every event would.
        self._alarms: list[tuple[float, int]] = []
        self._alarm_of: dict[int, float] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_node.values())

    @property
    def generation(self) -> int | None:
        """The term of our leadership; None while we stand by."""
        return self._generation

    def lead(self, generation: int, now: float) -> list[Outcome]:
        """Lead from now on, under this term, which is greater than any that we led under before."""
        self._generation = generation
        outcomes: list[Outcome] = []
        for session in list(self):
            outcomes += self._settled(session, session.lead(generation, now))
        return outcomes

    def stand_by(self, reason: str) -> list[Outcome]:
        """Write nothing from now on, for this reason. The switches connect again."""
        self._generation = None
        return [outcome for session in list(self) for outcome in self.close(session.node, reason)]

    def session(self, node: str) -> Session | None:
        """The session of a node, if its switch is connected."""
        return self._by_node.get(node)

    @property
    def due(self) -> float:
        """When `tick` must be called at the latest."""
        return self._alarms[0][0] if self._alarms else float("inf")

    def handle(self, event: Event, nodes: Collection[str], now: float) -> list[Outcome]:
        """What an event of any connection leads to. `nodes` are the cluster's at this moment."""
        if isinstance(event, Connected):
            return self._connected(event, nodes, now)
        session = self._by_connection.get(event.connection)
        return [] if session is None else self._settled(session, session.handle(event, now))

    def tick(self, now: float) -> list[Outcome]:
        """What the passing of time leads to."""
        outcomes: list[Outcome] = []
        while self._alarms and self._alarms[0][0] <= now:
            at, connection = heapq.heappop(self._alarms)
            session = self._by_connection.get(connection)
            if session is not None and self._alarm_of[connection] == at:
                del self._alarm_of[connection]
                outcomes += self._settled(session, session.tick(now))
        return outcomes

    def changed(self, node: str, delta: Delta, now: float) -> list[Outcome]:
        """A node's desired flows have changed; nothing to do if its switch is not connected."""
        session = self._by_node.get(node)
        return [] if session is None else self._settled(session, session.changed(delta, now))

    def desire(self, node: str, desired: Desired, now: float) -> list[Outcome]:
        """What a node's switch should have is known; nothing to do if it is not connected."""
        session = self._by_node.get(node)
        return [] if session is None else self._settled(session, session.desire(desired, now))

    def reported(self, node: str, digest: int, serial: int, now: float) -> list[Outcome]:
        """A node's agent says which stamp's flows are in effect; see `Session.reported`."""
        session = self._by_node.get(node)
        if session is None:
            return []
        return self._settled(session, session.reported(digest, serial, now))

    def dump(self, node: str, ticket: int, now: float) -> list[Outcome]:
        """Have a node's switch say which flows it has: `Dumped` or `NotDumped`, with the ticket."""
        session = self._by_node.get(node)
        if session is None:
            return [NotDumped(node, (ticket,), "its switch is not connected")]
        return self._settled(session, session.dump(ticket, now))

    def distrust(self, now: float) -> None:
        """Have every switch's flows compared soon, for something may have been left undone."""
        for session in self:
            session.distrust(now)
            self._settled(session, [])

    def close(self, node: str, reason: str) -> list[Outcome]:
        """End the session of a node, because it has left the cluster, say."""
        session = self._by_node.get(node)
        return [] if session is None else self._settled(session, session.close(reason))

    def _connected(self, event: Connected, nodes: Collection[str], now: float) -> list[Outcome]:
        reason = objection(event, nodes)
        if reason is not None:
            turned_away = TurnedAway(event.connection, event.address, event.description, reason)
            return [turned_away, Close(event.connection, reason)]
        node = event.description
        outcomes = self.close(node, "replaced by a newer connection of the same node")
        session = Session(
            node,
            event,
            generation=self._generation,
            shared=self._shared,
            timing=self._timing,
            now=now,
        )
        self._by_connection[event.connection] = session
        self._by_node[node] = session
        return [*outcomes, *self._settled(session, session.start(now))]

    def _settled(self, session: Session, outcomes: list[Outcome]) -> list[Outcome]:
        """Forget a session that has ended; remember when to look at one that goes on."""
        connection = session.connection
        if session.state is State.ENDED:
            del self._by_connection[connection]
            del self._by_node[session.node]
            self._alarm_of.pop(connection, None)
        elif session.due < self._alarm_of.get(connection, float("inf")):
            self._alarm_of[connection] = session.due
            heapq.heappush(self._alarms, (session.due, connection))
        return outcomes
