"""The scheduler: a node for each pod that has none, or the reason why there is none.

Simplified against a real one: processor and memory are not counted, preferences are not weighed,
nothing is preempted. What is required is required: node selectors and affinity, taints, cordons,
readiness, host ports, the number of pods, (anti-)affinity between pods, topology spread.
Among the nodes that are left, the one with the fewest pods of the same owner, then with the fewest
pods, is chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ovsnet.sandbox.apiserver.kinds import POD, Object
from ovsnet.sandbox.apiserver.selectors import from_label_selector
from ovsnet.sandbox.apiserver.store import Key
from ovsnet.sandbox.workloads.actions import Action, Bind, Patch, Record
from ovsnet.sandbox.workloads.objects import Node, Pod
from ovsnet.sandbox.workloads.placement import (
    NOT_READY,
    UNSCHEDULABLE,
    matches_affinity,
    matches_selector,
    tolerates_condition,
    untolerated_taint,
)

SCHEDULER = "default-scheduler"
MOST_PODS = 110
"""Pods that a node takes if it does not say (kubelet's default)."""

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True)
class Cluster:
    """What a decision is based on."""

    nodes: Mapping[str, Node]
    pods_on: Callable[[str], Mapping[Key, Pod]]
    namespace_labels: Callable[[str], Mapping[str, str]]
    has_anti_affinity: bool = True
    """Whether any scheduled pod keeps others away: without it, asking each is in vain."""

    def living(self, node: str) -> list[Pod]:
        """The pods that take a place on a node."""
        return [pod for pod in self.pods_on(node).values() if not pod.finished]


def _node_reason(pod: Pod, node: Node) -> str:
    """Why the node itself cannot take the pod; empty if it can."""
    spec = pod.spec
    if not matches_selector(spec.node_selector, node) or not matches_affinity(spec.affinity, node):
        return "node(s) didn't match Pod's node affinity/selector"
    if node.spec.unschedulable and not tolerates_condition(spec.tolerations, UNSCHEDULABLE):
        return "node(s) were unschedulable"
    if not node.ready and not tolerates_condition(spec.tolerations, NOT_READY):
        return "node(s) were not ready"
    taint = untolerated_taint(spec.tolerations, node)
    if taint is not None:
        return f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value', '')}}}"
    return ""


def _room_reason(pod: Pod, node: Node, cluster: Cluster) -> str:
    """Why there is no room on the node; empty if there is."""
    living = cluster.living(node.metadata.name)
    if len(living) >= int(node.status.allocatable.get("pods", MOST_PODS)):
        return "Too many pods"
    ports = _host_ports(pod)
    if ports and any(ports & _host_ports(other) for other in living):
        return "node(s) didn't have free ports for the requested pod ports"
    return ""


def _host_ports(pod: Pod) -> set[tuple[str, int]]:
    return {
        (port.protocol, port.host_port)
        for container in pod.spec.containers
        for port in container.ports
        if port.host_port
    }


def _term_selects(term: Object, owner: Pod, other: Pod, cluster: Cluster) -> bool:
    """Whether a term of `owner`'s (anti-)affinity is about `other`."""
    selector = term.get("labelSelector")
    if selector is None or not from_label_selector(selector).matches(other.metadata.labels):
        return False
    named = term.get("namespaces", ())
    by_label = term.get("namespaceSelector")
    if by_label is not None:
        labels = cluster.namespace_labels(other.metadata.namespace)
        if from_label_selector(by_label).matches(labels):
            return True
    elif not named:
        return other.metadata.namespace == owner.metadata.namespace
    return other.metadata.namespace in named


def _domain(cluster: Cluster, node: Node, topology: str) -> list[Pod]:
    """The pods in the same domain of a topology as a node; none where the node is in no domain."""
    value = node.metadata.labels.get(topology)
    if value is None:
        return []
    names = [
        n for n, other in cluster.nodes.items() if other.metadata.labels.get(topology) == value
    ]
    return [pod for name in names for pod in cluster.living(name)]


def _terms(pod: Pod, name: str) -> Iterable[Object]:
    terms: Iterable[Object] = pod.spec.affinity.get(name, {}).get(_REQUIRED, ())
    return terms


