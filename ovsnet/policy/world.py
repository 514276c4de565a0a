"""The objects that decide about traffic, and which addresses belong to whom among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from ovsnet.model import (
    IPAddress,
    Namespace,
    NetworkPolicy,
    Node,
    Pod,
    PodRef,
    PolicyRef,
)
from ovsnet.names import GATEWAY_OFFSET, SERVICE_OFFSET


class World(msgspec.Struct, frozen=True):
    """Everything that decides whether traffic is allowed, at one moment."""

    namespaces: Mapping[str, Namespace] = {}
    pods: Mapping[PodRef, Pod] = {}
    nodes: Mapping[str, Node] = {}
    policies: Mapping[PolicyRef, NetworkPolicy] = {}

    @classmethod
    def of(
        cls,
        namespaces: Iterable[Namespace] = (),
        pods: Iterable[Pod] = (),
        nodes: Iterable[Node] = (),
        policies: Iterable[NetworkPolicy] = (),
    ) -> World:
        """The world of these objects; of two with one name the later one counts."""
        return cls(
            {namespace.name: namespace for namespace in namespaces},
            {pod.ref: pod for pod in pods},
            {node.name: node for node in nodes},
            {policy.ref: policy for policy in policies},
        )


class NodeName(msgspec.Struct, frozen=True, order=True):
    """A node as an end of traffic."""

    name: str

    def __str__(self) -> str:
        return f"node/{self.name}"


End: TypeAlias = PodRef | NodeName | IPAddress


class Party(NamedTuple):
    """An address, and the pod of the network that owns it, if one does."""

    address: IPAddress
    pod: Pod | None = None


def addresses(world: World, end: End, family: int) -> tuple[IPAddress, ...]:
    """The addresses of an end in an address family (4 or 6), the one that it sends from first.

    A node has the gateway's and the service address in its pod range, and its own. A hostNetwork
    pod has its node's own, whatever its status says. Nobody has any who is unknown, whose
    containers have ended for good, or whose address has not been reported yet.
    """
    if isinstance(end, NodeName):
        node = world.nodes.get(end.name)
        found = () if node is None else node_addresses(node)
    elif isinstance(end, PodRef):
        found = _pod_addresses(world, world.pods.get(end))
    else:
        found = (end,)
    return tuple(address for address in found if address.version == family)


def _pod_addresses(world: World, pod: Pod | None) -> tuple[IPAddress, ...]:
    if pod is None or pod.terminated:
        return ()
    if not pod.host_network:
        return pod.addresses
    node = world.nodes.get(pod.node)
    return () if node is None else node.addresses


def node_addresses(node: Node) -> tuple[IPAddress, ...]:
    """Every address that a node's connections may come from: the gateway's and the service address
    in its pod ranges, and its own.
    """
    offsets = (GATEWAY_OFFSET, SERVICE_OFFSET)
    ranges = (r for r in (node.range4, node.range6) if r is not None)
    in_ranges = (r[offset] for r in ranges for offset in offsets if r.num_addresses > offset)
    return (*in_ranges, *node.addresses)


def in_network(pod: Pod) -> bool:
    """Whether policies can select a pod, as subject or as peer.

    hostNetwork pods cannot be told from their node (API documentation, "NetworkPolicy and
    hostNetwork pods"), and what has ended for good has given its address back.
    """
    return not pod.host_network and not pod.terminated


def parties(world: World, address: IPAddress) -> tuple[Party, ...]:
    """Who an address may stand for: every pod of the network that claims it, by name, or nobody."""
    owners = [pod for pod in world.pods.values() if in_network(pod) and address in pod.addresses]
    if not owners:
        return (Party(address),)
    return tuple(Party(address, pod) for pod in sorted(owners, key=lambda pod: pod.ref))
