"""Shows what the controller does: a line in the log for what matters, numbers in the metrics, and
the state of everything over HTTP.

The brain belongs to the loop's thread. Whoever asks over HTTP waits until that thread has made the
answer between two events; if it does not for long, the controller is not healthy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry

from ovsnet import __version__
from ovsnet.controller import report
from ovsnet.controller.brain import Brain
from ovsnet.controller.drops import Drops, PodDrops
from ovsnet.controller.http import HttpServer, Sources
from ovsnet.controller.inquiry.desk import PATIENCE, Inquiry
from ovsnet.controller.inquiry.plan import Plan
from ovsnet.controller.inquiry.planning import Connections
from ovsnet.controller.inquiry.questions import Proposal, Question, UnableError
from ovsnet.controller.inquiry.tickets import Tickets
from ovsnet.controller.inquiry.why import Why
from ovsnet.controller.logbook import Logbook
from ovsnet.controller.loop import Loop
from ovsnet.controller.metrics import Metrics
from ovsnet.controller.notices import (
    Acknowledged,
    Admitted,
    Compared,
    Counted,
    Lost,
    Settled,
    StandingBy,
    Synchronised,
    TurnedAway,
    WriteFailed,
)
from ovsnet.controller.results import (
    Cause,
    Departed,
    PortRefused,
    ReportRefused,
    Result,
    Served,
    StandsBy,
)
from ovsnet.controller.status import Leadership, Refresh, Status
from ovsnet.controller.trust.refusals import TellRefusal
from ovsnet.model import Service

_SWITCHES_SECONDS = 10.0
"""So long a controller waits for the switches of all nodes before it calls itself ready."""

_MOST_NAMES = 5


class Observer:
    """Sees every result of the brain, in the loop's thread.

    `leadership` says who leads where there may be several controllers. `clock` is the brain's;
    `wall_clock` gives seconds since 1970.
    """

    def __init__(
        self,
        brain: Brain,
        leadership: Callable[[], Leadership | None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._brain = brain
        self._leadership = leadership
        self._listed_at: float | None = None
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = wall_clock()
        self._tickets = Tickets()
        self._logbook = Logbook()
        self._metrics = Metrics.on(CollectorRegistry(), __version__)
        self._drops = Drops(brain.network)
        self._isolated: tuple[PodDrops, ...] = ()
        self._sessions_since: dict[str, float] = {}
        self._shown: dict[str, tuple[int, int, int, int, int]] = {}
        self._reasons: set[str] = set()

    @contextlib.contextmanager
    def serve(
        self,
        address: tuple[str, int],
        loop: Loop,
        connections: Connections,
        refresh: Callable[[], int],
    ) -> Iterator[None]:
        """Answer HTTP requests while the context lasts.

        `connections` asks nodes for theirs; `refresh` asks for fresh lists of all kinds, and
        returns the number that tells when they have been taken in.

        Raises:
            OSError: the address cannot be bound to.
        """
        inquiry = Inquiry(self._brain, loop, self._tickets, connections)
        in_loop = inquiry.in_loop

        def well(look: Callable[[], str | None]) -> str | None:
            try:
                return in_loop(look)
            except TimeoutError:
                return f"the controller's thread has not answered for {PATIENCE:g} s"

        def why(question: Question) -> Why:
            self._must_lead("why A B")
            return inquiry.why(question)

        def plan(proposal: Proposal) -> Plan:
            self._must_lead("plan FILE")
            return inquiry.plan(proposal)

        def services() -> tuple[Service, ...]:
            return tuple(self._brain.network.board.services.values())

        def drops() -> tuple[PodDrops, ...]:
            # Of a controller that is too busy the other numbers are wanted all the more.
            with contextlib.suppress(TimeoutError):
                self._isolated = in_loop(lambda: tuple(self._drops.isolated()))
            return self._isolated

        self._metrics.follow(lambda: float(loop.depth), [], drops)
        sources = Sources(
            status=lambda: in_loop(self._status),
            owners=lambda: in_loop(lambda: report.owners(self._brain)),
            sets=lambda: report.sets(in_loop(services)),
            registry=self._metrics.registry,
            healthy=lambda: well(lambda: None),
            ready=lambda: well(self._unready),
            why=why,
            plan=plan,
            refresh=lambda: Refresh(refresh()),
        )
        with HttpServer(address, sources):
            yield

    def __call__(self, result: Result) -> None:
        """Log a result and count it, and let those know who wait for it."""
        self._logbook(result)
        self._count(result)
        self._tickets.seen(result)

    def refused(self, peer: str) -> TellRefusal:
        """Counts each `switch`, or each `agent`, that was not let in; from any thread."""
        return lambda reason: self._metrics.handshakes_refused.labels(peer, reason).inc()

    def _unready(self) -> str | None:
        """Why this controller could not lead, or not well; None if it could."""
        missing = [watched.kind for watched in self._brain.watched if not watched.listed]
        if missing:
            return f"not yet listed: {', '.join(missing)}"
        now = self._clock()
        self._listed_at = now if self._listed_at is None else self._listed_at
        away = [n for n in self._brain.network.nodes if not self._brain.switchboard.session(n)]
        # A switch that stays away, as that of a broken node does, keeps nobody from leading.
        if away and now - self._listed_at < _SWITCHES_SECONDS:
            return f"not yet connected: {', '.join(sorted(away)[:_MOST_NAMES])}"
        return None

    def _must_lead(self, command: str) -> None:
        """See that this controller leads; one that stands by does not know what switches have.

        Raises:
            UnableError: it stands by.
        """
        leadership = self._leadership()
        if leadership is not None and not leadership.leads:
            raise UnableError(leadership.referral(command))

    def refresh(self) -> None:
        """Bring the gauges up to date; called by the loop now and then."""
        metrics, network = self._metrics, self._brain.network
        leadership = self._leadership()
        metrics.leader.set(self._brain.term is not None)
        metrics.lease_transitions.set(max(0, leadership.term - 1) if leadership else 0)
        for name, view in network.nodes.items() if self._brain.term is not None else ():
            ledger, session = network.ledger(name), self._brain.switchboard.session(name)
            acknowledged = None if session is None else session.acknowledged
            settled = None if session is None else session.settled
            shown = (
                ledger.revision,
                acknowledged or 0,
                settled or 0,
                len(view.beliefs.endpoints),
                len(view.beliefs.refusals),
            )
            if self._shown.get(name) == shown:
                continue
            self._shown[name] = shown
            metrics.node_flows.labels(name).set(len(ledger.flows))
            metrics.node_revision_desired.labels(name).set(shown[0])
            metrics.node_revision_acknowledged.labels(name).set(shown[1])
            metrics.node_revision_settled.labels(name).set(shown[2])
            metrics.node_ports_believed.labels(name).set(shown[3])
            metrics.node_ports_refused.labels(name).set(shown[4])
        self._refresh_reasons()
        metrics.services.set(len(network.board.services))
        metrics.endpoint_slices.set(len(network.board.slices))
        metrics.endpoint_sets.set(network.board.sets)
        metrics.policies.set(len(network.policies))
        for direction, count in network.enforcement.isolation.counts.items():
            metrics.policy_pods_isolated.labels(direction.lower()).set(count)
        now = self._wall_clock()
        for watched in self._brain.watched:
            stale = 0.0 if watched.stale_since is None else now - watched.stale_since
            metrics.api_stale_seconds.labels(watched.kind).set(stale)

    def _refresh_reasons(self) -> None:
        counts = dict.fromkeys(self._reasons, 0)
        for _, refusal in self._brain.refused_since:
            counts[str(refusal.reason)] = counts.get(str(refusal.reason), 0) + 1
        self._reasons = set(counts)
        for reason, count in counts.items():
            self._metrics.ports_refused.labels(reason).set(count)

    def _status(self) -> Status:
        offset = self._wall_clock() - self._clock()
        return report.status(
            self._brain,
            self._leadership(),
            self._started,
            self._sessions_since,
            lambda moment: moment + offset,
            self._drops.counted(),
        )

    def _count(self, result: Result) -> None:
        metrics = self._metrics
        match result:
            case Admitted(node) | StandingBy(node):
                self._sessions_since[node] = self._clock()
                metrics.switches_connected.set(len(list(self._brain.switchboard)))
            case StandsBy():
                self._forget_nodes()
            case Lost(node):
                self._sessions_since[node] = self._clock()
                metrics.switches_connected.set(len(list(self._brain.switchboard)))
            case TurnedAway():
                metrics.switches_turned_away.inc()
            case Synchronised():
                metrics.comparisons.labels("session", "equal").inc()
            case Compared():
                differs = result.missing or result.changed or result.stale or result.strangers
                metrics.comparisons.labels(
                    "audit" if result.audit else "session", "different" if differs else "equal"
                ).inc()
                metrics.strangers_removed.inc(len(result.strangers))
            case Acknowledged():
                metrics.flow_writes.inc(result.written)
                metrics.bundles_answered.labels("acknowledged").inc()
                metrics.bundle_seconds.observe(result.seconds)
            case Settled():
                metrics.settled_seconds.observe(result.seconds)
            case ReportRefused():
                metrics.reports_refused.inc()
            case WriteFailed():
                metrics.bundles_answered.labels("refused").inc()
            case PortRefused(_, refusal):
                metrics.port_refusals.labels(str(refusal.reason)).inc()
            case Served(_, cause, seconds):
                histogram = metrics.port_seconds if cause is Cause.PORT else metrics.event_seconds
                histogram.observe(seconds)
            case Counted(node, packets):
                self._drops.take(node, packets)
            case Departed(node):
                metrics.forget_node(node)
                self._drops.forget(node)
                self._shown.pop(node, None)
                self._sessions_since.pop(node, None)

    def _forget_nodes(self) -> None:
        """Say nothing any more of what switches have: only the leader knows."""
        for node in self._shown:
            self._metrics.forget_node(node)
        for node in self._brain.network.nodes:
            self._drops.forget(node)
        self._shown.clear()
