"""StatefulSet: numbered pods, made and unmade in order.

Simplified against a real controller: no volumes are claimed; a pod below the partition of a rolling
update that is lost comes back with the new template, since old templates are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from ovsnet.sandbox.apiserver.kinds import STATEFUL_SET, Object
from ovsnet.sandbox.workloads.actions import (
    Action,
    create_pod,
    delete_pod,
    pod_from_template,
    status_patch,
    template_hash,
)
from ovsnet.sandbox.workloads.objects import Pod

REVISION_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


def _revision(obj: Object) -> str:
    return f"{obj['metadata']['name']}-{template_hash(obj['spec']['template'])}"


def _ordinal(obj: Object, pod: Pod) -> int | None:
    text = pod.metadata.name.removeprefix(f"{obj['metadata']['name']}-")
    return int(text) if text.isdecimal() and str(int(text)) == text else None


def _new_pod(obj: Object, ordinal: int) -> Action:
    name = f"{obj['metadata']['name']}-{ordinal}"
    labels = {REVISION_LABEL: _revision(obj), NAME_LABEL: name, INDEX_LABEL: str(ordinal)}
    pod = pod_from_template(STATEFUL_SET, obj, labels, name)
    pod["spec"]["hostname"] = name
    if obj["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = obj["spec"]["serviceName"]
    return create_pod(obj, pod)


def _steps(obj: Object, by_ordinal: dict[int, Pod]) -> list[Action]:
    """The pods to make and unmade now; in order, one after the other unless they are parallel."""
    spec = obj["spec"]
    parallel = spec.get("podManagementPolicy") == "Parallel"
    start = spec.get("ordinals", {}).get("start", 0)
    wanted = range(start, start + spec.get("replicas", 1))
    actions: list[Action] = []
    for ordinal in wanted:
        pod = by_ordinal.get(ordinal)
        if pod is None:
            actions.append(_new_pod(obj, ordinal))
        elif pod.finished and not pod.terminating:
            actions.append(delete_pod(pod))
        elif pod.ready and not pod.terminating:
            continue
        if not parallel:
            # This one is not ready yet: whatever comes after it has to wait.
            return actions
    condemned = sorted((o for o in by_ordinal if o not in wanted), reverse=True)
    for ordinal in condemned:
        if not by_ordinal[ordinal].terminating:
            actions.append(delete_pod(by_ordinal[ordinal]))
        if not parallel:
            break
    return actions or _update(obj, by_ordinal)


def _update(obj: Object, by_ordinal: dict[int, Pod]) -> list[Action]:
    """The next pod that a rolling update replaces: the highest that is not of the new revision."""
    strategy = obj["spec"].get("updateStrategy", {})
    if strategy.get("type") == "OnDelete":
        return []
    partition = strategy.get("rollingUpdate", {}).get("partition", 0)
    revision = _revision(obj)
    for ordinal in sorted(by_ordinal, reverse=True):
        pod = by_ordinal[ordinal]
        if ordinal < partition:
            return []
        if pod.metadata.labels.get(REVISION_LABEL) != revision:
            return [] if pod.terminating else [delete_pod(pod)]
        if pod.terminating or not pod.ready:
            return []
    return []


def plan(obj: Object, pods: Sequence[Pod]) -> list[Action]:
    """What brings a stateful set one step on, and its status to the truth."""
    if "deletionTimestamp" in obj["metadata"]:
        return []
    by_ordinal = {ordinal: pod for pod in pods if (ordinal := _ordinal(obj, pod)) is not None}
    revision = _revision(obj)
    alive = [pod for pod in by_ordinal.values() if not pod.finished]
    new = [p for p in alive if p.metadata.labels.get(REVISION_LABEL) == revision]
    ready = sum(pod.ready and not pod.terminating for pod in alive)
    replicas = obj["spec"].get("replicas", 1)
    rolled = len(new) == len(alive) == replicas and ready == replicas
    current = obj.get("status", {}).get("currentRevision", revision)
    current = revision if rolled else current
    of_current = sum(p.metadata.labels.get(REVISION_LABEL) == current for p in alive)
    status = {
        "observedGeneration": obj["metadata"]["generation"],
        "replicas": len(alive),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "updatedReplicas": len(new),
        "currentReplicas": of_current,
        "currentRevision": current,
        "updateRevision": revision,
        "collisionCount": 0,
    }
    return [*_steps(obj, by_ordinal), *status_patch(STATEFUL_SET, obj, status)]
