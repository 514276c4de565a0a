"""Services and EndpointSlices as the API has them, from the model's values: the way back of
`ovsnet.api`.
"""

from __future__ import annotations

from ovsnet.model import EndpointSlice, Service, ServicePort, SliceEndpoint, SlicePort

_FAMILIES = {4: "IPv4", 6: "IPv6"}
_POLICIES = ("Cluster", "Local")


def wire_service(service: Service, **metadata: object) -> dict[str, object]:
    """The object that the API server has of a service without faults, which has an address."""
    found: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": service.namespace,
            "name": service.name,
            "uid": service.uid,
            "creationTimestamp": service.created,
            **metadata,
        },
        "spec": wire_service_spec(service),
    }
    if service.load_balancer:
        ingress = [{"ip": str(a), "ipMode": "VIP"} for a in service.load_balancer]
        found["status"] = {"loadBalancer": {"ingress": ingress}}
    return found


def wire_service_spec(service: Service) -> dict[str, object]:
    """The `spec` of a service; its type is the simplest that has all that the service has."""
    spec: dict[str, object] = {
        "type": _type(service),
        "clusterIP": str(service.addresses[0]),
        "clusterIPs": [str(address) for address in service.addresses],
        "ipFamilies": [_FAMILIES[family] for family in service.families],
        "internalTrafficPolicy": _POLICIES[service.internal_local],
        "sessionAffinity": "ClientIP" if service.affinity else "None",
        "ports": [_service_port(port) for port in service.ports],
    }
    if spec["type"] != "ClusterIP" or service.external:
        spec["externalTrafficPolicy"] = _POLICIES[service.external_local]
    if service.external:
        spec["externalIPs"] = [str(address) for address in service.external]
    if service.affinity:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": service.affinity}}
    if service.sources is not None:
        spec["loadBalancerSourceRanges"] = [str(network) for network in service.sources]
    if service.health_check:
        spec["healthCheckNodePort"] = service.health_check
    return spec


def _type(service: Service) -> str:
    if service.load_balancer or service.sources is not None or service.health_check:
        return "LoadBalancer"
    return "NodePort" if any(port.node_port for port in service.ports) else "ClusterIP"


def _service_port(port: ServicePort) -> dict[str, object]:
    found: dict[str, object] = {"protocol": str(port.protocol), "port": port.port}
    if port.name:
        found["name"] = port.name
    if port.node_port:
        found["nodePort"] = port.node_port
    return found


def wire_slice(slice_: EndpointSlice, family: int = 4, **metadata: object) -> dict[str, object]:
    """The object that the API server has of a slice without faults, of this family."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": slice_.namespace,
            "name": slice_.name,
            "uid": slice_.uid,
            "labels": {"kubernetes.io/service-name": slice_.service},
            **metadata,
        },
        "addressType": _FAMILIES[family],
        "endpoints": [_endpoint(endpoint) for endpoint in slice_.endpoints],
        "ports": [_slice_port(port) for port in slice_.ports],
    }


def _slice_port(port: SlicePort) -> dict[str, object]:
    return {"name": port.name, "protocol": str(port.protocol), "port": port.port}


def _endpoint(endpoint: SliceEndpoint) -> dict[str, object]:
    found: dict[str, object] = {
        "addresses": [str(endpoint.address)],
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
    }
    if endpoint.node:
        found["nodeName"] = endpoint.node
    hints = {
        name: [{"name": text} for text in texts]
        for name, texts in (("forZones", endpoint.zones), ("forNodes", endpoint.nodes))
        if texts
    }
    if hints:
        found["hints"] = hints
    if endpoint.pod is not None:
        namespace, name = endpoint.pod
        found["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": name}
    return found
