"""ReplicaSet: as many pods of one template as it says."""

from __future__ import annotations

from collections.abc import Sequence

from ovsnet.sandbox.apiserver.kinds import REPLICA_SET, Object
from ovsnet.sandbox.workloads.actions import (
    Action,
    create_pod,
    delete_pod,
    pod_from_template,
    status_patch,
)
from ovsnet.sandbox.workloads.objects import Pod


def deletion_order(pods: Sequence[Pod]) -> list[Pod]:
    """Pods in the order in which they can be spared.

    Those without a node first, then those that do not run, are not ready, are on a node with
    more of their kind, or are younger.
    """
    on_node: dict[str, int] = {}
    for pod in pods:
        on_node[pod.spec.node_name] = on_node.get(pod.spec.node_name, 0) + 1
    youngest_first = sorted(pods, key=lambda p: p.metadata.creation_timestamp, reverse=True)
    return sorted(
        youngest_first,
        key=lambda pod: (
            bool(pod.spec.node_name),
            pod.status.phase == "Running",
            pod.ready,
            -on_node[pod.spec.node_name],
        ),
    )


def plan(replica_set: Object, pods: Sequence[Pod]) -> list[Action]:
    """What makes the pods as many as wanted, and the status true."""
    metadata = replica_set["metadata"]
    if "deletionTimestamp" in metadata:
        return []
    active = [pod for pod in pods if pod.active]
    wanted = replica_set["spec"].get("replicas", 1)
    actions: list[Action] = []
    if len(active) < wanted:
        pod = pod_from_template(REPLICA_SET, replica_set)
        actions += [create_pod(replica_set, pod)] * (wanted - len(active))
    else:
        surplus = deletion_order(active)[: len(active) - wanted]
        actions += [delete_pod(p) for p in surplus]
    ready = sum(pod.ready for pod in active)
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": len(active),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": metadata["generation"],
    }
    return [*actions, *status_patch(REPLICA_SET, replica_set, status)]
