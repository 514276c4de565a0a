"""The fates of a trial's packets, and what they come to: do the flows do what they should."""

from __future__ import annotations

from typing import NamedTuple

from ovsnet.controller.inquiry.passage import Post, Way
from ovsnet.controller.inquiry.reading import Reader, doubts, drop_words
from ovsnet.controller.inquiry.why import Fate, Flows
from ovsnet.names import Table


class Barrier(NamedTuple):
    """Where packets must be dropped: in any of these tables of a node's switch. `words` say why."""

    node: str
    tables: tuple[Table, ...]
    words: str


class Record:
    """Holds the fates of packets against what is decided: that they arrive, or where the first one
    must be dropped and the others somewhere. `decided` says so in words.
    """

    def __init__(self, reader: Reader, barrier: Barrier | None, decided: str) -> None:
        self._reader = reader
        self._barrier = barrier
        self._decided = decided if barrier is None else barrier.words
        self._fates: list[Fate] = []
        self._unclear: list[str] = []

    def note(self, packet: str, way: Way, goal: Post, otherwise: str = "") -> bool:
        """Enter what became of a packet that was bound for a port; returns whether it got there.

        `otherwise` says what is wrong with it all the same.
        """
        self._unclear += doubts(way)
        arrives, drop, barrier = way.arrivals == (goal,), way.drop, self._barrier
        if drop is None:
            passing = None
            if barrier is not None:
                passing = self._reader.flow(barrier.node, way.last(barrier.node, barrier.tables))
            where = f"{self._reader.arrival(way)}{otherwise}"
            right = arrives and barrier is None and not otherwise
            self._fates.append(Fate(packet, arrives, where, right, passing))
            return arrives
        right = barrier is not None
        if barrier is not None and not self._fates:
            right = drop.node == barrier.node and drop.table in barrier.tables
        reading = self._reader.flow(drop.node, drop.flow)
        self._fates.append(Fate(packet, arrives, drop_words(drop), right, reading))
        return arrives

    def broken(self, error: ValueError) -> Flows:
        """What the fates come to if packets could not be carried on."""
        return Flows(None, f"the flows cannot be followed: {error}", tuple(self._fates))

    def flows(self) -> Flows:
        """What all fates come to."""
        fates = tuple(self._fates)
        if self._unclear:
            return Flows(None, self._unclear[0], fates)
        wrong = next((fate for fate in fates if not fate.right), None)
        if wrong is None:
            return Flows(True, "", fates)
        return Flows(False, f"{self._decided}, and the {wrong.packet} {wrong.where}", fates)
