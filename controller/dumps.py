"""Dumps of one switch's flows for those who want to see them, beside what the session does itself.

Like the session it does no input or output and keeps no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ovsnet.controller.notices import Dumped, NotDumped, Outcome, Send
from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.events import FlowsListed
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.flows.flow import Flow

_MOST_FLOWS: Final = 2_000_000


class _Dump(msgspec.Struct):
    """A dump coming in. `heard` is when it was asked for, or its last part came."""

    xid: int
    tickets: tuple[int, ...]
    heard: float
    flows: list[Flow | decode.ForeignFlow]


class Dumps:
    """One dump at a time. Who asks meanwhile gets the next one: an answer is later than every
    question that it answers.

    `next_xid` and `send` are the session's. A dump of which nothing comes for `patience` seconds
    is given up; the session has its own ways to find out whether the switch lives.
    """

    def __init__(
        self,
        node: str,
        next_xid: Callable[[], int],
        send: Callable[[bytes], Send],
        patience: float,
    ) -> None:
        self._node = node
        self._next_xid = next_xid
        self._send = send
        self._patience = patience
        self._waiting: list[int] = []
        self._coming: _Dump | None = None

    @property
    def due(self) -> float:
        """When `tick` must be called at the latest."""
        return float("inf") if self._coming is None else self._coming.heard + self._patience

    def ask(self, ticket: int, now: float) -> list[Outcome]:
        """Somebody wants to see all flows, and knows the answer by `ticket`."""
        self._waiting.append(ticket)
        return [] if self._coming else self._begin(now)

    def asked(self, xid: int) -> bool:
        """Whether an answer with this transaction id is part of the dump on its way."""
        return self._coming is not None and self._coming.xid == xid

    def listed(self, event: FlowsListed, now: float) -> list[Outcome]:
        """A part of the dump on its way has come.

        Raises:
            WireError: it makes no sense.
        """
        dump = self._coming
        assert dump is not None
        dump.heard = now
        take_in(event, dump.flows)
        if event.more:
            return []
        return [Dumped(self._node, dump.tickets, tuple(dump.flows)), *self._begin(now)]

    def failed(self, reason: str, now: float) -> list[Outcome]:
        """Nothing will come of the dump on its way; what does all the same is nobody's answer."""
        assert self._coming is not None
        return [NotDumped(self._node, self._coming.tickets, reason), *self._begin(now)]

    def tick(self, now: float) -> list[Outcome]:
        """What the passing of time leads to."""
        if now < self.due:
            return []
        return self.failed(f"it has not answered for {self._patience:g} s", now)

    def end(self, reason: str) -> list[Outcome]:
        """The session has ended."""
        tickets = (*(self._coming.tickets if self._coming else ()), *self._waiting)
        self._coming, self._waiting = None, []
        return [NotDumped(self._node, tickets, reason)] if tickets else []

    def _begin(self, now: float) -> list[Outcome]:
        tickets, self._waiting, self._coming = tuple(self._waiting), [], None
        if not tickets:
            return []
        self._coming = _Dump(self._next_xid(), tickets, now, [])
        return [self._send(encode.flow_dump(self._coming.xid))]


def take_in(event: FlowsListed, flows: list[Flow | decode.ForeignFlow]) -> None:
    """Add the flows of one part of a dump to those of the parts before it.

    Raises:
        WireError: it is no part of a dump, or the dump has more parts than a switch has flows.
    """
    flows += decode.flows(event.body)
    if len(flows) > _MOST_FLOWS:
        raise WireError(f"more than {_MOST_FLOWS} flows in one dump")
