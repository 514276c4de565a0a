"""Deployment: one ReplicaSet for each template it has had, and pods moved to the newest.

Simplified against a real controller: a Deployment that is scaled in the middle of a rollout does
not spread the difference over its ReplicaSets in proportion; the rollout's own steps even it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ovsnet.sandbox.apiserver.kinds import DEPLOYMENT, REPLICA_SET, Object
from ovsnet.sandbox.apiserver.registry import timestamp
from ovsnet.sandbox.apiserver.tables import parse_time
from ovsnet.sandbox.workloads.actions import (
    Action,
    Create,
    Delete,
    Patch,
    owner_reference,
    set_condition,
    status_patch,
    template_hash,
)

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_PROGRESS = ("updatedReplicas", "readyReplicas", "availableReplicas", "replicas")


def share(value: Any, whole: int, up: bool) -> int:
    """A number, or a percentage of `whole`."""
    if isinstance(value, str) and value.endswith("%"):
        part = whole * int(value[:-1]) / 100
        return math.ceil(part) if up else math.floor(part)
    return int(value)


def bounds(deployment: Object) -> tuple[int, int]:
    """How many pods a rollout may have too many, and how many too few."""
    spec = deployment["spec"]
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    surge = share(rolling.get("maxSurge", "25%"), spec["replicas"], up=True)
    unavailable = share(rolling.get("maxUnavailable", "25%"), spec["replicas"], up=False)
    return surge, unavailable if surge or unavailable else 1


def _template(obj: Object) -> Object:
    """The pod template without the label that tells ReplicaSets apart."""
    template: Object = obj["spec"]["template"]
    metadata = dict(template.get("metadata", {}))
    metadata["labels"] = {k: v for k, v in metadata.get("labels", {}).items() if k != HASH_LABEL}
    return template | {"metadata": metadata}


def _revision(obj: Object) -> int:
    return int(obj["metadata"].get("annotations", {}).get(REVISION, "0"))


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _available(replica_set: Object) -> int:
    return int(replica_set.get("status", {}).get("availableReplicas", 0))


def new_replica_set(deployment: Object, replicas: int, revision: int) -> Create:
    """The ReplicaSet of the deployment's present template."""
    digest = template_hash(_template(deployment))
    spec = deployment["spec"]
    template = _template(deployment)
    template["metadata"]["labels"] = template["metadata"]["labels"] | {HASH_LABEL: digest}
    selector = dict(spec["selector"])
    selector["matchLabels"] = selector.get("matchLabels", {}) | {HASH_LABEL: digest}
    metadata = deployment["metadata"]
    annotations = {
        k: v
        for k, v in metadata.get("annotations", {}).items()
        if k != "kubectl.kubernetes.io/last-applied-configuration"
    }
    return Create(
        REPLICA_SET,
        metadata["namespace"],
        {
            "metadata": {
                "name": f"{metadata['name']}-{digest}",
                "labels": template["metadata"]["labels"],
                "annotations": annotations | {REVISION: str(revision)},
                "ownerReferences": [owner_reference(DEPLOYMENT, deployment)],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": spec.get("minReadySeconds", 0),
                "selector": selector,
                "template": template,
            },
        },
    )


def _scale(replica_set: Object, replicas: int) -> list[Action]:
    if replica_set["spec"]["replicas"] == replicas:
        return []
    return [Patch(REPLICA_SET, _key(replica_set), {"spec": {"replicas": replicas}})]


def rolling_step(
    deployment: Object, new: Object, old: Sequence[Object]
) -> tuple[int, Mapping[str, int]]:
    """The next step of a rollout: replicas of the new set, and of old sets by name.

    At no time are there more pods than replicas + maxSurge, nor fewer available ones than
    replicas - maxUnavailable because of this.
    """
    desired = deployment["spec"]["replicas"]
    surge, unavailable = bounds(deployment)
    total = new["spec"]["replicas"] + sum(rs["spec"]["replicas"] for rs in old)
    room = max(0, desired + surge - total)
    wanted = min(desired, new["spec"]["replicas"] + room)
    sizes = {rs["metadata"]["name"]: rs["spec"]["replicas"] for rs in old}
    new_unavailable = max(0, new["spec"]["replicas"] - _available(new))
    least = desired - unavailable
    removable = max(0, total - least - new_unavailable)
    by_age = sorted(old, key=lambda rs: (rs["metadata"]["creationTimestamp"], _revision(rs)))
    for rs in by_age:
        name = rs["metadata"]["name"]
        broken = min(max(0, sizes[name] - _available(rs)), removable)
        sizes[name] -= broken
        removable -= broken
    available = _available(new) + sum(
        min(_available(rs), sizes[rs["metadata"]["name"]]) for rs in old
    )
    spare = min(max(0, available - least), removable)
    for rs in by_age:
        name = rs["metadata"]["name"]
        less = min(sizes[name], spare)
        sizes[name] -= less
        spare -= less
    return wanted, sizes


def plan(
    deployment: Object, replica_sets: Sequence[Object], pods: Mapping[str, int], now: datetime
) -> list[Action]:
    """What brings a deployment one step on, and its status to the truth.

    `pods` are, by the uid of a ReplicaSet, its pods that have not ended, those included that are
    being deleted.
    """
    if "deletionTimestamp" in deployment["metadata"]:
        return []
    template = _template(deployment)
    current = [rs for rs in replica_sets if _template(rs) == template]
    new = min(current, key=lambda rs: rs["metadata"]["creationTimestamp"]) if current else None
    old = [rs for rs in replica_sets if rs is not new]
    revision = max(map(_revision, old), default=0) + 1
    paused = deployment["spec"].get("paused", False)
    actions: list[Action] = []
    if new is None:
        if not paused:
            actions.append(new_replica_set(deployment, _first_size(deployment, old), revision))
    else:
        if _revision(new) < revision:
            patch = {"metadata": {"annotations": {REVISION: str(revision)}}}
            actions.append(Patch(REPLICA_SET, _key(new), patch))
        shown = str(max(_revision(new), revision))
        if deployment["metadata"].get("annotations", {}).get(REVISION) != shown:
            patch = {"metadata": {"annotations": {REVISION: shown}}}
            actions.append(Patch(DEPLOYMENT, _key(deployment), patch))
        old_pods = sum(pods.get(rs["metadata"]["uid"], 0) for rs in old)
        actions += _resize(deployment, new, old, old_pods)
        if _complete(deployment, new, old):
            actions += _forget(deployment, old)
    return actions + _status(deployment, new, old, now)


