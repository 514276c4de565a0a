"""The values that a server fills in where an object is silent (API reference, "Defaults to")."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from ovsnet.sandbox.apiserver import kinds, service_fields
from ovsnet.sandbox.apiserver.kinds import Kind, Object

CONTROL_PLANE_NAME_LABEL = "kubernetes.io/metadata.name"


def set_defaults(kind: Kind, obj: Object) -> None:
    """Fill in the defaults of an object, in place."""
    if kind.has_status:
        obj.setdefault("status", {})
    setter = _DEFAULTS.get(kind)
    if setter is not None:
        setter(obj)


def _fill(target: Object, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        target.setdefault(name, value)


def _probe(container: Object, name: str) -> None:
    probe = container.get(name)
    if probe is not None:
        _fill(
            probe,
            {
                "timeoutSeconds": 1,
                "periodSeconds": 10,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
        )
        if "httpGet" in probe:
            _fill(probe["httpGet"], {"path": "/", "scheme": "HTTP"})


def _container(container: Object, host_network: bool) -> None:
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    _fill(
        container,
        {
            "imagePullPolicy": "Always" if latest else "IfNotPresent",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        },
    )
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        _probe(container, name)
    for variable in container.get("env", ()):
        reference = variable.get("valueFrom", {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    resources = container["resources"]
    for name, amount in resources.get("limits", {}).items():
        resources.setdefault("requests", {}).setdefault(name, amount)


def _volume(volume: Object) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        if source in volume:
            volume[source].setdefault("defaultMode", 0o644)
    for source in volume.get("projected", {}).get("sources", ()):
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")


def _pod_spec(spec: Object) -> None:
    _fill(
        spec,
        {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
    )
    if "serviceAccount" in spec:
        spec.setdefault("serviceAccountName", spec["serviceAccount"])
    elif "serviceAccountName" in spec:
        spec["serviceAccount"] = spec["serviceAccountName"]
    for name in ("initContainers", "containers"):
        for container in spec.get(name, ()):
            _container(container, spec.get("hostNetwork", False))
    for volume in spec.get("volumes", ()):
        _volume(volume)


def _pod(pod: Object) -> None:
    spec = pod.setdefault("spec", {})
    spec.setdefault("serviceAccountName", spec.get("serviceAccount", "default"))
    _pod_spec(spec)
    _fill(spec, {"enableServiceLinks": True, "preemptionPolicy": "PreemptLowerPriority"})
    spec.setdefault("tolerations", [])
    present = {(t.get("key"), t.get("effect")) for t in spec["tolerations"]}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not present & {(key, "NoExecute"), (key, None), (None, None)}:
            spec["tolerations"].append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }
            )
    status = pod.setdefault("status", {})
    _fill(status, {"phase": "Pending", "qosClass": _quality(spec)})


def _quality(spec: Object) -> str:
    """The class of service of a pod ("Pod Quality of Service Classes")."""
    containers = spec.get("initContainers", []) + spec.get("containers", [])
    demands = [c.get("resources", {}) for c in containers if isinstance(c, dict)]
    if not any(d.get("limits") or d.get("requests") for d in demands):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= set(d.get("limits", {})) and d.get("requests") == d.get("limits")
        for d in demands
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _template(spec: Object) -> None:
    _pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def _rolling(spec: Object, field: str, values: Object) -> None:
    strategy = spec.setdefault(field, {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), values)


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    _rolling(spec, "strategy", {"maxSurge": "25%", "maxUnavailable": "25%"})
    _template(spec)


def _replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def _daemon_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("revisionHistoryLimit", 10)
    _rolling(spec, "updateStrategy", {"maxSurge": 0, "maxUnavailable": 1})
    _template(spec)
    _fill(
        obj.setdefault("status", {}),
        {
            "currentNumberScheduled": 0,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 0,
            "numberReady": 0,
        },
    )


def _stateful_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _fill(
        spec,
        {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "podManagementPolicy": "OrderedReady",
            "serviceName": "",
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
        },
    )
    _rolling(spec, "updateStrategy", {"partition": 0})
    _template(spec)
    _fill(obj.setdefault("status", {}), {"replicas": 0, "availableReplicas": 0})


def _job(obj: Object) -> None:
    """Also the selector and the labels by which a job's pods are its own."""
    spec = obj.setdefault("spec", {})
    _fill(
        spec,
        {
            "parallelism": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "suspend": False,
            "podReplacementPolicy": "TerminatingOrFailed",
            "manualSelector": False,
        },
    )
    if "parallelism" in spec and spec["parallelism"] == 1:
        spec.setdefault("completions", 1)
    _template(spec)
    if not spec["manualSelector"]:
        metadata = obj["metadata"]
        own = {
            "batch.kubernetes.io/controller-uid": metadata["uid"],
            "batch.kubernetes.io/job-name": metadata.get("name", ""),
            "controller-uid": metadata["uid"],
            "job-name": metadata.get("name", ""),
        }
        spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(own)
        label = "batch.kubernetes.io/controller-uid"
        spec.setdefault("selector", {"matchLabels": {label: own[label]}})


def _namespace(obj: Object) -> None:
    metadata = obj["metadata"]
    if metadata.get("name"):
        metadata.setdefault("labels", {})[CONTROL_PLANE_NAME_LABEL] = metadata["name"]
    if "deletionTimestamp" not in metadata:
        obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
        obj.setdefault("status", {})["phase"] = "Active"


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress"] + (["Egress"] if spec.get("egress") else [])
    for rule in spec.get("ingress", []) + spec.get("egress", []):
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _endpoint_slice(obj: Object) -> None:
    for endpoint in obj.setdefault("endpoints", []):
        endpoint.setdefault("conditions", {})
    for port in obj.get("ports", ()):
        _fill(port, {"name": "", "protocol": "TCP"})


def _endpoints(obj: Object) -> None:
    for subset in obj.get("subsets", ()):
        for port in subset.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    for name, text in obj.pop("stringData", {}).items():
        obj.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _node(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if "podCIDR" in spec:
        spec.setdefault("podCIDRs", [spec["podCIDR"]])
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def _role_binding(obj: Object) -> None:
    for subject in obj.get("subjects", ()):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")
    reference = obj.get("roleRef")
    if reference is not None:
        reference.setdefault("apiGroup", "rbac.authorization.k8s.io")


def _claim(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _priority_class(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


_DEFAULTS: Mapping[Kind, Callable[[Object], None]] = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _deployment,
    kinds.REPLICA_SET: _replica_set,
    kinds.DAEMON_SET: _daemon_set,
    kinds.STATEFUL_SET: _stateful_set,
    kinds.JOB: _job,
    kinds.SERVICE: service_fields.fill_in,
    kinds.NAMESPACE: _namespace,
    kinds.NETWORK_POLICY: _network_policy,
    kinds.ENDPOINT_SLICE: _endpoint_slice,
    kinds.ENDPOINTS: _endpoints,
    kinds.SECRET: _secret,
    kinds.NODE: _node,
    kinds.ROLE_BINDING: _role_binding,
    kinds.CLUSTER_ROLE_BINDING: _role_binding,
    kinds.CLAIM: _claim,
    kinds.PRIORITY_CLASS: _priority_class,
}
