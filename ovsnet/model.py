"""The Kubernetes objects as the network sees them: frozen values, nothing but what flows need."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

import msgspec

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


class PodRef(NamedTuple):
    """What names a pod: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Phase(StrEnum):
    """A pod's phase (Pod API, `status.phase`)."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class Namespace(msgspec.Struct, frozen=True):
    """A namespace and its labels."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


class ContainerPort(msgspec.Struct, frozen=True):
    """A declared port of a container; policies and services may mean it by name."""

    name: str
    port: int
    protocol: str


class Pod(msgspec.Struct, frozen=True):
    """A pod.

    `uid` tells a pod from a later one of the same name. `node` is empty until it is scheduled.
    `addresses` are those that kubelet reported, which comes later than its port on the switch.
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    host_network: bool = False
    phase: Phase = Phase.PENDING

    @property
    def ref(self) -> PodRef:
        """The pod's namespace and name."""
        return PodRef(self.namespace, self.name)

    @property
    def terminated(self) -> bool:
        """Whether its containers have ended for good (Pod API, phases Succeeded and Failed)."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)


class Node(msgspec.Struct, frozen=True):
    """A node: its pod ranges and its own addresses, at most one of each family used.

    `created` is the API's creation time as it stands there (RFC 3339 in UTC, so it sorts).
    """

    name: str
    uid: str = ""
    created: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    pod_cidrs: tuple[IPNetwork, ...] = ()
    addresses: tuple[IPAddress, ...] = ()

    @property
    def range4(self) -> IPv4Network | None:
        """The node's IPv4 pod range, if it has one."""
        return next((c for c in self.pod_cidrs if isinstance(c, IPv4Network)), None)

    @property
    def range6(self) -> IPv6Network | None:
        """The node's IPv6 pod range, if it has one."""
        return next((c for c in self.pod_cidrs if isinstance(c, IPv6Network)), None)

    @property
    def underlay(self) -> IPAddress | None:
        """The address that tunnels of other nodes go to: the first one that the node names."""
        return self.addresses[0] if self.addresses else None


def parse_address(text: str) -> IPAddress:
    """An IPv4 or IPv6 address from its text.

    Raises:
        ValueError: it is neither; the message names the text.
    """
    return ip_address(text)


def parse_network(text: str) -> IPNetwork:
    """A network in CIDR notation.

    Raises:
        ValueError: it is none, or it has host bits set.
    """
    return ip_network(text)
