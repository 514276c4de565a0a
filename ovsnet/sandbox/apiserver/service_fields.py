"""Which fields of a Service go with its type, and what is made of an update that is silent.

A Service says by `type` which of its other fields mean anything. A server fills them in and takes
back what it filled in (strategy and storage of services in kube-apiserver).
"""

from __future__ import annotations

from typing import Any, Final

from ovsnet.sandbox.apiserver.kinds import Object

_EXPOSED: Final = ("NodePort", "LoadBalancer")
_BLANK: Final = (
    *("type", "clusterIP", "externalName", "loadBalancerIP", "sessionAffinity"),
    *("externalTrafficPolicy", "healthCheckNodePort", "publishNotReadyAddresses"),
)
"""Fields of a Service that say the same when they are empty as when they are absent."""


def has_addresses(spec: Object) -> bool:
    """Whether a service of this type has addresses of the cluster, or says that it has none."""
    kind: str = spec["type"]
    return kind != "ExternalName"


def may_have_node_ports(spec: Object) -> bool:
    """Whether ports of the nodes may lead to it."""
    return spec["type"] in _EXPOSED


def gets_node_ports(spec: Object) -> bool:
    """Whether it gets ports of the nodes without asking for them."""
    kind: str = spec["type"]
    return kind == "NodePort" or (
        kind == "LoadBalancer" and bool(spec.get("allocateLoadBalancerNodePorts", True))
    )


def reachable_from_outside(spec: Object) -> bool:
    """Whether an `externalTrafficPolicy` means anything."""
    kind: str = spec["type"]
    return kind in _EXPOSED or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Object) -> bool:
    """Whether its load balancer asks the nodes which of them have endpoints."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def is_headless(spec: Object) -> bool:
    """Whether it has no address on purpose."""
    return bool(spec.get("clusterIPs") == ["None"])


def fill_in(service: Object) -> None:
    """Fill in what a service is silent about, in place ("Defaults to" in the API reference)."""
    spec = service.setdefault("spec", {})
    for name in _BLANK:
        if not spec.get(name, True):
            del spec[name]
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports", ()):
        _fill_in_port(port)
    if spec["type"] == "ExternalName":
        spec.pop("internalTrafficPolicy", None)
    else:
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if reachable_from_outside(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    balancer = service.setdefault("status", {}).setdefault("loadBalancer", {})
    if spec["type"] == "LoadBalancer":
        for entry in balancer.get("ingress", ()):
            if entry.get("ip"):
                entry.setdefault("ipMode", "VIP")


def _fill_in_port(port: Object) -> None:
    for name in ("name", "protocol", "nodePort"):
        if not port.get(name, True):
            del port[name]
    port.setdefault("protocol", "TCP")
    if "port" in port and port.get("targetPort", 0) in (0, ""):
        port["targetPort"] = port["port"]


def complete(service: Object, old: Object | None) -> None:
    """Make a service's fields agree, in place, before they are looked at.

    `clusterIPs` follows `clusterIP` where a client knows that alone. An update that is silent
    about what was allocated keeps it. What the new type has no use for goes, unless the update
    itself asks for it, which is refused later.
    """
    spec = service["spec"]
    if old is not None:
        _keep_allocated(spec, old["spec"])
        _agree(spec, old["spec"])
        _give_up(spec, old["spec"])
        if spec["type"] != "LoadBalancer":
            service["status"] = service.get("status", {}) | {"loadBalancer": {}}
    elif "clusterIP" in spec:
        spec.setdefault("clusterIPs", [spec["clusterIP"]])


def _keep_allocated(spec: Object, old: Object) -> None:
    if has_addresses(spec) and has_addresses(old):
        for name in ("clusterIP", "clusterIPs"):
            if name in old:
                spec.setdefault(name, old[name])
    if gets_node_ports(spec) and gets_node_ports(old):
        before = {p.get("name", ""): p.get("nodePort") for p in old.get("ports", ())}
        used = set(before.values()) & {p.get("nodePort") for p in spec.get("ports", ())}
        for port in spec.get("ports", ()):
            kept = before.get(port.get("name", ""))
            if "nodePort" not in port and kept is not None and kept not in used:
                port["nodePort"] = kept
    if needs_health_check(spec) and needs_health_check(old):
        spec.setdefault("healthCheckNodePort", old["healthCheckNodePort"])


def _agree(spec: Object, old: Object) -> None:
    single, before = spec.get("clusterIP"), old.get("clusterIP")
    if single == before or spec.get("clusterIPs") != old.get("clusterIPs"):
        return
    if single is None:
        spec.pop("clusterIPs", None)
    else:
        spec["clusterIPs"] = [single]


def _give_up(spec: Object, old: Object) -> None:
    def unchanged(*names: str) -> bool:
        return all(spec.get(name) == old.get(name) for name in names)

    def drop_together(*names: str) -> None:
        if unchanged(*names):
            for name in names:
                spec.pop(name, None)

    if has_addresses(old) and not has_addresses(spec):
        drop_together("clusterIP", "clusterIPs")
        drop_together("ipFamilies")
        drop_together("ipFamilyPolicy")
    loses_node_ports = may_have_node_ports(old) and not may_have_node_ports(spec)
    if loses_node_ports and _node_ports(spec) <= _node_ports(old):
        for port in spec.get("ports", ()):
            port.pop("nodePort", None)
    if needs_health_check(old) and not needs_health_check(spec):
        drop_together("healthCheckNodePort")
    if old["type"] == "LoadBalancer" and spec["type"] != "LoadBalancer":
        drop_together("allocateLoadBalancerNodePorts")
        drop_together("loadBalancerClass")
    if reachable_from_outside(old) and not reachable_from_outside(spec):
        drop_together("externalTrafficPolicy")


def _node_ports(spec: Object) -> set[Any]:
    return {port["nodePort"] for port in spec.get("ports", ()) if "nodePort" in port}
