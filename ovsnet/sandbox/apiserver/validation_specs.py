"""What the specs of the kinds must be: containers, ports, selectors, addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from ovsnet.sandbox.apiserver import kinds
from ovsnet.sandbox.apiserver.causes import duplicate, required, wrong
from ovsnet.sandbox.apiserver.kinds import Kind, Object
from ovsnet.sandbox.apiserver.selectors import from_label_selector
from ovsnet.sandbox.apiserver.status import Cause
from ovsnet.sandbox.apiserver.validation_fields import (
    PROTOCOLS,
    label_selector,
    network,
    one_of,
    port_number,
)
from ovsnet.sandbox.apiserver.validation_policy import network_policy
from ovsnet.sandbox.apiserver.validation_service import service
from ovsnet.sandbox.apiserver.validation_slice import endpoint_slice

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def _container(container: Object, field: str) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{field}.name")
    elif not _LABEL.fullmatch(name):
        yield wrong(f"{field}.name", name, "a lowercase RFC 1123 label is expected")
    if not container.get("image"):
        yield required(f"{field}.image")
    names = [p["name"] for p in container.get("ports", ()) if p.get("name")]
    for index, port in enumerate(container.get("ports", ())):
        here = f"{field}.ports[{index}]"
        if "containerPort" not in port:
            yield required(f"{here}.containerPort")
        yield from port_number(f"{here}.containerPort", port.get("containerPort"))
        if port.get("hostPort"):
            yield from port_number(f"{here}.hostPort", port["hostPort"])
        yield from one_of(f"{here}.protocol", port.get("protocol"), PROTOCOLS)
        if port.get("name") and names.count(port["name"]) > 1:
            yield duplicate(f"{here}.name", port["name"])
    yield from one_of(
        f"{field}.imagePullPolicy",
        container.get("imagePullPolicy"),
        ("Always", "IfNotPresent", "Never"),
    )


def _pod_spec(spec: Object, field: str) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{field}.containers")
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group, ())):
            here = f"{field}.{group}[{index}]"
            yield from _container(container, here)
            if container.get("name") in seen:
                yield duplicate(f"{here}.name", container["name"])
            seen.add(container.get("name", ""))
            volumes = {volume.get("name") for volume in spec.get("volumes", ())}
            for position, mount in enumerate(container.get("volumeMounts", ())):
                if mount.get("name") not in volumes:
                    place = f"{here}.volumeMounts[{position}].name"
                    yield Cause("FieldValueNotFound", f'Not found: "{mount.get("name")}"', place)
    yield from one_of(
        f"{field}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never")
    )
    yield from one_of(
        f"{field}.dnsPolicy",
        spec.get("dnsPolicy"),
        ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    )
    grace = spec.get("terminationGracePeriodSeconds", 0)
    if grace < 0:
        yield wrong(f"{field}.terminationGracePeriodSeconds", grace, "must be zero or more")


def _workload(obj: Object, restart: tuple[str, ...] = ("Always",)) -> Iterator[Cause]:
    spec = obj["spec"]
    template = spec.get("template", {})
    if "selector" not in spec:
        yield required("spec.selector")
    else:
        problems = list(label_selector(spec["selector"], "spec.selector"))
        yield from problems
        labels = template.get("metadata", {}).get("labels", {})
        if not spec["selector"]:
            yield wrong("spec.selector", "{}", "empty selector is invalid")
        elif not problems and not from_label_selector(spec["selector"]).matches(labels):
            text = "`selector` does not match template `labels`"
            yield wrong("spec.template.metadata.labels", labels, text)
    for name in ("replicas", "parallelism", "completions", "minReadySeconds"):
        if spec.get(name, 0) < 0:
            yield wrong(f"spec.{name}", spec[name], "must be greater than or equal to 0")
    yield from _pod_spec(template.get("spec", {}), "spec.template.spec")
    policy = template.get("spec", {}).get("restartPolicy")
    yield from one_of("spec.template.spec.restartPolicy", policy, restart)


def _job(obj: Object) -> Iterator[Cause]:
    yield from _workload(obj, restart=("Never", "OnFailure"))


def _data(obj: Object) -> Iterator[Cause]:
    for field in ("data", "stringData", "binaryData"):
        for key in obj.get(field, {}):
            if not _CONFIG_KEY.fullmatch(key) or key in (".", ".."):
                message = "a valid config key consists of alphanumeric characters, '-', '_' or '.'"
                yield wrong(f"{field}[{key}]", key, message)


def _lease(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec", {})
    if spec.get("leaseDurationSeconds", 1) <= 0:
        yield wrong(
            "spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0"
        )
    if spec.get("leaseTransitions", 0) < 0:
        yield wrong("spec.leaseTransitions", spec["leaseTransitions"], "must be 0 or more")


def _node(obj: Object) -> Iterator[Cause]:
    for index, text in enumerate(obj.get("spec", {}).get("podCIDRs", ())):
        yield from network(f"spec.podCIDRs[{index}]", text)


def _event(obj: Object) -> Iterator[Cause]:
    namespace = obj.get("involvedObject", {}).get("namespace", "")
    if namespace and namespace != obj["metadata"]["namespace"]:
        yield wrong("involvedObject.namespace", namespace, "does not match event.namespace")


def _role_binding(obj: Object) -> Iterator[Cause]:
    if not obj.get("roleRef", {}).get("name"):
        yield required("roleRef.name")


def _listed(rule: Callable[[Object], Iterator[Cause]]) -> Callable[[Object], list[Cause]]:
    return lambda obj: list(rule(obj))


def _role(obj: Object) -> Iterator[Cause]:
    """The rules of a Role or ClusterRole."""
    for index, rule in enumerate(obj.get("rules", ())):
        here = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{here}.verbs", "verbs must contain at least one value")
        paths, resources = rule.get("nonResourceURLs"), rule.get("resources")
        if paths:
            if obj["kind"] == "Role":
                yield wrong(
                    f"{here}.nonResourceURLs",
                    paths,
                    "namespaced rules cannot apply to non-resource URLs",
                )
            if rule.get("apiGroups") or resources or rule.get("resourceNames"):
                yield wrong(
                    f"{here}.nonResourceURLs",
                    paths,
                    "rules cannot apply to both regular resources and non-resource URLs",
                )
            continue
        if not rule.get("apiGroups"):
            message = "resource rules must supply at least one api group"
            yield required(f"{here}.apiGroups", message)
        if not resources:
            yield required(f"{here}.resources", "resource rules must supply at least one resource")


SPEC_RULES: Mapping[Kind, Callable[[Object], list[Cause]]] = {
    kinds.POD: lambda obj: list(_pod_spec(obj["spec"], "spec")),
    kinds.DEPLOYMENT: _listed(_workload),
    kinds.REPLICA_SET: _listed(_workload),
    kinds.DAEMON_SET: _listed(_workload),
    kinds.STATEFUL_SET: _listed(_workload),
    kinds.JOB: _listed(_job),
    kinds.SERVICE: _listed(service),
    kinds.NETWORK_POLICY: _listed(network_policy),
    kinds.ENDPOINT_SLICE: _listed(endpoint_slice),
    kinds.CONFIG_MAP: _listed(_data),
    kinds.SECRET: _listed(_data),
    kinds.LEASE: _listed(_lease),
    kinds.NODE: _listed(_node),
    kinds.EVENT: _listed(_event),
    kinds.ROLE: _listed(_role),
    kinds.CLUSTER_ROLE: _listed(_role),
    kinds.ROLE_BINDING: _listed(_role_binding),
    kinds.CLUSTER_ROLE_BINDING: _listed(_role_binding),
}
"""By kind, what lists the causes for which an object is refused."""
