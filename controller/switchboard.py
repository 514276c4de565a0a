"""All sessions of a controller: who may have one, and which one is a node's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from ovsnet.controller.notices import Close, Lost, Outcome, TurnedAway
from ovsnet.controller.openflow.encode import SharedAdds
from ovsnet.controller.openflow.events import Connected, Event
from ovsnet.controller.openflow.protocol import BUNDLES_CAPABILITY
from ovsnet.controller.session import Session, Timing
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

    `generation` is the term of our leadership: a switch that has seen a greater one refuses us.
    """

    def __init__(self, generation: int, timing: Timing) -> None:
        self._generation = generation
        self._timing = timing
        self._shared = SharedAdds()
        self._by_connection: dict[int, Session] = {}
        self._by_node: dict[str, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_node.values())

    def session(self, node: str) -> Session | None:
        """The session of a node, if its switch is connected."""
        return self._by_node.get(node)

    @property
    def due(self) -> float:
        """When `tick` must be called at the latest."""
        return min((session.due for session in self), default=float("inf"))

    def handle(self, event: Event, nodes: Collection[str], now: float) -> list[Outcome]:
        """What an event of any connection leads to. `nodes` are the cluster's at this moment."""
        if isinstance(event, Connected):
            return self._connected(event, nodes, now)
        session = self._by_connection.get(event.connection)
        return self._settled(session.handle(event, now)) if session is not None else []

    def tick(self, now: float) -> list[Outcome]:
        """What the passing of time leads to."""
        outcomes = []
        for session in list(self):
            if session.due <= now:
                outcomes += self._settled(session.tick(now))
        return outcomes

    def close(self, node: str, reason: str) -> list[Outcome]:
        """End the session of a node, because it has left the cluster, say."""
        session = self._by_node.get(node)
        return self._settled(session.close(reason)) if session is not None else []

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
        return [*outcomes, *session.start(now)]

    def _settled(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Forget the sessions that have ended with these outcomes."""
        for outcome in outcomes:
            if isinstance(outcome, Lost):
                del self._by_connection[outcome.connection]
                del self._by_node[outcome.node]
        return outcomes
