"""What one switch counts for the flows that drop what no policy grants, read from time to time
beside what the session does itself.

Like the session it does no input or output and keeps no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from ovsnet.controller.notices import Counted, NotCounted, Outcome, Send
from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.events import FlowsListed
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.flows.policy import WAYS
from ovsnet.names import datapath_id

_MOST_FLOWS: Final = 2_000_000
_TABLES: Final = tuple(way.default for way in WAYS.values())


class _Reading(msgspec.Struct):
    """A reading coming in: the questions that are not answered to their end, what has been counted
    in how many flows, and when it was asked for, or its last part came.
    """

    xids: set[int]
    packets: Counter[int]
    flows: int
    heard: float


class Counters:
    """One reading at a time, every `interval` seconds from a moment on that is another one for
    every node: switches that connect all at once are not asked all at once.

    `next_xid` and `send` are the session's. A reading of which nothing comes for `patience`
    seconds is given up; the session has its own ways to find out whether the switch lives.
    """

    def __init__(
        self,
        node: str,
        next_xid: Callable[[], int],
        send: Callable[[bytes], Send],
        interval: float,
        patience: float,
    ) -> None:
        self._node = node
        self._next_xid = next_xid
        self._send = send
        self._interval = interval
        self._patience = patience
        self._next = float("inf")
        self._coming: _Reading | None = None

    @property
    def due(self) -> float:
        """When `tick` must be called at the latest."""
        return self._next if self._coming is None else self._coming.heard + self._patience

    def begin(self, now: float) -> None:
        """Read from now on."""
        self._next = now + self._interval * (datapath_id(self._node) / 2**64)

    def asked(self, xid: int) -> bool:
        """Whether an answer with this transaction id is part of the reading on its way."""
        return self._coming is not None and xid in self._coming.xids

    def listed(self, event: FlowsListed, now: float) -> list[Outcome]:
        """A part of the reading on its way has come.

        Raises:
            WireError: it makes no sense, or has more parts than a switch has flows.
        """
        reading = self._coming
        assert reading is not None
        reading.heard = now
        for cookie, packets in decode.packets(event.body):
            reading.flows += 1
            if packets:
                reading.packets[cookie] += packets
        if reading.flows > _MOST_FLOWS:
            raise WireError(f"more than {_MOST_FLOWS} flows in one reading of counters")
        if event.more:
            return []
        reading.xids.discard(event.xid)
        if reading.xids:
            return []
        self._coming = None
        return [Counted(self._node, dict(reading.packets))]

    def failed(self, reason: str) -> list[Outcome]:
        """Nothing will come of the reading on its way; what does all the same is passed over."""
        self._coming = None
        return [NotCounted(self._node, reason)]

    def tick(self, now: float) -> list[Outcome]:
        """What the passing of time leads to."""
        if now < self.due:
            return []
        if self._coming is not None:
            return self.failed(f"it has not answered for {self._patience:g} s")
        self._next = now + self._interval
        questions = {self._next_xid(): table for table in _TABLES}
        self._coming = _Reading(set(questions), Counter(), 0, now)
        return [self._send(b"".join(encode.flow_dump(*each) for each in questions.items()))]
