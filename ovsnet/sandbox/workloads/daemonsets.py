"""DaemonSet: one pod on every node that its template fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ovsnet.sandbox.apiserver.kinds import DAEMON_SET, Object
from ovsnet.sandbox.workloads.actions import (
    Action,
    create_pod,
    delete_pod,
    pod_from_template,
    status_patch,
    template_hash,
)
from ovsnet.sandbox.workloads.deployments import share
from ovsnet.sandbox.workloads.objects import Node, Pod
from ovsnet.sandbox.workloads.placement import fits_node

REVISION_LABEL = "controller-revision-hash"

_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ("node.kubernetes.io/not-ready", "NoSchedule"),
)


def target_node(pod: Pod) -> str:
    """The node that a daemon pod is for, which its affinity names before it is scheduled."""
    if pod.spec.node_name:
        return pod.spec.node_name
    required = pod.spec.affinity.get("nodeAffinity", {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution", {}
    )
    for term in required.get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def _tolerations(template: Object) -> list[Object]:
    present: list[Object] = list(template["spec"].get("tolerations", ()))
    wanted = list(_TOLERATED)
    if template["spec"].get("hostNetwork"):
        wanted.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    return present + [
        {"key": key, "operator": "Exists", "effect": effect} for key, effect in wanted
    ]


def _new_pod(obj: Object, node: str) -> Action:
    labels = {REVISION_LABEL: template_hash(obj["spec"]["template"])}
    pod = pod_from_template(DAEMON_SET, obj, labels)
    spec = pod["spec"]
    spec["tolerations"] = _tolerations(obj["spec"]["template"])
    own = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = dict(spec.get("affinity", {}))
    node_affinity = dict(affinity.get("nodeAffinity", {}))
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [own]}
    spec["affinity"] = affinity | {"nodeAffinity": node_affinity}
    return create_pod(obj, pod)


def eligible(obj: Object, nodes: Mapping[str, Node]) -> list[str]:
    """The names of the nodes that are to run a pod of the set."""
    spec = obj["spec"]["template"]["spec"]
    tolerations = _tolerations(obj["spec"]["template"])
    return [
        name
        for name, node in sorted(nodes.items())
        if fits_node(spec.get("nodeSelector", {}), spec.get("affinity", {}), tolerations, node)
    ]


def plan(obj: Object, pods: Sequence[Pod], nodes: Mapping[str, Node]) -> list[Action]:
    """What puts one pod of the present template on every eligible node, and the status."""
    if "deletionTimestamp" in obj["metadata"]:
        return []
    wanted = eligible(obj, nodes)
    revision = template_hash(obj["spec"]["template"])
    on_node: dict[str, list[Pod]] = {}
    for pod in pods:
        on_node.setdefault(target_node(pod), []).append(pod)
    actions: list[Action] = []
    daemons: list[Pod] = []
    for name in wanted:
        here = sorted(on_node.get(name, []), key=lambda p: p.metadata.creation_timestamp)
        living = [pod for pod in here if pod.active]
        actions += [delete_pod(pod) for pod in here if pod.finished and not pod.terminating]
        actions += [delete_pod(pod) for pod in living[1:]]
        if not here:
            actions.append(_new_pod(obj, name))
        daemons += living[:1]
    misplaced = [p for name, group in on_node.items() if name not in wanted for p in group]
    actions += [delete_pod(pod) for pod in misplaced if not pod.terminating]
    ready = [pod for pod in daemons if pod.ready]
    new = [pod for pod in daemons if pod.metadata.labels.get(REVISION_LABEL) == revision]
    actions += _update(obj, daemons, revision, len(wanted) - len(ready), len(wanted))
    status = {
        "observedGeneration": obj["metadata"]["generation"],
        "currentNumberScheduled": len(daemons),
        "desiredNumberScheduled": len(wanted),
        "numberMisscheduled": len(misplaced),
        "numberReady": len(ready),
        "numberAvailable": len(ready),
        "numberUnavailable": len(wanted) - len(ready),
        "updatedNumberScheduled": len(new),
    }
    return [*actions, *status_patch(DAEMON_SET, obj, status)]


def _update(
    obj: Object, daemons: Sequence[Pod], revision: str, unavailable: int, total: int
) -> list[Action]:
    """The old pods that a rolling update may replace now."""
    strategy = obj["spec"].get("updateStrategy", {})
    if strategy.get("type") == "OnDelete":
        return []
    old = [pod for pod in daemons if pod.metadata.labels.get(REVISION_LABEL) != revision]
    limit = share(strategy.get("rollingUpdate", {}).get("maxUnavailable", 1), total, up=True)
    broken = [pod for pod in old if not pod.ready]
    working = [pod for pod in old if pod.ready]
    room = max(0, max(limit, 1) - unavailable)
    return [delete_pod(pod) for pod in broken + working[:room]]
