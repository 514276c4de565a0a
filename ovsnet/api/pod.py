"""Pods (core/v1)."""

from __future__ import annotations

import msgspec

from ovsnet import model
from ovsnet.api.objects import (
    Converted,
    Kind,
    Metadata,
    Problem,
    address,
    labels_of,
    missing,
)


class WireAnnotations(msgspec.Struct, frozen=True):
    """What kubelet writes on its copy of a static pod in the API, its mirror pod."""

    mirror: str = msgspec.field(default="", name="kubernetes.io/config.mirror")
    config_hash: str = msgspec.field(default="", name="kubernetes.io/config.hash")


class WirePodMetadata(Metadata, frozen=True, rename="camel"):
    """A pod's metadata with the annotations that are needed."""

    annotations: WireAnnotations | None = None


class WirePort(msgspec.Struct, frozen=True, rename="camel"):
    """A declared port of a container."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class WireContainer(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a container that is needed."""

    ports: list[WirePort] | None = None
    restart_policy: str = ""


class WirePodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The part of PodSpec that is needed."""

    node_name: str = ""
    host_network: bool = False
    containers: list[WireContainer] | None = None
    init_containers: list[WireContainer] | None = None


class WirePodIP(msgspec.Struct, frozen=True):
    """One of a pod's addresses."""

    ip: str = ""


class WirePodStatus(msgspec.Struct, frozen=True):
    """The part of PodStatus that is needed."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[WirePodIP] | None = msgspec.field(default=None, name="podIPs")


class WirePod(msgspec.Struct, frozen=True):
    """A Pod as the API has it."""

    metadata: WirePodMetadata
    spec: WirePodSpec = WirePodSpec()
    status: WirePodStatus = WirePodStatus()


_PHASES = {str(phase): phase for phase in model.Phase}


def pod(wire: WirePod) -> Converted[model.Pod]:
    """The model's value of a Pod; none without a namespace and a uid, which its port is named by.

    Its ports are those of its containers and of its sidecars (init containers that go on running).
    """
    metadata = wire.metadata
    problem = missing(namespace=metadata.namespace, uid=metadata.uid)
    if problem is not None:
        return Converted(None, (problem,))
    problems: list[Problem] = []
    value = model.Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        node=wire.spec.node_name,
        labels=labels_of(metadata),
        addresses=_addresses(wire.status, problems),
        ports=_ports(wire.spec, problems),
        host_network=wire.spec.host_network,
        phase=_phase(wire.status.phase, problems),
        config_hash=_config_hash(metadata.annotations),
    )
    return Converted(value, tuple(problems))


def _config_hash(annotations: WireAnnotations | None) -> str:
    """The uid that kubelet gives a static pod, out of the annotations of its mirror pod
    (kubernetes.io/docs, "Well-Known Labels, Annotations and Taints").
    """
    return annotations.config_hash if annotations is not None and annotations.mirror else ""


def _addresses(status: WirePodStatus, problems: list[Problem]) -> tuple[model.IPAddress, ...]:
    texts = [(f"status.podIPs[{i}].ip", entry.ip) for i, entry in enumerate(status.pod_ips or ())]
    if not texts and status.pod_ip:
        texts = [("status.podIP", status.pod_ip)]
    found = (address(text, field, problems) for field, text in texts)
    return tuple(value for value in found if value is not None)


def _ports(spec: WirePodSpec, problems: list[Problem]) -> tuple[model.ContainerPort, ...]:
    found: list[model.ContainerPort] = []
    sidecars = [c for c in spec.init_containers or () if c.restart_policy == "Always"]
    for container in [*(spec.containers or ()), *sidecars]:
        for port in container.ports or ():
            if 0 < port.container_port < 65536:
                found.append(model.ContainerPort(port.name, port.container_port, port.protocol))
            else:
                reason = f"{port.container_port}: expected a port from 1 to 65535"
                problems.append(Problem("spec.containers[].ports[].containerPort", reason))
    return tuple(found)


def _phase(text: str, problems: list[Problem]) -> model.Phase:
    if not text:
        return model.Phase.PENDING
    phase = _PHASES.get(text)
    if phase is None:
        problems.append(Problem("status.phase", f"{text!r}: expected one of {', '.join(_PHASES)}"))
        return model.Phase.UNKNOWN
    return phase


def _key(metadata: Metadata) -> model.PodRef:
    return model.PodRef(metadata.namespace, metadata.name)


POD = Kind("Pod", "/api/v1/pods", WirePod, pod, _key)
