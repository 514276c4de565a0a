"""Pods and nodes as the controllers read them: the few fields that decide, decoded fast."""

from __future__ import annotations

from typing import Any

import msgspec

Object = dict[str, Any]

ZONE = "topology.kubernetes.io/zone"
"""The label that names a node's zone."""


class _Camel(msgspec.Struct, frozen=True, rename="camel"):
    """A part of an object; fields that are not named are skipped."""


class Owner(_Camel, frozen=True, rename="camel"):
    """A reference to what an object belongs to."""

    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(_Camel, frozen=True, rename="camel"):
    """What is read of an object's metadata."""

    name: str
    uid: str
    namespace: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()


class Condition(_Camel, frozen=True, rename="camel"):
    """One condition."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class ContainerPort(_Camel, frozen=True, rename="camel"):
    """One declared port."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class Container(_Camel, frozen=True, rename="camel"):
    """What is read of a container."""

    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(_Camel, frozen=True, rename="camel"):
    """What is read of a pod's spec."""

    node_name: str = ""
    scheduler_name: str = ""
    host_network: bool = False
    node_selector: dict[str, str] = {}
    affinity: Object = {}
    tolerations: tuple[Object, ...] = ()
    topology_spread_constraints: tuple[Object, ...] = ()
    scheduling_gates: tuple[Object, ...] = ()
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    hostname: str = ""
    subdomain: str = ""


class Address(_Camel, frozen=True, rename="camel"):
    """One of a pod's addresses."""

    ip: str


class PodStatus(_Camel, frozen=True, rename="camel"):
    """What is read of a pod's status."""

    phase: str = "Pending"
    conditions: tuple[Condition, ...] = ()
    pod_ips: tuple[Address, ...] = msgspec.field(name="podIPs", default=())


class Pod(_Camel, frozen=True, rename="camel"):
    """A pod as the controllers see it."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    def condition(self, type_: str) -> Condition | None:
        """The condition of a type, if the pod has it."""
        return next((c for c in self.status.conditions if c.type == type_), None)

    @property
    def ports(self) -> tuple[ContainerPort, ...]:
        """The ports that its containers declare, and its sidecars after them."""
        sidecars = [c for c in self.spec.init_containers if c.restart_policy == "Always"]
        return tuple(port for c in (*self.spec.containers, *sidecars) for port in c.ports)

    @property
    def ready(self) -> bool:
        """Whether the pod is ready to serve."""
        condition = self.condition("Ready")
        return condition is not None and condition.status == "True"

    @property
    def terminating(self) -> bool:
        """Whether the pod is being deleted."""
        return self.metadata.deletion_timestamp is not None

    @property
    def finished(self) -> bool:
        """Whether the pod has run to its end."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def active(self) -> bool:
        """Whether the pod counts as one of its workload's replicas."""
        return not self.terminating and not self.finished


class NodeSpec(_Camel, frozen=True, rename="camel"):
    """What is read of a node's spec."""

    unschedulable: bool = False
    taints: tuple[Object, ...] = ()
    pod_cidrs: tuple[str, ...] = msgspec.field(name="podCIDRs", default=())


class NodeStatus(_Camel, frozen=True, rename="camel"):
    """What is read of a node's status."""

    conditions: tuple[Condition, ...] = ()
    allocatable: dict[str, str] = {}


class Node(_Camel, frozen=True, rename="camel"):
    """A node as the controllers see it."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def zone(self) -> str:
        """The zone that it is in; empty: in none."""
        return self.metadata.labels.get(ZONE, "")

    @property
    def ready(self) -> bool:
        """Whether the node's kubelet says that it is ready."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


_PODS = msgspec.json.Decoder(Pod)
_NODES = msgspec.json.Decoder(Node)


def decode_pod(body: bytes) -> Pod:
    """Decode a pod from the text that the store keeps."""
    return _PODS.decode(body)


def decode_node(body: bytes) -> Node:
    """Decode a node from the text that the store keeps."""
    return _NODES.decode(body)
