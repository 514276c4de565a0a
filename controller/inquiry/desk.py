"""Answers to questions about the cluster, found in whatever thread asks.

The brain belongs to the loop's thread. From there come snapshots, and the questions to switches go
there; everything else, which takes its time, is done by the thread that asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec

from ovsnet.controller.brain import Brain
from ovsnet.controller.inquiry.cases import Case, case
from ovsnet.controller.inquiry.passage import Held
from ovsnet.controller.inquiry.plan import Plan
from ovsnet.controller.inquiry.planning import Connections, plan
from ovsnet.controller.inquiry.questions import Proposal, Question, UnableError
from ovsnet.controller.inquiry.services import pods_of
from ovsnet.controller.inquiry.tickets import Dump, Tickets
from ovsnet.controller.inquiry.verdict import switches, verdict
from ovsnet.controller.inquiry.why import Why
from ovsnet.controller.inquiry.world import Snapshot, snapshot
from ovsnet.controller.loop import Question as LoopQuestion
from ovsnet.controller.network import Network
from ovsnet.flows.flow import Owner, OwnerKind
from ovsnet.flows.peer import peer_owner
from ovsnet.flows.pod import pod_owner
from ovsnet.flows.words import owner_text
from ovsnet.model import PodRef
from ovsnet.names import Table

PATIENCE: Final = 5.0
"""Seconds that the loop's thread may take to answer. A controller that takes longer is not healthy.
"""

_USERSPACE: Final = "netdev"
_DUMP_SECONDS: Final = 10.0
_ATTEMPTS: Final = 5
_PAUSE: Final = 0.2

T = TypeVar("T")


class LoopThread(Protocol):
    """Who works in the loop's thread; `ovsnet.controller.loop.Loop` does."""

    def call(self, work: Callable[[], None]) -> None:
        """Have work done there."""

    def ask(self, question: LoopQuestion) -> None:
        """Put a question to the brain there, and carry out what comes of it."""


class _Moment(msgspec.Struct, frozen=True):
    """The cluster at one moment, what a question is about then, and what switches hold.

    `behind` are nodes whose switches hold other flows than they should, by their stamps.
    """

    seen: Snapshot
    about: Case
    held: Mapping[str, Held | str]
    behind: tuple[str, ...]
    owners: Mapping[int, str]


