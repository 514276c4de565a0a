"""EndpointSlices of a Service, from the pods that it selects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from ovsnet.sandbox.apiserver.kinds import ENDPOINT_SLICE, SERVICE, Object
from ovsnet.sandbox.apiserver.selectors import EVERYTHING, from_label_selector
from ovsnet.sandbox.workloads.actions import (
    Action,
    Create,
    Delete,
    Patch,
    owner_reference,
    template_hash,
)
from ovsnet.sandbox.workloads.objects import Pod

MANAGER = "endpointslice-controller.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
MOST_ENDPOINTS = 100
"""Endpoints in one slice (kube-controller-manager's max-endpoints-per-slice)."""

Ports = tuple[tuple[tuple[str, Any], ...], ...]


def _resolve(port: Object, pod: Pod) -> int | None:
    """The number of the pod's port that a service's port leads to."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target or port["port"]
    for container in pod.spec.containers:
        for declared in container.ports:
            if declared.name == target and declared.protocol == port.get("protocol", "TCP"):
                return declared.container_port
    return None


def _ports(service: Object, pod: Pod) -> Ports:
    resolved = []
    for port in service["spec"].get("ports", ()):
        number = _resolve(port, pod)
        if number is not None:
            entry = {
                "name": port.get("name", ""),
                "port": number,
                "protocol": port.get("protocol", "TCP"),
            }
            if port.get("appProtocol"):
                entry["appProtocol"] = port["appProtocol"]
            resolved.append(tuple(sorted(entry.items())))
    return tuple(resolved)


def _endpoint(service: Object, pod: Pod, address: str) -> Object:
    metadata = pod.metadata
    always = service["spec"].get("publishNotReadyAddresses", False)
    endpoint: Object = {
        "addresses": [address],
        "conditions": {
            "ready": always or (pod.ready and not pod.terminating),
            "serving": pod.ready,
            "terminating": pod.terminating,
        },
        "nodeName": pod.spec.node_name,
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
        },
    }
    in_domain = pod.spec.subdomain == service["metadata"]["name"]
    if pod.spec.hostname and in_domain:
        endpoint["hostname"] = pod.spec.hostname
    return endpoint


def _groups(service: Object, pods: Sequence[Pod]) -> Mapping[tuple[str, Ports], list[Object]]:
    """Endpoints by family and resolved ports: what can share a slice."""
    families = service["spec"].get("ipFamilies", [])
    groups: dict[tuple[str, Ports], list[Object]] = {}
    for pod in sorted(pods, key=lambda p: p.metadata.name):
        if pod.finished or not pod.spec.node_name:
            continue
        for address in pod.status.pod_ips:
            family = f"IPv{ip_address(address.ip).version}"
            if family in families:
                endpoint = _endpoint(service, pod, address.ip)
                groups.setdefault((family, _ports(service, pod)), []).append(endpoint)
    for family in families:
        # A service without endpoints has an empty slice, so that its clients know that much.
        if not any(group[0] == family for group in groups):
            groups[family, ()] = []
    return groups


def slices(service: Object, pods: Sequence[Pod]) -> Iterator[Object]:
    """The slices that a service's pods make; their names follow from their contents' kind."""
    metadata = service["metadata"]
    labels = {
        k: v for k, v in metadata.get("labels", {}).items() if k not in (HEADLESS, MANAGED_BY)
    }
    labels |= {SERVICE_LABEL: metadata["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    for (family, ports), endpoints in _groups(service, pods).items():
        for start in range(0, max(len(endpoints), 1), MOST_ENDPOINTS):
            digest = template_hash([metadata["uid"], family, ports, start])[:5]
            yield {
                "apiVersion": ENDPOINT_SLICE.api_version,
                "kind": ENDPOINT_SLICE.kind,
                "metadata": {
                    "name": f"{metadata['name']}-{digest}",
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "ownerReferences": [owner_reference(SERVICE, service)],
                },
                "addressType": family,
                "ports": [dict(port) for port in ports],
                "endpoints": endpoints[start : start + MOST_ENDPOINTS],
            }


def selected(service: Object, pods: Sequence[Pod]) -> list[Pod]:
    """The pods that a service selects."""
    selector = from_label_selector({"matchLabels": service["spec"].get("selector", {})})
    return [pod for pod in pods if selector != EVERYTHING and selector.matches(pod.metadata.labels)]


def plan(service: Object, pods: Sequence[Pod], present: Sequence[Object]) -> list[Action]:
    """What brings the slices of a service to what its pods make."""
    spec = service["spec"]
    if "deletionTimestamp" in service["metadata"]:
        return []
    managed = spec.get("selector") and spec["type"] != "ExternalName"
    wanted = {s["metadata"]["name"]: s for s in slices(service, selected(service, pods))}
    if not managed:
        wanted = {}
    actions: list[Action] = []
    namespace = service["metadata"]["namespace"]
    for old in present:
        name = old["metadata"]["name"]
        new = wanted.pop(name, None)
        if new is None:
            actions.append(Delete(ENDPOINT_SLICE, (namespace, name), old["metadata"]["uid"]))
            continue
        fields = ("ports", "endpoints")
        same = all(new[f] == old.get(f, []) for f in fields)
        if not same or new["metadata"]["labels"] != old["metadata"].get("labels"):
            patch = {f: new[f] for f in fields} | {
                "metadata": {"labels": new["metadata"]["labels"]}
            }
            actions.append(Patch(ENDPOINT_SLICE, (namespace, name), patch))
    return actions + [Create(ENDPOINT_SLICE, namespace, new) for new in wanted.values()]
