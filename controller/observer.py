"""Shows what the controller does: a line in the log for what matters, numbers in the metrics, and
the state of everything over HTTP.

The brain belongs to the loop's thread. Whoever asks over HTTP waits until that thread has made the
answer between two events; if it does not for long, the controller is not healthy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry

from ovsnet import __version__, logs
from ovsnet.controller import report
from ovsnet.controller.brain import (
    Brain,
    Cause,
    Departed,
    PortRefused,
    Ready,
    ReportRefused,
    Result,
    Served,
)
from ovsnet.controller.drops import Drops, PodDrops
from ovsnet.controller.http import HttpServer, Sources
from ovsnet.controller.inquiry.desk import PATIENCE, Inquiry
from ovsnet.controller.inquiry.planning import Connections
from ovsnet.controller.inquiry.tickets import Tickets
from ovsnet.controller.loop import Loop
from ovsnet.controller.metrics import Metrics
from ovsnet.controller.notices import (
    Acknowledged,
    Admitted,
    Compared,
    Counted,
    Fenced,
    Lost,
    NotCounted,
    PortsChanged,
    Settled,
    Synchronised,
    TurnedAway,
    WriteFailed,
)
from ovsnet.controller.status import Refresh, Status
from ovsnet.flows.flow import Flow
from ovsnet.flows.text import print_flow
from ovsnet.model import Service

_MOST_OBJECTIONS = 1000
"""So many refused reports are written down; the metrics count all of them."""


class Observer:
    """Sees every result of the brain, in the loop's thread.

    `clock` is the brain's; `wall_clock` gives seconds since 1970.
    """

    def __init__(
        self,
        brain: Brain,
        generation: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._brain = brain
        self._generation = generation
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = wall_clock()
        self._tickets = Tickets()
        self._log = logs.get("controller")
        self._metrics = Metrics.on(CollectorRegistry(), __version__)
        self._drops = Drops(brain.network)
        self._isolated: tuple[PodDrops, ...] = ()
        self._sessions_since: dict[str, float] = {}
        self._shown: dict[str, tuple[int, int, int, int, int]] = {}
        self._objected: set[ReportRefused] = set()
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

        def healthy() -> str | None:
            try:
                in_loop(lambda: None)
            except TimeoutError:
                return f"the controller's thread has not answered for {PATIENCE:g} s"
            return None

        def ready() -> str | None:
            missing = [w.kind for w in self._brain.watched if not w.listed]
            return f"not yet listed: {', '.join(missing)}" if missing else None

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
            healthy=healthy,
            ready=ready,
            why=inquiry.why,
            plan=inquiry.plan,
            refresh=lambda: Refresh(refresh()),
        )
        with HttpServer(address, sources):
            yield

    def __call__(self, result: Result) -> None:
        """Log a result and count it, and let those know who wait for it."""
        self._write(result)
        self._count(result)
        self._tickets.seen(result)

    def refresh(self) -> None:
        """Bring the gauges up to date; called by the loop now and then."""
        metrics, network = self._metrics, self._brain.network
        for name, view in network.nodes.items():
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
            self._generation,
            self._started,
            self._sessions_since,
            lambda moment: moment + offset,
            self._drops.counted(),
        )

    def _count(self, result: Result) -> None:
        metrics = self._metrics
        match result:
            case Admitted(node):
                self._sessions_since[node] = self._clock()
                metrics.switches_connected.set(len(list(self._brain.switchboard)))
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

    def _write(self, result: Result) -> None:
        log = self._log
        match result:
            case Ready(nodes, pods):
                log.info("ready", nodes=nodes, pods=pods)
            case Admitted(node, connection, ports):
                log.info("switch admitted", node=node, connection=connection, ports=len(ports))
            case TurnedAway(_, address, name, reason):
                log.warning("switch turned away", address=address, claims=name, reason=reason)
            case PortsChanged(node, ports):
                log.debug("ports changed", node=node, ports=len(ports))
            case Synchronised(node, revision, flows):
                log.info("switch is in step", node=node, revision=revision, flows=flows)
            case Compared():
                self._write_comparison(result)
            case Acknowledged(node, revision, _, written, seconds):
                ms = round(seconds * 1000, 1)
                log.info("flows acknowledged", node=node, revision=revision, written=written, ms=ms)
            case Settled(node, revision, seconds):
                ms = round(seconds * 1000, 1)
                log.info("flows in effect", node=node, revision=revision, ms=ms)
            case ReportRefused():
                self._write_objection(result)
            case WriteFailed(node, revision, reason, retry_in):
                log.error(
                    "flows refused", node=node, revision=revision, reason=reason, retry_in=retry_in
                )
            case Fenced(node, generation, reason):
                log.error(
                    "switch is led by another", node=node, generation=generation, reason=reason
                )
            case Lost(node, _, reason):
                log.warning("switch lost", node=node, reason=reason)
            case NotCounted(node, reason):
                log.warning("drops not counted", node=node, reason=reason)
            case Departed(node):
                log.info("node left the cluster", node=node)
            case PortRefused(node, refusal):
                log.warning(
                    "port refused",
                    node=node,
                    port=refusal.port.name,
                    address=refusal.address,
                    pods=[str(pod) for pod in refusal.pods],
                    reason=str(refusal.reason),
                )

    def _write_objection(self, refused: ReportRefused) -> None:
        """Whoever is not believed tries again and again: said once of each, and not of too many."""
        if refused in self._objected or len(self._objected) >= _MOST_OBJECTIONS:
            return
        self._objected.add(refused)
        self._log.warning(
            "report refused", node=refused.node, address=refused.address, reason=refused.reason
        )

    def _write_comparison(self, result: Compared) -> None:
        for stranger in result.strangers:
            text = print_flow(stranger) if isinstance(stranger, Flow) else str(stranger)
            self._log.warning("stranger removed", node=result.node, flow=text)
        self._log.info(
            "flows compared",
            node=result.node,
            audit=result.audit,
            equal=result.equal,
            missing=result.missing,
            changed=result.changed,
            stale=result.stale,
            strangers=len(result.strangers),
        )
