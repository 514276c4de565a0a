"""Services (core/v1).

What cannot be understood is left out: an address, a port, a range. Where something must be put in
the place of a word that is not known, it is what sends packets to the fewest endpoints and hides
nobody's address: no address at all for an unknown type, the policy Local for an unknown policy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from ovsnet import model
from ovsnet.api.cidr import cidr
from ovsnet.api.destination import FAMILIES, destinations, each_once
from ovsnet.api.members import PROTOCOLS, one_of
from ovsnet.api.objects import Converted, Kind, Metadata, Problem, missing, one_of_each_family
from ovsnet.model import Fault, IPAddress, IPNetwork, Protocol, ServicePort, ServiceRef

_FOREIGN: Final = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
"""Labels of what another program answers for, or nobody (kube-proxy does not watch them)."""


class WireServicePort(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ServicePort that is needed."""

    port: int = 0
    name: str = ""
    protocol: str = ""
    node_port: int = 0


class WireClientIP(msgspec.Struct, frozen=True, rename="camel"):
    """How long a client keeps its endpoint (ClientIPConfig)."""

    timeout_seconds: int | None = None


class WireAffinity(msgspec.Struct, frozen=True):
    """The settings of session affinity (SessionAffinityConfig)."""

    client_ip: WireClientIP | None = msgspec.field(default=None, name="clientIP")


class WireServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ServiceSpec that is needed."""

    type: str = ""
    ports: list[WireServicePort] | None = None
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")
    ip_families: list[str] | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str = ""
    session_affinity: str = ""
    session_affinity_config: WireAffinity | None = None
    load_balancer_source_ranges: list[str] | None = None
    health_check_node_port: int = 0


class WireIngress(msgspec.Struct, frozen=True, rename="camel"):
    """Where a load balancer listens (LoadBalancerIngress); it may have a hostname alone."""

    ip: str = ""
    ip_mode: str | None = None


class WireLoadBalancer(msgspec.Struct, frozen=True):
    """The state of a load balancer (LoadBalancerStatus)."""

    ingress: list[WireIngress] | None = None


class WireServiceStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ServiceStatus that is needed."""

    load_balancer: WireLoadBalancer = WireLoadBalancer()


class WireService(msgspec.Struct, frozen=True):
    """A Service as the API has it."""

    metadata: Metadata
    spec: WireServiceSpec = WireServiceSpec()
    status: WireServiceStatus = WireServiceStatus()


