"""A grant in force: its subjects by node, its peers, and the flows that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ovsnet.controller.policy.grants import Grant
from ovsnet.controller.policy.work import NodeWork, Work
from ovsnet.flows.flow import Conjunction, Flow
from ovsnet.flows.policy import WAYS, Place, granted, granted_to_all, peer, ports, subject
from ovsnet.model import IPAddress, RuleRef

_SUBJECT, _PEER = 1, 2


class StandingGrant:
    """One grant that some rule makes.

    It is on the nodes that have subjects, while there is any peer. Flows are made once, however
    many nodes have them.
    """

    __slots__ = (
        "_conjunction",
        "_fixed",
        "_peers",
        "_subjects",
        "_way",
        "_withdrawn",
        "_work",
        "cookie",
        "grant",
        "rules",
    )

    def __init__(self, grant: Grant, cookie: int, work: Callable[[], Work]) -> None:
        self.grant = grant
        self.cookie = cookie
        self.rules: set[RuleRef] = set()
        self._work = work
        self._way = WAYS[grant.direction]
        self._conjunction = 0
        self._withdrawn = False
        self._fixed: tuple[Flow, ...] | None = None
        self._subjects: dict[str, dict[IPAddress, Flow]] = {}
        # A pod may be a peer for several reasons.
        self._peers: dict[Place, tuple[Flow, int]] = {}

    def subject_comes(self, node: str, address: IPAddress) -> None:
        """A pod of this node is a subject now."""
        here = self._subjects.setdefault(node, {})
        flow = here[address] = self._subject_flow(address)
        if not self._has_peers:
            return
        work = self._work().on(node)
        work.comes(flow)
        if len(here) == 1:
            for other in self._shared_flows():
                work.comes(other)

    def subject_goes(self, node: str, address: IPAddress) -> None:
        """A pod of this node is a subject no more."""
        here = self._subjects[node]
        flow = here.pop(address)
        if not here:
            del self._subjects[node]
        if not self._has_peers:
            return
        work = self._work().on(node)
        work.goes(flow)
        if not here:
            for other in self._shared_flows():
                work.goes(other)

    def peer_comes(self, place: Place) -> None:
        """There is one reason more why this is a peer."""
        known = self._peers.get(place)
        if known is not None:
            self._peers[place] = known[0], known[1] + 1
            return
        flow = self._peer_flow(place)
        had_peers = self._has_peers
        self._peers[place] = flow, 1
        if had_peers:
            for node in self._subjects:
                self._work().on(node).comes(flow)
        else:
            self._everywhere(NodeWork.comes)

    def peer_goes(self, place: Place) -> None:
        """There is one reason less why this is a peer."""
        flow, count = self._peers[place]
        if count > 1:
            self._peers[place] = flow, count - 1
            return
        if self._withdrawn:
            del self._peers[place]
            return
        if len(self._peers) == 1:
            self._everywhere(NodeWork.goes)
        else:
            for node in self._subjects:
                self._work().on(node).goes(flow)
        del self._peers[place]

    def renumber(self, conjunction: int) -> None:
        """Be this conjunction from now on."""
        if conjunction == self._conjunction:
            return
        self._everywhere(NodeWork.goes)
        self._conjunction = conjunction
        self._fixed = None
        for here in self._subjects.values():
            for address in here:
                here[address] = self._subject_flow(address)
        for place, (_, count) in self._peers.items():
            self._peers[place] = self._peer_flow(place), count
        self._everywhere(NodeWork.comes)

    def withdraw(self) -> None:
        """Take all flows from all nodes. What subjects and peers do afterwards has no effect."""
        self._everywhere(NodeWork.goes)
        self._withdrawn = True

    @property
    def _has_peers(self) -> bool:
        return not self._withdrawn and (self.grant.any_peer or bool(self._peers))

    def _everywhere(self, change: Callable[[NodeWork, Flow], None]) -> None:
        """Have all flows come to, or go from, all nodes that have subjects."""
        if not self._has_peers:
            return
        for node, here in self._subjects.items():
            work = self._work().on(node)
            for flow in here.values():
                change(work, flow)
            for flow in self._shared_flows():
                change(work, flow)

    def _shared_flows(self) -> Iterator[Flow]:
        """The flows that are the same on every node."""
        if self._fixed is None:
            self._fixed = tuple(self._fixed_flows())
        yield from self._fixed
        yield from (flow for flow, _ in self._peers.values())

    @property
    def _clauses(self) -> int:
        """How many clauses the conjunction has; 1: it is none."""
        return 1 + (not self.grant.any_peer) + (self.grant.ports is not None)

    def _clause(self, number: int) -> Conjunction:
        return Conjunction(self._conjunction, number, self._clauses)

    def _subject_flow(self, address: IPAddress) -> Flow:
        if self._clauses == 1:
            return granted_to_all(self._way, address, self.cookie)
        return subject(self._way, address, self._clause(_SUBJECT), self.cookie)

    def _peer_flow(self, place: Place) -> Flow:
        return peer(self._way, place, self._clause(_PEER), self.cookie)

    def _fixed_flows(self) -> Iterator[Flow]:
        if self._clauses == 1:
            return
        yield granted(self._way, self._conjunction, self.cookie)
        if self.grant.ports is not None:
            last = self._clause(self._clauses)
            yield from ports(self._way, self.grant.ports, last, self.cookie)
