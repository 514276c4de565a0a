"""Which pods' connections policies have dropped: what switches count, put to names."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from ovsnet.controller.network import Network
from ovsnet.controller.policy.isolation import isolation_owner
from ovsnet.model import Direction, PodRef

MOST_POLICIES: Final = 8
"""So many policies of one pod and direction are told apart."""

TOO_MANY: Final = (f"(more than {MOST_POLICIES})",)
"""What stands in the place of more policies than that."""

MOST_PODS: Final = 10_000
"""So many pods are told of, a pod counting twice that is isolated in both directions."""

_Isolation: TypeAlias = tuple[PodRef, Direction]


class PodDrops(msgspec.Struct, frozen=True):
    """How many packets were dropped because no policy grants their connection, which the pod began
    (egress) or was called by (ingress). `policies` are those that isolate the pod so.
    """

    pod: PodRef
    node: str
    direction: Direction
    policies: tuple[str, ...]
    packets: int


class Drops:
    """The last readings of all switches.

    A reading names flows by their cookies. Which pod and direction a cookie stands for never
    changes; whether that pod is there and isolated is looked up when somebody asks.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._names: dict[str, Mapping[int, _Isolation]] = {}
        self._packets: dict[str, Mapping[_Isolation, int]] = {}

    def take(self, node: str, packets: Mapping[int, int]) -> None:
        """What a node's switch has counted, by cookie."""
        view = self._network.nodes.get(node)
        if view is None:
            return
        names = self._names.get(node, {})
        if packets.keys() - names.keys():
            names = {
                isolation_owner(ref, direction).cookie: (ref, direction)
                for ref in view.beliefs.endpoints
                for direction in Direction
            }
        self._names[node] = {cookie: names[cookie] for cookie in packets if cookie in names}
        self._packets[node] = {
            names[cookie]: count for cookie, count in packets.items() if cookie in names
        }

    def forget(self, node: str) -> None:
        """A node has left the cluster."""
        self._names.pop(node, None)
        self._packets.pop(node, None)

    def counted(self) -> Iterator[PodDrops]:
        """Pods of which something was dropped, those with the most first."""
        every = (
            (-packets, ref, direction, node)
            for node, counts in self._packets.items()
            for (ref, direction), packets in counts.items()
        )
        for negative, ref, direction, node in heapq.nsmallest(MOST_PODS, every):
            policies = self._policies(ref, direction, node)
            if policies:
                yield PodDrops(ref, node, direction, policies, -negative)

    def isolated(self) -> Iterator[PodDrops]:
        """The same, then isolated pods of which nothing was, while there is room."""
        shown = set()
        for each in self.counted():
            shown.add((each.pod, each.direction))
            yield each
        for member, direction in self._network.enforcement.isolation.pods:
            if len(shown) >= MOST_PODS:
                return
            # Of a switch that was not read yet nobody knows that it is nothing.
            if (member.ref, direction) in shown or member.home not in self._packets:
                continue
            shown.add((member.ref, direction))
            policies = self._policies(member.ref, direction, member.home)
            yield PodDrops(member.ref, member.home, direction, policies, 0)

    def _policies(self, ref: PodRef, direction: Direction, node: str) -> tuple[str, ...]:
        """The policies that isolate a pod on a node; none if it is not isolated there."""
        enforcement = self._network.enforcement
        member = enforcement.member(ref)
        if member is None or member.home != node:
            return ()
        policies = enforcement.isolation.policies_if_few(ref, direction, MOST_POLICIES)
        return TOO_MANY if policies is None else tuple(map(str, policies))