class _Type(StrEnum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"


_TYPES: Final = {str(kind): kind for kind in _Type}
_LOCAL: Final = {"Cluster": False, "Local": True}
_AFFINE: Final = {"None": False, "ClientIP": True}
_DIRECT: Final = {"VIP": True, "Proxy": False}
_AFFINITY_DEFAULT: Final = 10800
_AFFINITY_MOST: Final = 86400


def foreign(metadata: Metadata) -> bool:
    """Whether a Service or an EndpointSlice is, by its labels, another program's business."""
    labels = metadata.labels
    return labels is not None and any(label in labels for label in _FOREIGN)


def service(wire: WireService) -> Converted[model.Service]:
    """The model's value of a Service; none of one that is another program's.

    Without an address of the cluster, or of type ExternalName, it has no address at all, and no
    port either.
    """
    metadata = wire.metadata
    problem = missing(namespace=metadata.namespace, name=metadata.name)
    if problem is not None:
        return Converted(None, (problem,))
    if foreign(metadata):
        return Converted(None)
    spec = wire.spec
    faults: list[Fault] = []
    kind = _type(spec, faults)
    texts = _cluster_texts(spec)
    if kind is None or kind is _Type.EXTERNAL_NAME or not texts:
        bare = model.Service(
            namespace=metadata.namespace,
            name=metadata.name,
            uid=metadata.uid,
            created=metadata.creation_timestamp,
            faults=tuple(faults),
        )
        return Converted(bare)
    families = _families(spec, faults)
    addresses = _cluster_addresses(texts, families, faults)
    families = families or tuple(address.version for address in addresses)
    balanced = kind is _Type.LOAD_BALANCER
    exposed = balanced or kind is _Type.NODE_PORT
    reachable = exposed or bool(spec.external_ips)
    policy = spec.external_traffic_policy
    local = reachable and _local(policy, "spec.externalTrafficPolicy", faults)
    value = model.Service(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        created=metadata.creation_timestamp,
        addresses=addresses,
        external=_external(spec, families, faults),
        load_balancer=_load_balancer(wire.status, families, faults) if balanced else (),
        ports=_ports(spec, exposed, faults),
        families=families,
        internal_local=_local(spec.internal_traffic_policy, "spec.internalTrafficPolicy", faults),
        external_local=local,
        affinity=_affinity(spec, faults),
        sources=_sources(spec, faults) if balanced else None,
        health_check=_health_check(spec, faults) if balanced and local else 0,
        faults=tuple(faults),
    )
    return Converted(value)


def _type(spec: WireServiceSpec, faults: list[Fault]) -> _Type | None:
    if not spec.type:
        return _Type.CLUSTER_IP
    return one_of(spec.type, _TYPES, "spec.type", faults, "it gets no address")


def _cluster_texts(spec: WireServiceSpec) -> list[tuple[str, str]]:
    """The service's addresses of the cluster, each with its field; none if it is headless."""
    texts = [(f"spec.clusterIPs[{i}]", text) for i, text in enumerate(spec.cluster_ips or ())]
    if not texts and spec.cluster_ip:
        texts = [("spec.clusterIP", spec.cluster_ip)]
    return [] if any(text == "None" for _, text in texts) else texts


def _families(spec: WireServiceSpec, faults: list[Fault]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for i, text in enumerate(spec.ip_families or ()):
        family = one_of(text, FAMILIES, f"spec.ipFamilies[{i}]", faults, "it is left out")
        if family is not None:
            found[family] = None
    return tuple(found)


def _cluster_addresses(
    texts: list[tuple[str, str]], families: tuple[int, ...], faults: list[Fault]
) -> tuple[IPAddress, ...]:
    problems: list[Problem] = []
    addresses = one_of_each_family(destinations(texts, families, faults), problems)
    faults.extend(Fault(problem.field, problem.reason) for problem in problems)
    return addresses


def _external(
    spec: WireServiceSpec, families: tuple[int, ...], faults: list[Fault]
) -> tuple[IPAddress, ...]:
    texts = [(f"spec.externalIPs[{i}]", text) for i, text in enumerate(spec.external_ips or ())]
    return each_once(destinations(texts, families, faults))


def _load_balancer(
    status: WireServiceStatus, families: tuple[int, ...], faults: list[Fault]
) -> tuple[IPAddress, ...]:
    """The addresses at which the load balancer hands on packets that are still addressed to it.

    It may well take connections of a family that the service does not have; it is then no business
    of the switches, as where it has no address but a hostname.
    """
    texts: list[tuple[str, str]] = []
    for i, ingress in enumerate(status.load_balancer.ingress or ()):
        if not ingress.ip:
            continue
        path = f"status.loadBalancer.ingress[{i}]"
        mode = ingress.ip_mode or "VIP"
        if one_of(mode, _DIRECT, f"{path}.ipMode", faults, "taken as Proxy"):
            texts.append((f"{path}.ip", ingress.ip))
    found = destinations(texts, (), faults)
    return each_once([(field, value) for field, value in found if value.version in families])


def _ports(spec: WireServiceSpec, exposed: bool, faults: list[Fault]) -> tuple[ServicePort, ...]:
    """The ports, those of nodes only where the service is `exposed` by them."""
    found: dict[tuple[Protocol, int], ServicePort] = {}
    taken: set[tuple[Protocol, int]] = set()
    for i, wire in enumerate(spec.ports or ()):
        path = f"spec.ports[{i}]"
        text = wire.protocol or "TCP"
        protocol = one_of(text, PROTOCOLS, f"{path}.protocol", faults, "the port is left out")
        if protocol is None:
            continue
        if not 0 < wire.port < 65536:
            reason = f"{wire.port}: expected a port from 1 to 65535; it is left out"
            faults.append(Fault(f"{path}.port", reason))
        elif (protocol, wire.port) in found:
            reason = f"{protocol} {wire.port}: expected each port once; the first one is used"
            faults.append(Fault(f"{path}.port", reason))
        else:
            node_port = wire.node_port if exposed else 0
            if (protocol, node_port) in taken:
                reason = f"{protocol} {node_port}: expected each port once; the first one is used"
                faults.append(Fault(f"{path}.nodePort", reason))
                node_port = 0
            node_port = _node_port(node_port, f"{path}.nodePort", faults)
            if node_port:
                taken.add((protocol, node_port))
            port = ServicePort(wire.name, protocol, wire.port, node_port)
            found[protocol, wire.port] = port
    return tuple(found.values())


def _node_port(number: int, path: str, faults: list[Fault]) -> int:
    """A port of the nodes, 0 if there is none. Which ones there are is the controller's option."""
    if 0 <= number < 65536:
        return number
    reason = f"{number}: expected a port from 1 to 65535; it is left out"
    faults.append(Fault(path, reason))
    return 0


def _local(text: str | None, field: str, faults: list[Fault]) -> bool:
    """Whether a traffic policy is "Local"."""
    return one_of(text or "Cluster", _LOCAL, field, faults, "taken as Local") is not False


def _affinity(spec: WireServiceSpec, faults: list[Fault]) -> int:
    """Seconds for which a client keeps its endpoint after its last packet; 0: it does not."""
    text = spec.session_affinity or "None"
    if not one_of(text, _AFFINE, "spec.sessionAffinity", faults, "taken as None"):
        return 0
    config = spec.session_affinity_config
    client = config.client_ip if config is not None else None
    seconds = client.timeout_seconds if client is not None else None
    if seconds is None:
        return _AFFINITY_DEFAULT
    if 0 < seconds <= _AFFINITY_MOST:
        return seconds
    expected = f"expected 1 to {_AFFINITY_MOST} seconds; {_AFFINITY_DEFAULT} are used"
    path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    faults.append(Fault(path, f"{seconds}: {expected}"))
    return _AFFINITY_DEFAULT


def _sources(spec: WireServiceSpec, faults: list[Fault]) -> tuple[IPNetwork, ...] | None:
    """Who may reach the load balancer's addresses; None: everybody. The API lets spaces pass."""
    texts = spec.load_balancer_source_ranges
    if not texts:
        return None
    path = "spec.loadBalancerSourceRanges"
    found = [cidr(text.strip(), f"{path}[{i}]", faults) for i, text in enumerate(texts)]
    return tuple(dict.fromkeys(network for network in found if network is not None))


def _health_check(spec: WireServiceSpec, faults: list[Fault]) -> int:
    return _node_port(spec.health_check_node_port, "spec.healthCheckNodePort", faults)


def _key(metadata: Metadata) -> ServiceRef:
    return ServiceRef(metadata.namespace, metadata.name)


SERVICE = Kind("Service", "/api/v1/services", WireService, service, _key)
