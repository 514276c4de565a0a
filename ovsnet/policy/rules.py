"""What policies say: whom they isolate, and which traffic their rules allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ovsnet.model import (
    Direction,
    IPBlock,
    NetworkPolicy,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Protocol,
    RuleRef,
)
from ovsnet.policy.selectors import selects
from ovsnet.policy.world import Party, World, in_network

NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
"""The IP protocol numbers of the protocols that a policy can name (IANA)."""


class Connection(NamedTuple):
    """Traffic between two parties: its IP protocol's number, and the destination port if known."""

    source: Party
    destination: Party
    protocol: int
    port: int | None

    def peer(self, direction: Direction) -> Party:
        """The party at the other end for the pod whose traffic in a direction this is."""
        return self.source if direction is Direction.INGRESS else self.destination


def selects_pod(policy: NetworkPolicy, pod: Pod) -> bool:
    """Whether a policy applies to a pod (`spec.podSelector`): only ever in its own namespace."""
    return (
        policy.namespace == pod.namespace and in_network(pod) and selects(policy.pods, pod.labels)
    )


def isolating_policies(world: World, pod: Pod, direction: Direction) -> tuple[NetworkPolicy, ...]:
    """The policies that isolate a pod in a direction (`spec.policyTypes`), in order of names."""
    found = (
        policy
        for policy in world.policies.values()
        if direction in policy.directions and selects_pod(policy, pod)
    )
    return tuple(sorted(found, key=lambda policy: policy.ref))


def allowing_rules(
    world: World, policies: Iterable[NetworkPolicy], direction: Direction, connection: Connection
) -> tuple[RuleRef, ...]:
    """The rules of these policies that allow a connection, in their order.

    Policies add up: one rule of one policy is enough.
    """
    peer = connection.peer(direction)
    return tuple(
        ref
        for ref, rule in rules_for_peer(world, policies, direction, peer)
        if fits_port(rule, connection)
    )


def rules_for_peer(
    world: World, policies: Iterable[NetworkPolicy], direction: Direction, party: Party
) -> Iterator[tuple[RuleRef, PolicyRule]]:
    """The rules of these policies that allow something to or from a party, in their order."""
    for policy in policies:
        for number, rule in enumerate(policy.rules(direction), 1):
            if rule.peers is None or any(
                fits_peer(world, policy.namespace, peer, party) for peer in rule.peers
            ):
                yield RuleRef(policy.ref, direction, number), rule


def fits_peer(world: World, namespace: str, peer: PolicyPeer, party: Party) -> bool:
    """Whether a party is one that a peer of a policy in `namespace` means (NetworkPolicyPeer).

    Nobody is meant by a peer that says nothing, or that names addresses and selects pods at once:
    the API allows neither.
    """
    selecting = peer.pods is not None or peer.namespaces is not None
    if peer.ip_block is not None:
        return not selecting and _contains(peer.ip_block, party)
    pod = party.pod
    if not selecting or pod is None:
        return False
    if peer.namespaces is None:
        in_namespace = pod.namespace == namespace
    else:
        # Without the namespace its labels are unknown, and an empty selector selects from what
        # there is: a namespace that was deleted or not yet seen is no reason to let anybody in.
        home = world.namespaces.get(pod.namespace)
        in_namespace = home is not None and selects(peer.namespaces, home.labels)
    return in_namespace and (peer.pods is None or selects(peer.pods, pod.labels))


def _contains(block: IPBlock, party: Party) -> bool:
    """An ipBlock means addresses, whoever has them: pods and nodes too."""
    address = party.address
    return address in block.cidr and not any(address in other for other in block.exceptions)


def fits_port(rule: PolicyRule, connection: Connection) -> bool:
    """Whether a rule means the protocol and the port of a connection."""
    return rule.ports is None or any(_fits_port(port, connection) for port in rule.ports)


def _fits_port(port: PolicyPort, connection: Connection) -> bool:
    """NetworkPolicyPort: the protocol must fit, and the destination port, where it names one."""
    if connection.protocol != NUMBERS[port.protocol]:
        return False
    if port.port is None:
        return True
    span = port_span(port, connection.destination.pod)
    return span is not None and connection.port is not None and connection.port in span


def port_span(port: PolicyPort, destination: Pod | None) -> range | None:
    """The numbers that a port of a policy means at a destination; None if it means none there.

    A name means what the destination declares under it for that protocol. Should two of its
    containers declare one name, the first one counts, as it does for a Service's targetPort.
    """
    if port.port is None:
        return range(1 << 16)
    if isinstance(port.port, int):
        return range(port.port, (port.port if port.end is None else port.end) + 1)
    declared = () if destination is None else destination.ports
    for candidate in declared:
        if candidate.name == port.port and candidate.protocol == port.protocol:
            return range(candidate.port, candidate.port + 1)
    return None
