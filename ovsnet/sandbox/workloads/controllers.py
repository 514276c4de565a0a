"""Which controller looks at what, and when: the wiring between writes and plans.

A controller says which of its objects a write concerns, and plans for one object at a time from
the view alone. Whoever plans twice for the same state plans the same, so a lost or a repeated
notice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ovsnet.sandbox.apiserver import kinds
from ovsnet.sandbox.apiserver.kinds import KINDS, Kind
from ovsnet.sandbox.apiserver.registry import timestamp
from ovsnet.sandbox.apiserver.store import Change, Stored
from ovsnet.sandbox.apiserver.tables import parse_time
from ovsnet.sandbox.workloads import (
    daemonsets,
    deployments,
    endpointslices,
    garbage,
    jobs,
    nodes,
    replicasets,
    scheduler,
    statefulsets,
)
from ovsnet.sandbox.workloads.actions import Action, Delete
from ovsnet.sandbox.workloads.nodes import PodRange
from ovsnet.sandbox.workloads.objects import ZONE, Pod
from ovsnet.sandbox.workloads.view import Reference, View

Concerned = Callable[[View, Kind, Change], Iterable[Reference]]
Planner = Callable[[View, Reference, datetime], list[Action]]

EVENT_LIFETIME = timedelta(hours=1)
"""How long Events are kept (kube-apiserver's event-ttl)."""


@dataclass(frozen=True)
class Controller:
    """One controller."""

    name: str
    concerned: Concerned
    """The objects for which a write may call for something."""
    plan: Planner
    """What is to be done for one of them."""
    periodic: Kind | None = None
    """The kind whose objects are looked at from time to time without a write."""


def _of(kind: Kind) -> Concerned:
    def concerned(_: View, written: Kind, change: Change) -> Iterable[Reference]:
        return [(kind, change.after.key)] if written is kind else []

    return concerned


def _owners(view: View, stored: Stored, kind: Kind) -> Iterable[Reference]:
    for uid in stored.owners:
        reference = view.reference(uid)
        if reference is not None and reference[0] is kind:
            yield reference


def _of_and_owned(kind: Kind, dependent: Kind) -> Concerned:
    """The object itself, or the owner of a dependent."""

    def concerned(view: View, written: Kind, change: Change) -> Iterable[Reference]:
        if written is kind:
            return [(kind, change.after.key)]
        return _owners(view, change.after, kind) if written is dependent else ()

    return concerned


def _plan_deployment(view: View, reference: Reference, now: datetime) -> list[Action]:
    kind, key = reference
    deployment = view.get(kind, key)
    if deployment is None:
        return []
    owned = view.owned(deployment["metadata"]["uid"])
    found = [view.get(k, name) for k, name in owned if k is kinds.REPLICA_SET]
    sets = [s for s in found if s is not None]
    uids = [s["metadata"]["uid"] for s in sets]
    pods = {uid: sum(not pod.finished for pod in view.pods_of(uid)) for uid in uids}
    return deployments.plan(deployment, sets, pods, now)


def _deployments_concerned(view: View, written: Kind, change: Change) -> Iterable[Reference]:
    """Also where a pod has ended: one that is recreated waits for the last of its old pods."""
    if written is not kinds.POD:
        return _of_and_owned(kinds.DEPLOYMENT, kinds.REPLICA_SET)(view, written, change)
    if not change.deleted:
        return ()
    owners = (
        view.stored(*reference) for reference in _owners(view, change.after, kinds.REPLICA_SET)
    )
    return [
        reference
        for owner in owners
        if owner is not None
        for reference in _owners(view, owner, kinds.DEPLOYMENT)
    ]


def _plan_replica_set(view: View, reference: Reference, _: datetime) -> list[Action]:
    obj = view.get(*reference)
    return [] if obj is None else replicasets.plan(obj, view.pods_of(obj["metadata"]["uid"]))


def _plan_stateful_set(view: View, reference: Reference, _: datetime) -> list[Action]:
    obj = view.get(*reference)
    return [] if obj is None else statefulsets.plan(obj, view.pods_of(obj["metadata"]["uid"]))


def _plan_daemon_set(view: View, reference: Reference, _: datetime) -> list[Action]:
    obj = view.get(*reference)
    if obj is None:
        return []
    return daemonsets.plan(obj, view.pods_of(obj["metadata"]["uid"]), view.nodes)


def _plan_job(view: View, reference: Reference, now: datetime) -> list[Action]:
    obj = view.get(*reference)
    return [] if obj is None else jobs.plan(obj, view.pods_of(obj["metadata"]["uid"]), now)


def _daemon_sets_concerned(view: View, written: Kind, change: Change) -> Iterable[Reference]:
    if written is kinds.NODE:
        return [(kinds.DAEMON_SET, key) for key in view.keys(kinds.DAEMON_SET)]
    return _of_and_owned(kinds.DAEMON_SET, kinds.POD)(view, written, change)


def _pods_to_schedule(view: View, written: Kind, change: Change) -> Iterable[Reference]:
    """A new pod; or every waiting one, when room may have appeared."""
    if written is kinds.POD and not change.deleted and not change.after.fields["spec.nodeName"]:
        return [(kinds.POD, change.after.key)]
    room = written is kinds.NODE or (written is kinds.POD and _frees_room(view, change))
    return [(kinds.POD, key) for key in view.unscheduled] if room else ()


def _frees_room(view: View, change: Change) -> bool:
    """Whether a pod has gone, has ended, or is a new neighbour for those with affinity."""
    if not view.unscheduled:
        return False
    before = change.before
    bound = before is not None and before.fields["spec.nodeName"] == ""
    ended = change.after.fields["status.phase"] in ("Succeeded", "Failed")
    return change.deleted or bound or ended


def _plan_schedule(view: View, reference: Reference, now: datetime) -> list[Action]:
    pod = view.unscheduled.get(reference[1])
    if pod is None:
        return []

    def namespace_labels(name: str) -> dict[str, str]:
        namespace = view.get(kinds.NAMESPACE, ("", name)) or {"metadata": {}}
        labels: dict[str, str] = namespace["metadata"].get("labels", {})
        return labels

    cluster = scheduler.Cluster(view.nodes, view.pods_on, namespace_labels, view.has_anti_affinity)
    return scheduler.plan(pod, cluster, timestamp(now))


def _services_concerned(view: View, written: Kind, change: Change) -> Iterable[Reference]:
    if written is kinds.SERVICE:
        return [(kinds.SERVICE, change.after.key)]
    if written is kinds.ENDPOINT_SLICE:
        return _owners(view, change.after, kinds.SERVICE)
    if written is kinds.NODE and _is_elsewhere(change):
        return [(kinds.SERVICE, key) for key in view.keys(kinds.SERVICE)]
    if written is not kinds.POD:
        return ()
    states = [change.after] + ([change.before] if change.before is not None else [])
    return [
        (kinds.SERVICE, key)
        for key, selector in view.service_selectors(change.after.key[0]).items()
        if any(selector.matches(state.labels) for state in states)
    ]


def _is_elsewhere(change: Change) -> bool:
    """Whether a node has come, has gone, or is now in another zone."""
    before = change.before
    return (
        before is None or change.deleted or before.labels.get(ZONE) != change.after.labels.get(ZONE)
    )


def _plan_slices(view: View, reference: Reference, _: datetime) -> list[Action]:
    service = view.get(*reference)
    if service is None:
        return []
    owned = view.owned(service["metadata"]["uid"])
    present = [view.get(k, key) for k, key in owned if k is kinds.ENDPOINT_SLICE]
    pods: list[Pod] = view.pods(reference[1][0]) if service["spec"].get("selector") else []
    zones = {name: node.zone for name, node in view.nodes.items()}
    return endpointslices.plan(service, pods, [s for s in present if s is not None], zones)


def _garbage_concerned(view: View, written: Kind, change: Change) -> Iterable[Reference]:
    """What an object that went leaves behind, and what waits for it to be gone."""
    owners = change.after.owners
    if change.deleted:
        yield from view.owned(change.after.uid)
    elif b'"deletionTimestamp"' in change.after.body or (
        owners and (change.before is None or change.before.owners != owners)
    ):
        yield written, change.after.key
    for uid in change.after.owners:
        owner = view.reference(uid)
        if owner is not None and change.deleted:
            yield owner


def _plan_garbage(view: View, reference: Reference, _: datetime) -> list[Action]:
    kind, key = reference
    obj = view.get(kind, key)
    if obj is None:
        return []
    references = view.owned(obj["metadata"]["uid"])
    found = [(k, view.get(k, dependent)) for k, dependent in references]
    dependents = [(k, dependent) for k, dependent in found if dependent is not None]
    return (
        garbage.collect(kind, obj, view.exists)
        or garbage.finish_foreground(kind, obj, dependents)
        or garbage.finish_orphan(kind, obj, dependents)
    )


def _namespaces_concerned(_: View, written: Kind, change: Change) -> Iterable[Reference]:
    if written is kinds.NAMESPACE:
        return [(written, change.after.key)]
    furniture = written in (kinds.SERVICE_ACCOUNT, kinds.CONFIG_MAP)
    if change.deleted and written.namespaced:
        return [(kinds.NAMESPACE, ("", change.after.key[0]))]
    return [(kinds.NAMESPACE, ("", change.after.key[0]))] if furniture else ()


def _plan_namespace(view: View, reference: Reference, _: datetime) -> list[Action]:
    namespace = view.get(*reference)
    if namespace is None:
        return []
    if "deletionTimestamp" not in namespace["metadata"]:
        return garbage.furnish_namespace(
            namespace, lambda kind, key: view.uid(kind, key) is not None
        )
    name = reference[1][1]
    contents = [
        (
            kind,
            (name, obj["metadata"]["name"]),
            obj["metadata"]["uid"],
            "deletionTimestamp" in obj["metadata"],
        )
        for kind in KINDS
        if kind.namespaced
        for obj in view.objects(kind, name)
    ]
    return garbage.empty_namespace(namespace, contents)


def _node_ranges(ranges: Sequence[PodRange]) -> Controller:
    def concerned(view: View, written: Kind, change: Change) -> Iterable[Reference]:
        if written is not kinds.NODE:
            return ()
        if change.deleted:
            waiting = [n for n, node in view.nodes.items() if not node.spec.pod_cidrs]
            return [(kinds.NODE, ("", name)) for name in waiting]
        return [(kinds.NODE, change.after.key)]

    def plan(view: View, reference: Reference, _: datetime) -> list[Action]:
        node = view.get(*reference)
        if node is None:
            return []
        return nodes.allocate_ranges(node, (n.spec.pod_cidrs for n in view.nodes.values()), ranges)

    return Controller("node-ipam", concerned, plan)


def _plan_node(view: View, reference: Reference, now: datetime) -> list[Action]:
    node = view.get(*reference)
    if node is None:
        return []
    return nodes.judge(node, view.get(kinds.LEASE, ("kube-node-lease", reference[1][1])), now)


def _pods_of_gone_nodes(view: View, written: Kind, change: Change) -> Iterable[Reference]:
    if written is not kinds.NODE or not change.deleted:
        return ()
    return [(kinds.POD, key) for key in view.pods_on(change.after.key[1])]


def _plan_pod_of_gone_node(view: View, reference: Reference, _: datetime) -> list[Action]:
    pod = view.pod(reference[1])
    if pod is None or pod.spec.node_name in view.nodes:
        return []
    return [Delete(kinds.POD, reference[1], pod.metadata.uid, grace=0)]


def _plan_event(view: View, reference: Reference, now: datetime) -> list[Action]:
    event = view.get(*reference)
    if event is None:
        return []
    metadata = event["metadata"]
    last = event.get("lastTimestamp") or metadata["creationTimestamp"]
    old = now - parse_time(last) > EVENT_LIFETIME
    return [Delete(reference[0], reference[1], metadata["uid"])] if old else []


def _never(_: View, __: Kind, ___: Change) -> Iterable[Reference]:
    return ()


def controllers(pod_ranges: Sequence[PodRange]) -> tuple[Controller, ...]:
    """Every controller."""
    return (
        Controller("namespace", _namespaces_concerned, _plan_namespace),
        Controller("garbage", _garbage_concerned, _plan_garbage),
        _node_ranges(pod_ranges),
        Controller("node-lifecycle", _of(kinds.NODE), _plan_node, periodic=kinds.NODE),
        Controller("pods-of-gone-nodes", _pods_of_gone_nodes, _plan_pod_of_gone_node),
        Controller(
            "deployment",
            _deployments_concerned,
            _plan_deployment,
            periodic=kinds.DEPLOYMENT,
        ),
        Controller("replicaset", _of_and_owned(kinds.REPLICA_SET, kinds.POD), _plan_replica_set),
        Controller("statefulset", _of_and_owned(kinds.STATEFUL_SET, kinds.POD), _plan_stateful_set),
        Controller("daemonset", _daemon_sets_concerned, _plan_daemon_set),
        Controller("job", _of_and_owned(kinds.JOB, kinds.POD), _plan_job),
        Controller("scheduler", _pods_to_schedule, _plan_schedule),
        Controller("endpointslice", _services_concerned, _plan_slices),
        Controller("event-lifetime", _never, _plan_event, periodic=kinds.EVENT),
    )
