"""Who waits for which dump of flows: tickets that are drawn in any thread, and answered in the
loop's.
"""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from typing import TypeAlias

from ovsnet.controller.notices import Dumped, NotDumped
from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.controller.results import Result
from ovsnet.flows.flow import Flow

Dump: TypeAlias = tuple[Flow | ForeignFlow, ...] | str
"""All flows of a switch, or in words why they are not known."""


class Tickets:
    """Tickets that are open. Every one is answered at most once."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, Future[Dump]] = {}

    def draw(self) -> tuple[int, Future[Dump]]:
        """A new ticket, and what will be its answer."""
        ticket, answer = next(self._numbers), Future[Dump]()
        self._open[ticket] = answer
        return ticket, answer

    def drop(self, ticket: int) -> None:
        """Nobody waits for this any more."""
        self._open.pop(ticket, None)

    def seen(self, result: Result) -> None:
        """Something has happened; it may be an answer."""
        match result:
            case Dumped(_, tickets, flows):
                self._answer(tickets, flows)
            case NotDumped(_, tickets, reason):
                self._answer(tickets, reason)

    def _answer(self, tickets: tuple[int, ...], dump: Dump) -> None:
        for ticket in tickets:
            answer = self._open.pop(ticket, None)
            if answer is not None:
                answer.set_result(dump)
