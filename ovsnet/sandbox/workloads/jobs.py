"""Job: pods until enough of them have succeeded.

Simplified against a real controller: completions are not indexed, failed pods are replaced without
a growing delay, and neither deadlines nor time to live end a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ovsnet.sandbox.apiserver.kinds import JOB, Object
from ovsnet.sandbox.apiserver.registry import timestamp
from ovsnet.sandbox.workloads.actions import (
    Action,
    create_pod,
    delete_pod,
    pod_from_template,
    set_condition,
    status_patch,
)
from ovsnet.sandbox.workloads.objects import Pod


def plan(job: Object, pods: Sequence[Pod], now: datetime) -> list[Action]:
    """What brings a job one step on, and its status to the truth."""
    spec, status = job["spec"], job.get("status", {})
    if "deletionTimestamp" in job["metadata"]:
        return []
    active = [pod for pod in pods if pod.active]
    succeeded = sum(pod.status.phase == "Succeeded" for pod in pods)
    failed = sum(pod.status.phase == "Failed" for pod in pods)
    completions = spec.get("completions", 1)
    text = timestamp(now)
    ended = {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}
    new_status: Object = {
        "active": len(active),
        "ready": sum(pod.ready for pod in active),
        "succeeded": succeeded,
        "failed": failed,
        "startTime": status.get("startTime", text),
    }
    actions: list[Action] = []
    outcome: Object | None = None
    if succeeded >= completions:
        outcome = {"type": "Complete", "status": "True", "reason": "CompletionsReached"}
        new_status["completionTime"] = status.get("completionTime", text)
    elif failed > spec["backoffLimit"]:
        outcome = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    if outcome is not None:
        if outcome["type"] not in ended:
            conditions = status.get("conditions", [])
            new_status["conditions"] = set_condition(conditions, outcome, text)
        surplus = active
    else:
        wanted = 0 if spec.get("suspend") else min(spec["parallelism"], completions - succeeded)
        missing = max(0, wanted - len(active))
        actions += [create_pod(job, pod_from_template(JOB, job))] * missing
        surplus = active[wanted:]
    actions += [delete_pod(p) for p in surplus]
    return [*actions, *status_patch(JOB, job, new_status)]
