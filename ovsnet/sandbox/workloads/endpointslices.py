"""EndpointSlices of a Service, from the pods that it selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from itertools import count
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
Group = tuple[str, Ports]


def _resolve(port: Object, pod: Pod) -> int | None:
    """The number of the pod's port that a service's port leads to."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target or port["port"]
    protocol = port.get("protocol", "TCP")
    found = (p.container_port for p in pod.ports if (p.name, p.protocol) == (target, protocol))
    return next(found, None)


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


def _endpoint(service: Object, pod: Pod, address: str, zone: str) -> Object:
    metadata = pod.metadata
    spec = service["spec"]
    ready = spec.get("publishNotReadyAddresses", False) or (pod.ready and not pod.terminating)
    endpoint: Object = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": pod.ready, "terminating": pod.terminating},
        "nodeName": pod.spec.node_name,
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
        },
    }
    if zone:
        endpoint["zone"] = zone
    hints = _hints(spec.get("trafficDistribution"), pod.spec.node_name, zone) if ready else {}
    if hints:
        endpoint["hints"] = hints
    if pod.spec.hostname and pod.spec.subdomain == service["metadata"]["name"]:
        endpoint["hostname"] = pod.spec.hostname
    return endpoint


def _hints(distribution: str | None, node: str, zone: str) -> Object:
    """Whose traffic is meant for an endpoint (ServiceSpec, `trafficDistribution`)."""
    hints: Object = {}
    if distribution is not None and zone:
        hints["forZones"] = [{"name": zone}]
    if distribution == "PreferSameNode":
        hints["forNodes"] = [{"name": node}]
    return hints


def _groups(
    service: Object, pods: Sequence[Pod], zones: Mapping[str, str]
) -> Mapping[Group, list[Object]]:
    """Endpoints by family and resolved ports: what can share a slice.

    A pod of a node that is not there is none, unless the service wants all that may come to be.
    """
    spec = service["spec"]
    always = spec.get("publishNotReadyAddresses", False)
    families = spec.get("ipFamilies", [])
    groups: dict[Group, list[Object]] = {}
    for pod in sorted(pods, key=lambda p: p.metadata.name):
        node = pod.spec.node_name
        if pod.finished or not node or (node not in zones and not always):
            continue
        for address in pod.status.pod_ips:
            family = f"IPv{ip_address(address.ip).version}"
            if family in families:
                endpoint = _endpoint(service, pod, address.ip, zones.get(node, ""))
                groups.setdefault((family, _ports(service, pod)), []).append(endpoint)
    return groups


def _labels(service: Object) -> dict[str, str]:
    metadata = service["metadata"]
    reserved = (HEADLESS, MANAGED_BY, SERVICE_LABEL)
    labels = {k: v for k, v in metadata.get("labels", {}).items() if k not in reserved}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return labels | {SERVICE_LABEL: metadata["name"], MANAGED_BY: MANAGER}


class _Layout:
    """Which endpoints a service's slices are to hold.

    An endpoint stays in the slice that it is in while its ports stay, so that it is always seen in
    one: only new ones look for room. A slice that is left without endpoints is used for others
    before it goes.
    """

    def __init__(self, present: Sequence[Object]) -> None:
        self.kept: list[tuple[Object, Ports, list[Object]]] = []
        self.fresh: list[tuple[str, Ports, list[Object]]] = []
        self._spare: dict[str, list[Object]] = {}
        self._present: dict[Group, list[Object]] = {}
        for old in sorted(present, key=lambda s: s["metadata"]["name"]):
            ports = tuple(tuple(sorted(port.items())) for port in old.get("ports", ()))
            self._present.setdefault((old["addressType"], ports), []).append(old)

    def arrange(self, groups: Mapping[Group, list[Object]], families: Sequence[str]) -> None:
        """Give every endpoint a slice, and every family one at least: its clients know that much
        of a service without endpoints.
        """
        for (family, ports), endpoints in groups.items():
            self._arrange_group(family, ports, endpoints)
        for (family, _), slices in self._present.items():
            self._spare.setdefault(family, []).extend(slices)
        used = {old["addressType"] for old, _, _ in self.kept} | {new[0] for new in self.fresh}
        self.fresh += [(family, (), []) for family in families if family not in used]
        fresh, self.fresh = self.fresh, []
        for family, ports, endpoints in fresh:
            spare = self._spare.get(family)
            if spare:
                self.kept.append((spare.pop(0), ports, endpoints))
            else:
                self.fresh.append((family, ports, endpoints))

    def _arrange_group(self, family: str, ports: Ports, endpoints: list[Object]) -> None:
        rest = {_identity(endpoint): endpoint for endpoint in endpoints}
        held = [
            (old, [rest.pop(i) for i in map(_identity, old.get("endpoints", ())) if i in rest])
            for old in self._present.pop((family, ports), ())
        ]
        new = list(rest.values())
        for old, kept in held:
            room = MOST_ENDPOINTS - len(kept)
            kept.extend(new[:room])
            del new[:room]
            if kept:
                self.kept.append((old, ports, kept))
            else:
                self._spare.setdefault(family, []).append(old)
        for start in range(0, len(new), MOST_ENDPOINTS):
            self.fresh.append((family, ports, new[start : start + MOST_ENDPOINTS]))

    @property
    def spare(self) -> list[Object]:
        """Slices for which there is no use."""
        return [old for slices in self._spare.values() for old in slices]


