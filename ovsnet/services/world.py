"""The objects that decide what becomes of a call to a service, and who calls whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from ovsnet.model import (
    EndpointSlice,
    IPAddress,
    Node,
    Protocol,
    Service,
    ServiceRef,
    SliceRef,
)
from ovsnet.names import FIRST_POD_OFFSET, NODE_PORT_OFFSET


class World(msgspec.Struct, frozen=True):
    """Everything that decides what becomes of a call, at one moment."""

    nodes: Mapping[str, Node] = {}
    services: Mapping[ServiceRef, Service] = {}
    slices: Mapping[SliceRef, EndpointSlice] = {}

    @classmethod
    def of(
        cls,
        nodes: Iterable[Node] = (),
        services: Iterable[Service] = (),
        slices: Iterable[EndpointSlice] = (),
    ) -> World:
        """The world of these objects; of two with one name the later one counts."""
        return cls(
            {node.name: node for node in nodes},
            {service.ref: service for service in services},
            {one.ref: one for one in slices},
        )


class Whence(StrEnum):
    """What sort of client calls."""

    POD = "pod"
    """A pod of the network, on the node."""

    NODE = "node"
    """A process in the node's own network, a hostNetwork pod's too."""

    OUTSIDE = "outside"
    """Somebody beyond the cluster, or on another node, whose packets arrive at the node."""


class Client(msgspec.Struct, frozen=True):
    """Who calls: the node where the call meets the switch, and the address that it comes from."""

    whence: Whence
    node: str
    address: IPAddress


class Call(msgspec.Struct, frozen=True):
    """The first packet of a connection. Without a protocol it is of one that services cannot
    name, ICMP for one, and has no port.
    """

    client: Client
    destination: IPAddress
    protocol: Protocol | None = None
    port: int | None = None


class Endpoint(NamedTuple):
    """Where a service's traffic goes."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else f"{self.address}"
        return f"{host}:{self.port}"


def own_addresses(world: World, name: str) -> tuple[IPAddress, ...]:
    """Every address whose ports are node ports of a node: those that it names, and the node port
    address in each of its pod ranges, to which it sends on what comes for the others. A loopback
    address is none of them, nor is the gateway's. A node that is not known has none.
    """
    node = world.nodes.get(name)
    if node is None:
        return ()
    ranges = (r for r in node.pod_cidrs if r.num_addresses > FIRST_POD_OFFSET)
    return (*node.addresses, *(r[NODE_PORT_OFFSET] for r in ranges))


def is_on(world: World, address: IPAddress, name: str) -> bool:
    """Whether an address is of a node: its own, or in one of its pod ranges."""
    node = world.nodes.get(name)
    return node is not None and (
        address in node.addresses or any(address in r for r in node.pod_cidrs)
    )


def in_pod_range(world: World, address: IPAddress) -> bool:
    """Whether an address lies in a node's pod range."""
    return any(address in r for node in world.nodes.values() for r in node.pod_cidrs)
