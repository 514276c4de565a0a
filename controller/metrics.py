"""The controller's metrics, in a registry that is an argument: there is no global one.

Counters count since the process began; every duration is in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from ovsnet.controller.drops import MOST_PODS, MOST_POLICIES, TOO_MANY, PodDrops

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Buckets from a switch that answers at once to one that is overwhelmed."""


@dataclass(frozen=True)
class Metrics:
    """All metrics; made by `on`."""

    registry: CollectorRegistry

    leader: Gauge
    lease_transitions: Gauge

    switches_connected: Gauge
    switches_turned_away: Counter
    handshakes_refused: Counter
    """Labels `peer` (`switch` or `agent`) and `reason` (`ovsnet.controller.trust.refusals`)."""

    node_flows: Gauge
    node_revision_desired: Gauge
    node_revision_acknowledged: Gauge
    node_revision_settled: Gauge
    node_ports_believed: Gauge
    node_ports_refused: Gauge

    settled_seconds: Histogram
    reports_refused: Counter

    flow_writes: Counter
    bundles_answered: Counter
    """Label `outcome`: `acknowledged` or `refused`."""
    bundle_seconds: Histogram
    comparisons: Counter
    """Labels `cause` (`session` or `audit`) and `result` (`equal` or `different`)."""
    strangers_removed: Counter

    policies: Gauge
    policy_pods_isolated: Gauge
    """Label `direction` (`ingress` or `egress`)."""

    services: Gauge
    endpoint_slices: Gauge
    endpoint_sets: Gauge

    ports_refused: Gauge
    """Label `reason`."""
    port_refusals: Counter
    """Label `reason`."""

    api_lists: Counter
    """Label `kind`."""
    api_interruptions: Counter
    """Label `kind`."""
    api_stale_seconds: Gauge
    """Label `kind`."""

    events_queued: Gauge
    event_seconds: Histogram
    port_seconds: Histogram

    @classmethod
    def on(cls, registry: CollectorRegistry, version: str) -> Self:
        """Make all metrics on a registry, those of the process and of its memory included.

        Raises:
            ValueError: they are on that registry already.
        """
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        Info("ovsnet_controller", "This controller.", registry=registry).info({"version": version})

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"ovsnet_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ovsnet_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"ovsnet_{name}", text, registry=registry, buckets=_FAST)

        return cls(
            registry=registry,
            leader=gauge("leader", "1 while this controller leads, 0 while it stands by."),
            lease_transitions=gauge(
                "lease_transitions", "How often another controller has taken over, by the Lease."
            ),
            switches_connected=gauge("switches_connected", "Switches with a session."),
            switches_turned_away=counter(
                "switches_turned_away", "Connections of switches that are no node's."
            ),
            handshakes_refused=counter(
                "handshakes_refused",
                "Connections that have not shown a certificate of their node.",
                "peer",
                "reason",
            ),
            node_flows=gauge("node_flows", "Flows that a node's switch is to have.", "node"),
            node_revision_desired=gauge(
                "node_revision_desired", "Revision of the flows that a node is to have.", "node"
            ),
            node_revision_acknowledged=gauge(
                "node_revision_acknowledged", "Revision that a node's switch confirmed.", "node"
            ),
            node_revision_settled=gauge(
                "node_revision_settled", "Revision that is in effect on a node.", "node"
            ),
            node_ports_believed=gauge(
                "node_ports_believed", "Ports of a node's switch that are a pod's.", "node"
            ),
            node_ports_refused=gauge(
                "node_ports_refused", "Ports of a node's switch that get no flows.", "node"
            ),
            settled_seconds=histogram(
                "settled_seconds", "From a revision's acknowledgement to being in effect."
            ),
            reports_refused=counter(
                "reports_refused", "Reports that were not believed to be that node's agent's."
            ),
            flow_writes=counter(
                "flow_writes", "Flows added and deleted, as switches have acknowledged it."
            ),
            bundles_answered=counter(
                "bundles_answered", "Bundles that switches took or refused.", "outcome"
            ),
            bundle_seconds=histogram(
                "bundle_seconds", "From sending a bundle to its acknowledgement."
            ),
            comparisons=counter(
                "comparisons",
                "Comparisons of a switch's flows with the desired.",
                "cause",
                "result",
            ),
            strangers_removed=counter(
                "strangers_removed", "Flows found in switches that no controller had written."
            ),
            policies=gauge("policies", "Network policies."),
            policy_pods_isolated=gauge(
                "policy_pods_isolated",
                "Pods whose connections need a policy that allows them.",
                "direction",
            ),
            services=gauge("services", "Services."),
            endpoint_slices=gauge("endpoint_slices", "Slices of services' endpoints."),
            endpoint_sets=gauge(
                "endpoint_sets", "Ports of services that have endpoints, of each family by itself."
            ),
            ports_refused=gauge("ports_refused", "Ports that get no flows now.", "reason"),
            port_refusals=counter("port_refusals", "Ports refused so far.", "reason"),
            api_lists=counter("api_lists", "Full lists read from the API server.", "kind"),
            api_interruptions=counter("api_interruptions", "Watches that broke.", "kind"),
            api_stale_seconds=gauge(
                "api_stale_seconds", "Since when there is no news of a kind; 0 is current.", "kind"
            ),
            events_queued=gauge("events_queued", "Events that wait for the controller's thread."),
            event_seconds=histogram(
                "event_seconds", "From an API event to the acknowledgement of its flows."
            ),
            port_seconds=histogram(
                "port_seconds", "From a port's appearance to the acknowledgement of its flows."
            ),
        )

    def follow(
        self,
        queued: Callable[[], float],
        stale: Iterable[tuple[str, Callable[[], float]]],
        drops: Callable[[], Iterable[PodDrops]] = tuple,
    ) -> None:
        """Have values read when they are asked for: the queue, each kind's staleness, and what
        policies have dropped of isolated pods' connections.
        """
        self.events_queued.set_function(queued)
        for kind, seconds in stale:
            self.api_stale_seconds.labels(kind).set_function(seconds)
        self.registry.register(_PolicyDrops(drops))

    def forget_node(self, node: str) -> None:
        """Remove everything that is said of a node by name; harmless if nothing is."""
        for metric in (
            self.node_flows,
            self.node_revision_desired,
            self.node_revision_acknowledged,
            self.node_revision_settled,
            self.node_ports_believed,
            self.node_ports_refused,
        ):
            with suppress(KeyError):
                metric.remove(node)


class _PolicyDrops(Collector):
    """Samples that come and go with the pods and policies that they name."""

    def __init__(self, drops: Callable[[], Iterable[PodDrops]]) -> None:
        self._drops = drops

    def describe(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(
            "ovsnet_policy_drops",
            "Packets dropped because no policy grants their connection, as the switches count "
            "them. The pod began the connection (egress) or was called (ingress). One sample for "
            "each policy that isolates the pod: a packet counts for all of them, so do not add "
            f"them up. Above {MOST_POLICIES} policies there is one sample for policy "
            f'"{TOO_MANY[0]}"; above {MOST_PODS} pods, those with the most drops are told.',
            labels=("namespace", "pod", "policy", "direction"),
        )

    def collect(self) -> Iterable[CounterMetricFamily]:
        for family in self.describe():
            for each in self._drops():
                for policy in each.policies:
                    labels = (*each.pod, policy, each.direction.lower())
                    family.add_metric(labels, each.packets)
            yield family