def _affinity_reason(pod: Pod, node: Node, cluster: Cluster) -> str:
    """Why pods that run already keep the pod off a node; empty if none does."""
    for term in _terms(pod, "podAntiAffinity"):
        domain = _domain(cluster, node, term.get("topologyKey", ""))
        if any(_term_selects(term, pod, other, cluster) for other in domain):
            return "node(s) didn't match pod anti-affinity rules"
    for other_name in cluster.nodes:
        for other in cluster.living(other_name):
            for term in _terms(other, "podAntiAffinity"):
                topology = term.get("topologyKey", "")
                here = node.metadata.labels.get(topology)
                there = cluster.nodes[other_name].metadata.labels.get(topology)
                same = here is not None and here == there
                if same and _term_selects(term, other, pod, cluster):
                    return "node(s) didn't satisfy existing pods anti-affinity rules"
    for term in _terms(pod, "podAffinity"):
        topology = term.get("topologyKey", "")
        domain = _domain(cluster, node, topology)
        if any(_term_selects(term, pod, other, cluster) for other in domain):
            continue
        anywhere = any(
            _term_selects(term, pod, other, cluster)
            for name in cluster.nodes
            for other in cluster.living(name)
        )
        # The first of a group that wants to be together has nobody to be with.
        first = not anywhere and _term_selects(term, pod, pod, cluster)
        if not first or topology not in node.metadata.labels:
            return "node(s) didn't match pod affinity rules"
    return ""


def _spread_reason(pod: Pod, node: Node, cluster: Cluster) -> str:
    """Why an even spread keeps the pod off a node; empty if it does not."""
    for constraint in pod.spec.topology_spread_constraints:
        if constraint.get("whenUnsatisfiable") == "ScheduleAnyway":
            continue
        topology = constraint.get("topologyKey", "")
        here = node.metadata.labels.get(topology)
        if here is None:
            return "node(s) didn't match pod topology spread constraints (missing required label)"
        selector = from_label_selector(constraint.get("labelSelector", {}))
        counts: Counter[str] = Counter()
        for name, other_node in cluster.nodes.items():
            value = other_node.metadata.labels.get(topology)
            if value is None or not matches_selector(pod.spec.node_selector, other_node):
                continue
            counts[value] += sum(
                selector.matches(other.metadata.labels)
                for other in cluster.living(name)
                if other.metadata.namespace == pod.metadata.namespace and not other.terminating
            )
        own = 1 if selector.matches(pod.metadata.labels) else 0
        if counts[here] + own - min(counts.values(), default=0) > constraint.get("maxSkew", 1):
            return "node(s) didn't match pod topology spread constraints"
    return ""


def reason_against(pod: Pod, node: Node, cluster: Cluster) -> str:
    """Why a pod cannot run on a node; empty if it can."""
    reason = _node_reason(pod, node) or _room_reason(pod, node, cluster)
    if not reason and (cluster.has_anti_affinity or pod.spec.affinity):
        reason = _affinity_reason(pod, node, cluster)
    return reason or _spread_reason(pod, node, cluster)


def _owner(pod: Pod) -> str:
    return next((o.uid for o in pod.metadata.owner_references if o.controller), "")


def plan(pod: Pod, cluster: Cluster, now: str) -> list[Action]:
    """A node for the pod, or the word that there is none."""
    if pod.spec.scheduler_name != SCHEDULER or pod.terminating or pod.finished:
        return []
    key = (pod.metadata.namespace, pod.metadata.name)
    if pod.spec.scheduling_gates:
        return _explain(pod, "SchedulingGated", "Scheduling is blocked due to non-empty gates", now)
    reasons: Counter[str] = Counter()
    fitting: list[str] = []
    for name, node in cluster.nodes.items():
        reason = reason_against(pod, node, cluster)
        if reason:
            reasons[reason] += 1
        else:
            fitting.append(name)
    if not fitting:
        return _explain(pod, "Unschedulable", _summary(reasons, len(cluster.nodes)), now)
    owner = _owner(pod)

    def load(name: str) -> tuple[int, int, str]:
        living = cluster.living(name)
        siblings = sum(_owner(other) == owner for other in living) if owner else 0
        return siblings, len(living), name

    chosen = min(fitting, key=load)
    message = f"Successfully assigned {key[0]}/{key[1]} to {chosen}"
    return [
        Bind(key, chosen),
        Record(POD, key, pod.metadata.uid, "Scheduled", message, component=SCHEDULER),
    ]


def _summary(reasons: Counter[str], total: int) -> str:
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"0/{total} nodes are available" + (f": {listed}." if listed else ".")


def _explain(pod: Pod, reason: str, message: str, now: str) -> list[Action]:
    """The condition and the event that say why; nothing if the pod says so already."""
    present = pod.condition("PodScheduled")
    if present is not None and (present.reason, present.message) == (reason, message):
        return []
    key = (pod.metadata.namespace, pod.metadata.name)
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": present.last_transition_time if present is not None else now,
    }
    others = [
        {
            "type": c.type,
            "status": c.status,
            "reason": c.reason,
            "message": c.message,
            "lastTransitionTime": c.last_transition_time,
        }
        for c in pod.status.conditions
        if c.type != "PodScheduled"
    ]
    event = Record(POD, key, pod.metadata.uid, "FailedScheduling", message, "Warning", SCHEDULER)
    return [Patch(POD, key, {"status": {"conditions": [*others, condition]}}, "status"), event]
