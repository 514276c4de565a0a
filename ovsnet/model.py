"""The Kubernetes objects as the network sees them: frozen values, nothing but what flows need.

Those of policies are many, and are no part of any cycle: with `gc=False` the collector does not
look at them, which halves the time to read a large list.
"""

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


class PolicyRef(NamedTuple):
    """What names a policy: namespace and name."""

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

    `uid` tells a pod from a later one of the same name. `config_hash` is what kubelet calls a pod
    that it has from a file (a static pod), of which the API has a copy with a uid of its own; empty
    for others. `node` is empty until it is scheduled.
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
    config_hash: str = ""

    @property
    def ref(self) -> PodRef:
        """The pod's namespace and name."""
        return PodRef(self.namespace, self.name)

    @property
    def uid_on_node(self) -> str:
        """The uid by which kubelet, and so the plugin, knows the pod."""
        return self.config_hash or self.uid

    @property
    def terminated(self) -> bool:
        """Whether its containers have ended for good (Pod API, phases Succeeded and Failed)."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)


class Protocol(StrEnum):
    """A protocol that a port of a policy may name (NetworkPolicyPort, `protocol`)."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class Direction(StrEnum):
    """A direction of traffic as seen by the pods that a policy selects (`policyTypes`)."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


class RuleRef(NamedTuple):
    """One rule of a policy: `number` counts the rules of its direction from 1."""

    policy: PolicyRef
    direction: Direction
    number: int

    def __str__(self) -> str:
        return f"{self.policy} {self.direction.lower()} rule {self.number}"


class Operator(StrEnum):
    """How a requirement compares a label with its values (LabelSelectorRequirement)."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(msgspec.Struct, frozen=True, order=True, gc=False):
    """One of a selector's `matchExpressions`; `values` are in order, each once."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


class Selector(msgspec.Struct, frozen=True, order=True, gc=False):
    """A LabelSelector: all labels and all expressions must hold; an empty one selects everything.

    `labels` are in the order of their keys and `expressions` in their own order, each once, so
    that selectors which say the same in other words of one order are equal.
    """

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[Requirement, ...] = ()


class IPBlock(msgspec.Struct, frozen=True, gc=False):
    """Addresses of a network without those of the networks in `exceptions`."""

    cidr: IPNetwork
    exceptions: tuple[IPNetwork, ...] = ()


class PolicyPeer(msgspec.Struct, frozen=True, gc=False):
    """Who is at the other end (NetworkPolicyPeer): an `ip_block`, or pods by one selector or both.

    An absent selector is None. Without `namespaces` it means pods of the policy's own namespace,
    without `pods` all pods of those namespaces.
    """

    pods: Selector | None = None
    namespaces: Selector | None = None
    ip_block: IPBlock | None = None


class PolicyPort(msgspec.Struct, frozen=True, gc=False):
    """Ports of one protocol (NetworkPolicyPort): a number, a range up to `end`, a name, or all."""

    protocol: Protocol = Protocol.TCP
    port: int | str | None = None
    end: int | None = None


class PolicyRule(msgspec.Struct, frozen=True, gc=False):
    """What a policy allows in a direction: traffic that fits a peer and a port.

    None means that the field is absent or empty in the API, which there means any. An empty tuple
    means none: nothing of what the rule says could be understood, so it allows nothing.
    """

    peers: tuple[PolicyPeer, ...] | None = None
    ports: tuple[PolicyPort, ...] | None = None


class Fault(msgspec.Struct, frozen=True, order=True, gc=False):
    """A part of an object that the network cannot do as it says: which field, and why."""

    field: str
    reason: str


class NetworkPolicy(msgspec.Struct, frozen=True, gc=False):
    """A NetworkPolicy (networking.k8s.io/v1): isolates the pods that it selects in `directions`
    and allows what its rules say.

    What could not be understood is in `faults` and allows nothing.
    """

    namespace: str
    name: str
    uid: str = ""
    pods: Selector = Selector()
    directions: frozenset[Direction] = frozenset({Direction.INGRESS})
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def ref(self) -> PolicyRef:
        """The policy's namespace and name."""
        return PolicyRef(self.namespace, self.name)

    def rules(self, direction: Direction) -> tuple[PolicyRule, ...]:
        """The rules of a direction in their order."""
        return self.ingress if direction is Direction.INGRESS else self.egress


class ServiceRef(NamedTuple):
    """What names a Service: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ServicePort(msgspec.Struct, frozen=True, order=True, gc=False):
    """A port of a Service (ServicePort). Endpoints have it under the same name and protocol.

    `node_port` is 0 where there is none.
    """

    name: str
    protocol: Protocol
    port: int
    node_port: int = 0


class Service(msgspec.Struct, frozen=True, gc=False):
    """A Service, as far as switches forward for it. One without any address is headless, or an
    ExternalName: DNS alone is concerned with those.

    `external` are those of `spec.externalIPs`, `load_balancer` those that its status names (but
    not where the balancer insists on seeing the traffic, `ipMode: Proxy`). `internal_local` and
    `external_local` are the traffic policies "Local". `affinity` is the timeout of session
    affinity in seconds, 0: there is none. `sources` limit who reaches the load balancer's
    addresses; None: nothing does. `health_check` is `healthCheckNodePort`, 0: there is none.

    `created` is the API's creation time as it stands there: of two services that want the same
    address and port the older one has it. What could not be understood is in `faults` and left
    out.
    """

    namespace: str
    name: str
    uid: str = ""
    created: str = ""
    addresses: tuple[IPAddress, ...] = ()
    external: tuple[IPAddress, ...] = ()
    load_balancer: tuple[IPAddress, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    families: tuple[int, ...] = (4,)
    internal_local: bool = False
    external_local: bool = False
    affinity: int = 0
    sources: tuple[IPNetwork, ...] | None = None
    health_check: int = 0
    faults: tuple[Fault, ...] = ()

    @property
    def ref(self) -> ServiceRef:
        """The service's namespace and name."""
        return ServiceRef(self.namespace, self.name)


class SliceRef(NamedTuple):
    """What names an EndpointSlice: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class SlicePort(msgspec.Struct, frozen=True, order=True, gc=False):
    """A port of all endpoints of a slice (EndpointPort)."""

    name: str
    protocol: Protocol
    port: int


class SliceEndpoint(msgspec.Struct, frozen=True, order=True, gc=False):
    """One endpoint of a slice (Endpoint): its address, its conditions, and where it is.

    Conditions that the API leaves open have its defaults here. `zones` and `nodes` are the hints:
    whose traffic is meant for it. `pod` is the target, if it is one.
    """

    address: IPAddress
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    pod: PodRef | None = None


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    """An EndpointSlice (discovery.k8s.io/v1) of one family of addresses.

    `service` is the service that it belongs to, in its own namespace. What could not be understood
    is in `faults` and left out.
    """

    namespace: str
    name: str
    uid: str = ""
    service: str = ""
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def ref(self) -> SliceRef:
        """The slice's namespace and name."""
        return SliceRef(self.namespace, self.name)

    @property
    def owner(self) -> ServiceRef:
        """The service that it belongs to."""
        return ServiceRef(self.namespace, self.service)


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
    def zone(self) -> str:
        """The zone that the node is in (label `topology.kubernetes.io/zone`); empty: in none."""
        return dict(self.labels).get("topology.kubernetes.io/zone", "")

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
