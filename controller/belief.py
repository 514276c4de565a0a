"""Which ports of a switch the controller believes.

A port says by its name which pod it belongs to, and by its MAC which address that pod has. Nobody
vouches for either, so the controller checks both against what the API server says. A port that
fails gets no flows: a pod behind it can neither send nor receive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import msgspec

from ovsnet.flows.pod import Endpoint
from ovsnet.model import Node, Pod, PodRef
from ovsnet.names import (
    FIRST_POD_OFFSET,
    RESERVED_PORTS,
    address_of_host_mac,
    ipv6_for,
    pod_mac,
)


class Port(msgspec.Struct, frozen=True, order=True):
    """A port of a switch as OpenFlow describes it."""

    ofport: int
    name: str
    mac: str


class Reason(StrEnum):
    """Why a port is refused."""

    NO_SUCH_POD = "its name fits no pod"
    OTHER_NODE = "its name fits a pod that is scheduled to another node"
    ENDED = "its pod has ended"
    HOST_NETWORK = "its pod uses the node's own network"
    AMBIGUOUS = "its name fits more than one pod of this node"
    SUPERSEDED = "its pod has another port that is newer"
    NO_ADDRESS = "its MAC carries no address"
    NO_RANGE = "the node has no pod range yet"
    OUT_OF_RANGE = "its address is not one of this node's pod range"
    ADDRESS_TAKEN = "its address belongs to another pod"
    NO_NEWS = "no news of policies comes from the API server, and one may be for its pod"


class Refusal(msgspec.Struct, frozen=True, order=True):
    """A port that gets no flows, and why. `pods` are those that its name fits."""

    port: Port
    reason: Reason
    pods: tuple[PodRef, ...] = ()
    address: str = ""


class Beliefs(msgspec.Struct, frozen=True):
    """What the controller makes of a switch's ports: each is in one of the two, or reserved."""

    endpoints: Mapping[PodRef, Endpoint]
    refusals: tuple[Refusal, ...]


class _Claim(NamedTuple):
    port: Port
    pod: Pod
    endpoint: Endpoint


def examine(
    node: Node, ports: Iterable[Port], pods_of_port: Callable[[str], tuple[Pod, ...]]
) -> Beliefs:
    """Sort the ports of a node's switch into pods' endpoints and refusals.

    Depends on nothing but its arguments, so the order in which ports and pods came does not
    matter. Of two ports of one pod the later one (the higher number) wins; of two pods with one
    address the one whose address kubelet has reported, then the earlier one.
    """
    claims: list[_Claim] = []
    refusals: list[Refusal] = []
    for port in sorted(ports):
        if port.name in RESERVED_PORTS:
            continue
        verdict = _claim(node, port, pods_of_port(port.name))
        if isinstance(verdict, Refusal):
            refusals.append(verdict)
        else:
            claims.append(verdict)
    newest = {claim.pod.ref: claim for claim in claims}
    refusals += [
        _refuse(claim, Reason.SUPERSEDED) for claim in claims if newest[claim.pod.ref] is not claim
    ]
    endpoints: dict[PodRef, Endpoint] = {}
    taken: set[str] = set()
    for claim in sorted(newest.values(), key=_standing):
        if claim.endpoint.mac in taken:
            refusals.append(_refuse(claim, Reason.ADDRESS_TAKEN))
        else:
            taken.add(claim.endpoint.mac)
            endpoints[claim.pod.ref] = claim.endpoint
    return Beliefs(endpoints, tuple(sorted(refusals)))


def without_newcomers(
    beliefs: Beliefs, before: Mapping[PodRef, Endpoint], ports: Iterable[Port]
) -> Beliefs:
    """The same without endpoints that were not believed before: a policy that is not known of may
    be for them.
    """
    by_number = {port.ofport: port for port in ports}
    kept = {ref: e for ref, e in beliefs.endpoints.items() if before.get(ref) == e}
    held_up = [
        Refusal(by_number[e.ofport], Reason.NO_NEWS, (ref,), str(e.addresses[0]))
        for ref, e in beliefs.endpoints.items()
        if ref not in kept
    ]
    return Beliefs(kept, tuple(sorted([*beliefs.refusals, *held_up])))


def _claim(node: Node, port: Port, fitting: tuple[Pod, ...]) -> _Claim | Refusal:
    refs = tuple(sorted(pod.ref for pod in fitting))
    here = [pod for pod in fitting if pod.node == node.name]
    alive = [pod for pod in here if not pod.terminated and not pod.host_network]
    if len(alive) != 1:
        if alive:
            reason = Reason.AMBIGUOUS
        elif here:
            reason = Reason.ENDED if here[0].terminated else Reason.HOST_NETWORK
        else:
            reason = Reason.OTHER_NODE if fitting else Reason.NO_SUCH_POD
        return Refusal(port, reason, refs)
    key = address_of_host_mac(port.mac)
    if key is None:
        return Refusal(port, Reason.NO_ADDRESS, refs, port.mac)
    if not node.pod_cidrs:
        return Refusal(port, Reason.NO_RANGE, refs, str(key))
    addresses = _addresses(node, key)
    if addresses is None:
        return Refusal(port, Reason.OUT_OF_RANGE, refs, str(key))
    pod = alive[0]
    return _Claim(port, pod, Endpoint(pod.ref, port.ofport, pod_mac(key), *addresses))


def _addresses(
    node: Node, key: IPv4Address
) -> tuple[IPv4Address | None, IPv6Address | None] | None:
    """The addresses that a MAC's 32 bits mean on this node, or None if no pod may have them."""
    range4, range6 = node.range4, node.range6
    offset = int(key) - int(range4.network_address) if range4 is not None else int(key)
    for network in (range4, range6):
        # The last address of an IPv4 range is its broadcast address; IPv6 keeps to the same.
        if network is not None and not FIRST_POD_OFFSET <= offset < network.num_addresses - 1:
            return None
    if range4 is None:
        return None, None if range6 is None else range6[offset]
    return key, None if range6 is None else ipv6_for(key, range4, range6)


def _refuse(claim: _Claim, reason: Reason) -> Refusal:
    address = claim.endpoint.addresses[0]
    return Refusal(claim.port, reason, (claim.pod.ref,), str(address))


def _standing(claim: _Claim) -> tuple[bool, int]:
    reported = any(address in claim.pod.addresses for address in claim.endpoint.addresses)
    return not reported, claim.port.ofport
