"""Is traffic allowed, and by which rule, or who isolates its ends: networking.k8s.io/v1, read out.

Written from the API's definition by the simplest way there is, for one packet at a time. It shares
nothing with the compiler of flows, so that each can be held against the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import product

import msgspec

from ovsnet.model import (
    Direction,
    IPAddress,
    NetworkPolicy,
    Pod,
    PodRef,
    PolicyRef,
    RuleRef,
)
from ovsnet.policy.rules import Connection, allowing_rules, isolating_policies, selects_pod
from ovsnet.policy.world import Party, World, node_addresses, parties


class Traffic(msgspec.Struct, frozen=True):
    """The first packet of a connection: addresses of one family, the IP protocol's number (IANA),
    and the destination port. No port: the protocol has none, or it is not known.
    """

    source: IPAddress
    destination: IPAddress
    protocol: int
    port: int | None = None


class Reason(StrEnum):
    """Why traffic is allowed or denied at one of its ends."""

    NO_POD = "no pod of the network has this address"
    ITSELF = "a pod always reaches itself"
    OWN_NODE = "a pod and its own node always reach each other"
    NOT_ISOLATED = "no policy isolates the pod"
    RULE = "a rule allows it"
    NO_RULE = "the pod is isolated and no rule allows it"


class Decision(msgspec.Struct, frozen=True):
    """What is decided at one end, and why.

    `isolating` are all policies that isolate the pod in this direction, and `rules` all of their
    rules that allow the traffic, even where the reason is another one.
    """

    allowed: bool
    reason: Reason
    isolating: tuple[PolicyRef, ...] = ()
    rules: tuple[RuleRef, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What is decided about traffic: `egress` by the policies of the pod that owns the source
    address, `ingress` by those of the pod that owns the destination address.
    """

    egress: Decision
    ingress: Decision

    @property
    def allowed(self) -> bool:
        """Whether it may pass: both ends must allow it."""
        return self.egress.allowed and self.ingress.allowed


def evaluate(world: World, traffic: Traffic) -> Verdict:
    """Decide about traffic. Replies need no decision of their own (API documentation, "The two
    sorts of pod isolation").

    An address that several pods claim may stand for each of them. Then it takes all of them, at
    either end, to allow traffic, and the first that denies it is the one that is named.
    """
    connections = [
        Connection(source, destination, traffic.protocol, traffic.port)
        for source, destination in product(
            parties(world, traffic.source), parties(world, traffic.destination)
        )
    ]
    return Verdict(
        _strictest(_decide(world, Direction.EGRESS, c, c.source) for c in connections),
        _strictest(_decide(world, Direction.INGRESS, c, c.destination) for c in connections),
    )


def _strictest(decisions: Iterable[Decision]) -> Decision:
    return min(decisions, key=lambda decision: decision.allowed)


def _decide(world: World, direction: Direction, connection: Connection, subject: Party) -> Decision:
    pod, peer = subject.pod, connection.peer(direction)
    if pod is None:
        return Decision(True, Reason.NO_POD)
    policies = isolating_policies(world, pod, direction)
    rules = allowing_rules(world, policies, direction, connection)
    reason = _reason(world, pod, peer, policies, rules)
    return Decision(
        reason is not Reason.NO_RULE, reason, tuple(policy.ref for policy in policies), rules
    )


def _reason(
    world: World,
    pod: Pod,
    peer: Party,
    policies: tuple[NetworkPolicy, ...],
    rules: tuple[RuleRef, ...],
) -> Reason:
    if peer.pod is not None and peer.pod.ref == pod.ref:
        return Reason.ITSELF
    node = world.nodes.get(pod.node)
    if node is not None and peer.address in node_addresses(node):
        return Reason.OWN_NODE
    if not policies:
        return Reason.NOT_ISOLATED
    return Reason.RULE if rules else Reason.NO_RULE


def pods_selected(world: World, policy: NetworkPolicy) -> tuple[PodRef, ...]:
    """The pods that a policy applies to, in order of names; whether they have addresses or not."""
    return tuple(sorted(pod.ref for pod in world.pods.values() if selects_pod(policy, pod)))


def isolating(world: World, pod: PodRef, direction: Direction) -> tuple[PolicyRef, ...]:
    """The policies that isolate a pod in a direction, in order of names; none if it is unknown."""
    known = world.pods.get(pod)
    if known is None:
        return ()
    return tuple(policy.ref for policy in isolating_policies(world, known, direction))
