"""Tells what cannot be done as the API's objects say: in the log, and by Events, again and again
while it lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ovsnet import logs
from ovsnet.api import Remark
from ovsnet.controller.brain import Brain
from ovsnet.controller.complaints import (
    Complaint,
    by_object,
    complaints,
    news,
    remarks,
    sctp_complaints,
)
from ovsnet.controller.results import Result, StandsBy
from ovsnet.controller.services.complaints import sctp_service_complaints, service_complaints

REMIND: Final = 1800.0
"""Seconds after which an Event is repeated: API servers forget Events after an hour."""

_USERSPACE: Final = "netdev"


def standing(brain: Brain) -> tuple[Complaint, ...]:
    """All complaints that there are now, in order."""
    network, board = brain.network, brain.network.board
    policies = tuple(network.enforcement.doubtful)
    found = [*complaints(policies), *service_complaints(board.objections)]
    if policies or board.with_sctp:
        userspace = {
            name
            for name in network.nodes
            if (session := brain.switchboard.session(name)) and session.datapath == _USERSPACE
        }
        found += sctp_complaints(policies, network.enforcement.nodes_of, userspace)
        found += sctp_service_complaints(board.with_sctp, userspace)
    return tuple(sorted(found))


class Complainer:
    """Watches a brain, in the loop's thread. `record` writes Events, and must not block."""

    def __init__(
        self, brain: Brain, record: Callable[[Remark], None], clock: Callable[[], float]
    ) -> None:
        self._brain = brain
        self._record = record
        self._clock = clock
        self._log = logs.get("controller")
        self._present: tuple[Complaint, ...] = ()
        self._told: dict[Remark, float] = {}

    def __call__(self, result: Result) -> None:
        """Who stands by leaves the telling to the leader; after that all is to be told anew."""
        if isinstance(result, StandsBy):
            self._present, self._told = (), {}

    def refresh(self) -> None:
        """Tell what has not been told yet, or long ago."""
        if self._brain.term is None:
            return
        present = standing(self._brain)
        if present != self._present:
            self._write(news(present, self._present))
            self._present = present
        now = self._clock()
        told = self._told
        self._told = {}
        for remark in remarks(present):
            last = told.get(remark)
            if last is None or now - last >= REMIND:
                self._record(remark)
                last = now
            self._told[remark] = last

    def _write(self, fresh: tuple[Complaint, ...]) -> None:
        for found in by_object(fresh):
            first = found[0]
            self._log.warning(
                f"{first.sort.noun} not {first.sort.done} as it stands",
                **{first.sort.noun: first.object},
                field=first.field,
                reason=first.reason,
                others=len(found) - 1,
            )