class Inquiry:
    """Answers questions.

    `tickets` must be shown every result of the brain. `connections` asks nodes for their live
    connections.
    """

    def __init__(
        self,
        brain: Brain,
        loop: LoopThread,
        tickets: Tickets,
        connections: Connections,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._brain = brain
        self._loop = loop
        self._tickets = tickets
        self._connections = connections
        self._pause = pause
        self._planning = threading.Lock()

    def in_loop(self, work: Callable[[], T]) -> T:
        """What a piece of work yields that is done in the loop's thread, between events.

        Raises:
            TimeoutError: that thread has not come to it within `PATIENCE`.
        """
        answer: Future[T] = Future()

        def do() -> None:
            try:
                answer.set_result(work())
            except Exception as error:
                answer.set_exception(error)

        self._loop.call(do)
        return answer.result(PATIENCE)

    def why(self, question: Question) -> Why:
        """May one end reach another, and do the flows that the switches hold now agree.

        What is compared must be of one moment. Where a switch does not have by then what it should
        have, a new moment is tried a few times.

        Raises:
            QuestionError: the question makes no sense.
            UnableError: the cluster is not known yet, or the controller is too busy.
        """
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._pause(_PAUSE)
            before = self._at_once(self._snapshot)
            dumps = self._dumps(switches(before, case(before, question)))
            moment = self._at_once(partial(self._moment, question, dumps))
            nodes = switches(moment.seen, moment.about)
            if nodes <= dumps.keys() and not moment.behind:
                break
        found = verdict(
            moment.seen,
            moment.about,
            {node: moment.held.get(node, "its flows were not asked for") for node in nodes},
            moment.owners,
        )
        remarks = (f"the switch of {node} does not have its latest flows" for node in moment.behind)
        return msgspec.structs.replace(found, remarks=(*found.remarks, *remarks))

    def plan(self, proposal: Proposal) -> Plan:
        """What policies would change if they were applied, or deleted. Changes nothing.

        It takes a copy of everything, so there is one plan at a time.

        Raises:
            UnableError: the cluster is not known yet, or the controller is too busy.
        """
        with self._planning:
            return plan(self._at_once(self._snapshot), proposal, self._connections)

    def _at_once(self, work: Callable[[], T]) -> T:
        try:
            return self.in_loop(work)
        except TimeoutError:
            raise UnableError(f"the controller's thread is busy for {PATIENCE:g} s") from None

    def _snapshot(self) -> Snapshot:
        if not self._brain.ready:
            raise UnableError("the controller has not yet read the cluster's objects")
        return snapshot(self._brain.network)

    def _dumps(self, nodes: Iterable[str]) -> dict[str, Dump]:
        """What the switches of these nodes hold, asked all at once."""
        drawn = {node: self._tickets.draw() for node in nodes}
        for node, (ticket, _) in drawn.items():
            self._loop.ask(partial(self._brain.dump, node, ticket))
        found: dict[str, Dump] = {}
        for node, (ticket, answer) in drawn.items():
            try:
                found[node] = answer.result(_DUMP_SECONDS)
            except TimeoutError:
                self._tickets.drop(ticket)
                found[node] = f"its switch has not told its flows within {_DUMP_SECONDS:g} s"
        return found

    def _moment(self, question: Question, dumps: Mapping[str, Dump]) -> _Moment:
        seen = self._snapshot()
        about = case(seen, question)
        network = self._brain.network
        known = {node: dump for node, dump in dumps.items() if node in seen.nodes}
        cookies = {f.cookie for dump in known.values() if not isinstance(dump, str) for f in dump}
        return _Moment(
            seen=seen,
            about=about,
            held={node: self._held(seen, node, dump) for node, dump in known.items()},
            behind=tuple(
                node
                for node, dump in known.items()
                if _is_behind(dump, network.ledger(node).digest)
            ),
            owners=dict(_owners(network, cookies, _pods(seen, about))),
        )

    def _held(self, seen: Snapshot, node: str, dump: Dump) -> Held | str:
        if isinstance(dump, str):
            return dump
        view, session = seen.nodes[node], self._brain.switchboard.session(node)
        return Held(
            node=view.node,
            flows=dump,
            ports={port.ofport: port.name for port in view.ports},
            userspace=session is not None and session.datapath == _USERSPACE,
        )


def _is_behind(dump: Dump, digest: int) -> bool:
    """Whether a switch that has told its flows has no stamp of this digest."""
    return not isinstance(dump, str) and not any(
        flow.table == Table.STAMP and flow.cookie == digest for flow in dump
    )


def _pods(seen: Snapshot, about: Case) -> frozenset[PodRef]:
    """The pods that are at an end, or may be at one."""
    ends = (about.source.pod, about.destination.pod)
    possible = (pod for made in about.calls for pod in pods_of(seen, made))
    return frozenset(pod for pod in (*ends, *possible) if pod is not None)


def _owners(
    network: Network, cookies: set[int], pods: Iterable[PodRef]
) -> Iterator[tuple[int, str]]:
    """The names of the owners that flows on the way to and from these pods may have, by cookie."""
    enforcement = network.enforcement
    yield from enforcement.owners_of_rules(cookies)
    owners = [o for n in network.nodes for o in (Owner(OwnerKind.NODE, n), peer_owner(n))]
    owners += (owner for owner in network.owners if owner.kind is OwnerKind.SERVICE)
    for pod in pods:
        owners.append(pod_owner(pod))
        yield from enforcement.owners_of_isolation(pod)
    yield from ((owner.cookie, owner_text(owner)) for owner in owners)
