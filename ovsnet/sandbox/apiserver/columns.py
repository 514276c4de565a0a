"""The columns that people know, kind by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ovsnet.sandbox.apiserver import kinds
from ovsnet.sandbox.apiserver.kinds import Kind, Object
from ovsnet.sandbox.apiserver.tables import AGE, NAME, Column, age_since, duration, parse_time

NONE = "<none>"


def _at(path: str, default: Any = NONE) -> Callable[[Object, datetime], Any]:
    def cell(obj: Object, _: datetime) -> Any:
        value: Any = obj
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return default if value in (None, "") else value

    return cell


def _pure(function: Callable[[Object], Any]) -> Callable[[Object, datetime], Any]:
    return lambda obj, _: function(obj)


def _joined(values: Iterable[Any], limit: int = 0) -> str:
    texts = [str(value) for value in values]
    if limit and len(texts) > limit:
        return ",".join(texts[:limit]) + f" + {len(texts) - limit} more..."
    return ",".join(texts) or NONE


def selector_text(selector: Object | None) -> str:
    """A LabelSelector in the form of a query, empty for none."""
    if selector is None:
        return ""
    terms = [f"{k}={v}" for k, v in sorted(selector.get("matchLabels", {}).items())]
    for expression in selector.get("matchExpressions", ()):
        key, values = expression["key"], ",".join(sorted(expression.get("values", ())))
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }.get(expression["operator"], key)
        )
    return ",".join(terms)


def _selector(selector: Object | None) -> str:
    return selector_text(selector) or NONE


def _containers(spec: Object, field: str) -> str:
    return _joined(c.get(field, "") for c in spec.get("containers", ()))


_CONTAINERS = Column(
    "Containers", _pure(lambda o: _containers(o["spec"]["template"]["spec"], "name")), wide=True
)
_IMAGES = Column(
    "Images", _pure(lambda o: _containers(o["spec"]["template"]["spec"], "image")), wide=True
)
_SELECTOR = Column("Selector", _pure(lambda o: _selector(o["spec"].get("selector"))), wide=True)


def _pod_ready(pod: Object) -> str:
    total = len(pod["spec"].get("containers", ()))
    statuses = pod.get("status", {}).get("containerStatuses", [])
    ready = sum(bool(s.get("ready")) for s in statuses)
    # A stand-in for kubelet may report the pod's condition alone.
    if not statuses and condition(pod, "Ready") == "True":
        ready = total
    return f"{ready}/{total}"


def condition(obj: Object, type_: str) -> str:
    """The status of a condition: "True", "False", "Unknown", or empty if it is not there."""
    for entry in obj.get("status", {}).get("conditions", ()):
        if entry.get("type") == type_:
            return str(entry.get("status", ""))
    return ""


def _pod_status(pod: Object) -> str:
    status = pod.get("status", {})
    reason = status.get("reason") or status.get("phase", "Unknown")
    for container in status.get("containerStatuses", ()):
        state = container.get("state", {})
        for part in ("waiting", "terminated"):
            reason = state.get(part, {}).get("reason") or reason
    return "Terminating" if "deletionTimestamp" in pod["metadata"] else str(reason)


def _restarts(pod: Object) -> int:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return sum(s.get("restartCount", 0) for s in statuses)


def _gates(pod: Object) -> str:
    gates = pod["spec"].get("readinessGates", ())
    if not gates:
        return NONE
    met = sum(condition(pod, gate["conditionType"]) == "True" for gate in gates)
    return f"{met}/{len(gates)}"


def _node_status(node: Object) -> str:
    ready = {"True": "Ready", "False": "NotReady"}.get(condition(node, "Ready"), "Unknown")
    cordoned = node.get("spec", {}).get("unschedulable")
    return ready + (",SchedulingDisabled" if cordoned else "")


def _node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels", {})
    return _joined(sorted(k.removeprefix(prefix) for k in labels if k.startswith(prefix)))


def _node_address(type_: str) -> Callable[[Object, datetime], Any]:
    def cell(node: Object, _: datetime) -> Any:
        addresses = node.get("status", {}).get("addresses", ())
        return next((a["address"] for a in addresses if a["type"] == type_), NONE)

    return cell


def _service_external(service: Object) -> str:
    spec = service["spec"]
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    addresses = [i.get("ip") or i.get("hostname", "") for i in ingress]
    addresses += spec.get("externalIPs", [])
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName", NONE))
        case "LoadBalancer" if not addresses:
            return "<pending>"
    return _joined(addresses)


def _service_ports(service: Object) -> str:
    def shown(port: Object) -> str:
        node = f":{port['nodePort']}" if "nodePort" in port else ""
        return f"{port['port']}{node}/{port.get('protocol', 'TCP')}"

    return _joined(map(shown, service["spec"].get("ports", ())))


def _labels(labels: Mapping[str, str]) -> str:
    return _joined(f"{key}={value}" for key, value in sorted(labels.items()))


def _endpoints(endpoints: Object) -> str:
    pairs = [
        f"{address['ip']}:{port['port']}"
        for subset in endpoints.get("subsets", ())
        for port in subset.get("ports", ())
        for address in subset.get("addresses", ())
    ]
    return _joined(pairs, limit=3)


def _slice_ports(slice_: Object) -> str:
    return _joined((p.get("port", "*") for p in slice_.get("ports", ())), limit=3)


def _slice_endpoints(slice_: Object) -> str:
    return _joined((a for e in slice_["endpoints"] for a in e.get("addresses", ())), limit=3)


def _event_seen(event: Object, now: datetime) -> str:
    series = event.get("series") or {}
    moment = (
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("firstTimestamp")
    )
    return age_since(moment, now)


def _event_object(event: Object) -> str:
    about = event.get("involvedObject", {})
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def _event_source(event: Object) -> str:
    source = event.get("source", {})
    component = source.get("component") or event.get("reportingComponent", "")
    return ", ".join(filter(None, (component, source.get("host", ""))))


def _desired_of_total(obj: Object) -> str:
    return f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"


def _job_completions(job: Object) -> str:
    done = job.get("status", {}).get("succeeded", 0)
    wanted = job["spec"].get("completions")
    if wanted is not None:
        return f"{done}/{wanted}"
    parallel = job["spec"].get("parallelism", 1)
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def _job_status(job: Object) -> str:
    for type_, text in (("Complete", "Complete"), ("Failed", "Failed")):
        if condition(job, type_) == "True":
            return text
    return "Terminating" if "deletionTimestamp" in job["metadata"] else "Running"


def _job_duration(job: Object, now: datetime) -> str:
    status = job.get("status", {})
    if not status.get("startTime"):
        return ""
    end = parse_time(status["completionTime"]) if status.get("completionTime") else now
    return duration(end - parse_time(status["startTime"]))


def _node_selector(obj: Object) -> str:
    return _labels(obj["spec"]["template"]["spec"].get("nodeSelector", {}))


def _role_reference(binding: Object) -> str:
    return f"{binding['roleRef'].get('kind', '')}/{binding['roleRef'].get('name', '')}"


def _integer(name: str, path: str) -> Column:
    return Column(name, _at(path, 0), type="integer")


_BINDING = (NAME, Column("Role", _pure(_role_reference)), AGE)

_COLUMNS: Mapping[Kind, Sequence[Column]] = {
    kinds.NAMESPACE: (NAME, Column("Status", _at("status.phase")), AGE),
    kinds.NODE: (
        NAME,
        Column("Status", _pure(_node_status)),
        Column("Roles", _pure(_node_roles)),
        AGE,
        Column("Version", _at("status.nodeInfo.kubeletVersion")),
        Column("Internal-IP", _node_address("InternalIP"), wide=True),
        Column("External-IP", _node_address("ExternalIP"), wide=True),
        Column("OS-Image", _at("status.nodeInfo.osImage", "<unknown>"), wide=True),
        Column("Kernel-Version", _at("status.nodeInfo.kernelVersion", "<unknown>"), wide=True),
        Column(
            "Container-Runtime",
            _at("status.nodeInfo.containerRuntimeVersion", "<unknown>"),
            wide=True,
        ),
    ),
    kinds.POD: (
        NAME,
        Column("Ready", _pure(_pod_ready)),
        Column("Status", _pure(_pod_status)),
        Column("Restarts", _pure(lambda pod: str(_restarts(pod)))),
        AGE,
        Column("IP", _at("status.podIP"), wide=True),
        Column("Node", _at("spec.nodeName"), wide=True),
        Column("Nominated Node", _at("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", _pure(_gates), wide=True),
    ),
    kinds.SERVICE: (
        NAME,
        Column("Type", _at("spec.type")),
        Column("Cluster-IP", _at("spec.clusterIP")),
        Column("External-IP", _pure(_service_external)),
        Column("Port(s)", _pure(_service_ports)),
        AGE,
        Column("Selector", _pure(lambda s: _labels(s["spec"].get("selector", {}))), wide=True),
    ),
    kinds.ENDPOINTS: (NAME, Column("Endpoints", _pure(_endpoints)), AGE),
    kinds.CONFIG_MAP: (
        NAME,
        Column("Data", _pure(lambda o: str(len(o.get("data", {})) + len(o.get("binaryData", {}))))),
        AGE,
    ),
    kinds.SECRET: (
        NAME,
        Column("Type", _at("type")),
        Column("Data", _pure(lambda o: len(o.get("data", {}))), type="integer"),
        AGE,
    ),
    kinds.SERVICE_ACCOUNT: (
        NAME,
        Column("Secrets", _pure(lambda o: len(o.get("secrets", ()))), type="integer"),
        AGE,
    ),
    kinds.EVENT: (
        Column("Last Seen", _event_seen),
        Column("Type", _at("type", "")),
        Column("Reason", _at("reason", "")),
        Column("Object", _pure(_event_object)),
        Column("Subobject", _at("involvedObject.fieldPath", ""), wide=True),
        Column("Source", _pure(_event_source), wide=True),
        Column("Message", _at("message", "")),
        Column("First Seen", lambda e, now: age_since(e.get("firstTimestamp"), now), wide=True),
        Column("Count", _pure(lambda e: str(e.get("count", 1))), wide=True),
        Column("Name", _pure(lambda e: e["metadata"]["name"]), wide=True),
    ),
    kinds.CLAIM: (
        NAME,
        Column("Status", _at("status.phase")),
        Column("Volume", _at("spec.volumeName", "")),
        Column("StorageClass", _at("spec.storageClassName", "")),
        AGE,
    ),
    kinds.DEPLOYMENT: (
        NAME,
        Column("Ready", _pure(_desired_of_total)),
        Column("Up-to-date", _pure(lambda o: str(o["status"].get("updatedReplicas", 0)))),
        Column("Available", _pure(lambda o: str(o["status"].get("availableReplicas", 0)))),
        AGE,
        _CONTAINERS,
        _IMAGES,
        _SELECTOR,
    ),
    kinds.REPLICA_SET: (
        NAME,
        _integer("Desired", "spec.replicas"),
        _integer("Current", "status.replicas"),
        _integer("Ready", "status.readyReplicas"),
        AGE,
        _CONTAINERS,
        _IMAGES,
        _SELECTOR,
    ),
    kinds.DAEMON_SET: (
        NAME,
        _integer("Desired", "status.desiredNumberScheduled"),
        _integer("Current", "status.currentNumberScheduled"),
        _integer("Ready", "status.numberReady"),
        _integer("Up-to-date", "status.updatedNumberScheduled"),
        _integer("Available", "status.numberAvailable"),
        Column("Node Selector", _pure(_node_selector)),
        AGE,
        _CONTAINERS,
        _IMAGES,
        _SELECTOR,
    ),
    kinds.STATEFUL_SET: (
        NAME,
        Column("Ready", _pure(_desired_of_total)),
        AGE,
        _CONTAINERS,
        _IMAGES,
    ),
    kinds.CONTROLLER_REVISION: (NAME, _integer("Revision", "revision"), AGE),
    kinds.JOB: (
        NAME,
        Column("Status", _pure(_job_status)),
        Column("Completions", _pure(_job_completions)),
        Column("Duration", _job_duration),
        AGE,
        _CONTAINERS,
        _IMAGES,
        _SELECTOR,
    ),
    kinds.NETWORK_POLICY: (
        NAME,
        Column("Pod-Selector", _pure(lambda o: _selector(o["spec"].get("podSelector")))),
        AGE,
    ),
    kinds.ENDPOINT_SLICE: (
        NAME,
        Column("AddressType", _at("addressType")),
        Column("Ports", _pure(_slice_ports)),
        Column("Endpoints", _pure(_slice_endpoints)),
        AGE,
    ),
    kinds.LEASE: (NAME, Column("Holder", _at("spec.holderIdentity", "")), AGE),
    kinds.NEW_EVENT: (
        NAME,
        Column("Type", _at("type", "")),
        Column("Reason", _at("reason", "")),
        Column("Note", _at("note", "")),
        AGE,
    ),
    kinds.ROLE_BINDING: _BINDING,
    kinds.CLUSTER_ROLE_BINDING: _BINDING,
    kinds.PRIORITY_CLASS: (NAME, _integer("Value", "value"), AGE),
}


def columns_of(kind: Kind) -> Sequence[Column]:
    """The columns of a kind; name and age where there are no others."""
    return _COLUMNS.get(kind, (NAME, AGE))