def _first_size(deployment: Object, old: Sequence[Object]) -> int:
    desired: int = deployment["spec"]["replicas"]
    if not any(rs["spec"]["replicas"] for rs in old):
        return desired
    if deployment["spec"]["strategy"]["type"] == "Recreate":
        return 0
    total: int = sum(rs["spec"]["replicas"] for rs in old)
    return max(0, min(desired, desired + bounds(deployment)[0] - total))


def _resize(deployment: Object, new: Object, old: Sequence[Object], old_pods: int) -> list[Action]:
    desired = deployment["spec"]["replicas"]
    if deployment["spec"]["strategy"]["type"] == "Recreate" and old_pods:
        return [action for rs in old for action in _scale(rs, 0)]
    if not any(rs["spec"]["replicas"] or rs.get("status", {}).get("replicas") for rs in old):
        return _scale(new, desired)
    if deployment["spec"].get("paused"):
        return []
    wanted, sizes = rolling_step(deployment, new, old)
    actions = _scale(new, wanted)
    for rs in old:
        actions += _scale(rs, sizes[rs["metadata"]["name"]])
    return actions


def _forget(deployment: Object, old: Sequence[Object]) -> list[Action]:
    empty = [rs for rs in old if not rs["spec"]["replicas"] and not rs["status"].get("replicas")]
    empty.sort(key=_revision)
    surplus = max(0, len(empty) - deployment["spec"]["revisionHistoryLimit"])
    return [Delete(REPLICA_SET, _key(rs), rs["metadata"]["uid"]) for rs in empty[:surplus]]


def _count(replica_sets: Sequence[Object], name: str) -> int:
    return sum(rs.get("status", {}).get(name, 0) for rs in replica_sets)


def _complete(deployment: Object, new: Object, old: Sequence[Object]) -> bool:
    desired = deployment["spec"]["replicas"]
    status = new.get("status", {})
    return (
        status.get("replicas", 0) == desired
        and status.get("availableReplicas", 0) == desired
        and _count(old, "replicas") == 0
    )


def _status(
    deployment: Object, new: Object | None, old: Sequence[Object], now: datetime
) -> list[Patch]:
    every = [*old, new] if new is not None else list(old)
    desired = deployment["spec"]["replicas"]
    total, available = _count(every, "replicas"), _count(every, "availableReplicas")
    status: Object = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": total,
        "updatedReplicas": _count([new], "replicas") if new is not None else 0,
        "readyReplicas": _count(every, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, max(desired, total) - available),
    }
    before = deployment.get("status", {})
    conditions = before.get("conditions", [])
    moved = any(before.get(name) != status[name] for name in _PROGRESS)
    wanted = [
        _availability(deployment, available),
        _progress(deployment, new, old, now, moved=moved),
    ]
    for condition in wanted:
        if condition is not None:
            updated = _with_update_time(conditions, condition, timestamp(now), moved)
            conditions = set_condition(conditions, updated, timestamp(now))
    status["conditions"] = conditions
    return status_patch(DEPLOYMENT, deployment, status)


def _availability(deployment: Object, available: int) -> Object:
    enough = available >= deployment["spec"]["replicas"] - bounds(deployment)[1]
    return {
        "type": "Available",
        "status": "True" if enough else "False",
        "reason": f"MinimumReplicas{'Available' if enough else 'Unavailable'}",
        "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
    }


def _with_update_time(
    conditions: Sequence[Object], condition: Object, now: str, moved: bool
) -> Object:
    """A condition with the time at which it, or what it tells of, last changed."""
    old = next((c for c in conditions if c["type"] == condition["type"]), {})
    unchanged = all(old.get(name) == value for name, value in condition.items())
    keep = unchanged and not (moved and condition["type"] == "Progressing")
    return condition | {"lastUpdateTime": old.get("lastUpdateTime", now) if keep else now}


def _progress(
    deployment: Object, new: Object | None, old: Sequence[Object], now: datetime, *, moved: bool
) -> Object | None:
    if new is None:
        return None
    name = new["metadata"]["name"]
    if _complete(deployment, new, old):
        reason, state = "NewReplicaSetAvailable", "has successfully progressed"
    elif not moved and _stalled(deployment, now):
        return {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": f'ReplicaSet "{name}" has timed out progressing.',
        }
    else:
        reason, state = "ReplicaSetUpdated", "is progressing"
    message = f'ReplicaSet "{name}" {state}.'
    return {"type": "Progressing", "status": "True", "reason": reason, "message": message}


def _stalled(deployment: Object, now: datetime) -> bool:
    """Whether a rollout has been without progress for longer than its deadline."""
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] != "Progressing":
            continue
        if condition["reason"] == "ProgressDeadlineExceeded":
            return True
        if condition["reason"] != "NewReplicaSetAvailable":
            since = parse_time(condition.get("lastUpdateTime", timestamp(now)))
            waited = (now - since).total_seconds()
            return bool(waited > deployment["spec"]["progressDeadlineSeconds"])
    return False