def _identity(endpoint: Object) -> tuple[str, str]:
    return endpoint.get("targetRef", {}).get("uid", ""), endpoint["addresses"][0]


def _new_slice(
    service: Object, family: str, ports: Ports, endpoints: list[Object], taken: set[str]
) -> Object:
    """A slice with a name that is not `taken`, and then is."""
    metadata = service["metadata"]
    names = (
        f"{metadata['name']}-{template_hash([metadata['uid'], family, ports, number])[:5]}"
        for number in count()
    )
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": _labels(service),
            "ownerReferences": [owner_reference(SERVICE, service)],
        },
        "addressType": family,
        "ports": [dict(port) for port in ports],
        "endpoints": endpoints,
    }


def _changes(service: Object, old: Object, ports: Ports, endpoints: list[Object]) -> list[Action]:
    """What brings a slice to these contents; nothing if it has them."""
    metadata = old["metadata"]
    labels, before = _labels(service), metadata.get("labels", {})
    wanted: Object = {"ports": [dict(port) for port in ports], "endpoints": endpoints}
    if labels == before and all(old.get(name, []) == value for name, value in wanted.items()):
        return []
    gone = dict.fromkeys(before.keys() - labels.keys())
    patch = wanted | {"metadata": {"labels": labels | gone}}
    return [Patch(ENDPOINT_SLICE, (metadata["namespace"], metadata["name"]), patch)]


def _delete(old: Object) -> Action:
    metadata = old["metadata"]
    return Delete(ENDPOINT_SLICE, (metadata["namespace"], metadata["name"]), metadata["uid"])


def selected(service: Object, pods: Sequence[Pod]) -> list[Pod]:
    """The pods that a service selects."""
    selector = from_label_selector({"matchLabels": service["spec"].get("selector", {})})
    return [pod for pod in pods if selector != EVERYTHING and selector.matches(pod.metadata.labels)]


def plan(
    service: Object, pods: Sequence[Pod], present: Sequence[Object], zones: Mapping[str, str]
) -> list[Action]:
    """What brings the slices of a service to what its pods make.

    `zones` has the zone of every node that there is. New slices come first and superfluous ones go
    last, so that no endpoint is missing in between.
    """
    spec = service["spec"]
    if "deletionTimestamp" in service["metadata"]:
        return []
    if not spec.get("selector") or spec["type"] == "ExternalName":
        return [_delete(old) for old in present]
    layout = _Layout(present)
    groups = _groups(service, selected(service, pods), zones)
    layout.arrange(groups, spec.get("ipFamilies", []))
    taken = {old["metadata"]["name"] for old in present}
    namespace = service["metadata"]["namespace"]
    actions: list[Action] = [
        Create(ENDPOINT_SLICE, namespace, _new_slice(service, family, ports, endpoints, taken))
        for family, ports, endpoints in layout.fresh
    ]
    for old, ports, endpoints in layout.kept:
        actions += _changes(service, old, ports, endpoints)
    return actions + [_delete(old) for old in layout.spare]
