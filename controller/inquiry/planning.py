"""What policies would change if they were applied, found out on copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from ovsnet.controller.inquiry.plan import Action, Cut, FlowChanges, Plan, Proposed, Shift, Silent
from ovsnet.controller.inquiry.questions import PROTOCOLS, Proposal
from ovsnet.controller.inquiry.world import Snapshot, copied, world
from ovsnet.controller.live import Answer, LiveConnection
from ovsnet.controller.network import Deltas
from ovsnet.flows.fields import IpProto
from ovsnet.flows.flow import FlowKey
from ovsnet.model import IPAddress, NetworkPolicy, PolicyRef
from ovsnet.policy.difference import Change, difference
from ovsnet.policy.evaluate import Traffic, evaluate, pods_selected
from ovsnet.policy.world import World, parties

_NAMES: Final[Mapping[int, str]] = {
    number: name for name, numbers in PROTOCOLS.items() for number in numbers
}

_WITH_PORTS: Final = frozenset((IpProto.TCP, IpProto.UDP, IpProto.SCTP))
_SECONDS: Final = 10.0

Policies: TypeAlias = Mapping[PolicyRef, NetworkPolicy]
Connections: TypeAlias = Callable[[Iterable[str], float], Mapping[str, Answer]]
"""Asks nodes for their live connections, within some seconds (`controller.live.Questions`)."""


def plan(seen: Snapshot, proposal: Proposal, connections: Connections) -> Plan:
    """What would change."""
    before = world(seen)
    after = msgspec.structs.replace(before, policies=_applied(seen.policies, proposal))
    found = difference(before, after)
    # Where nothing becomes denied nothing is cut, and nobody need be asked.
    nodes = _concerned(before, after, proposal) if found.denied else ()
    told = connections(nodes, _SECONDS) if nodes else {}
    return Plan(
        policies=tuple(_proposed(before, after, proposal)),
        allowed=tuple(map(_shift, found.allowed)),
        denied=tuple(map(_shift, found.denied)),
        cut=tuple(_cut(before, after, told)),
        silent=tuple(Silent(n, why) for n, why in sorted(told.items()) if isinstance(why, str)),
        flows=tuple(_flow_changes(seen, after.policies)),
    )


def _applied(policies: Policies, proposal: Proposal) -> Policies:
    """The policies as they would be. One that is there already stays the same object."""
    after = dict(policies)
    for policy in proposal.policies:
        present = policies.get(policy.ref)
        if proposal.delete:
            after.pop(policy.ref, None)
        else:
            uid = "" if present is None else present.uid
            after[policy.ref] = msgspec.structs.replace(policy, uid=uid)
    return after


def _proposed(before: World, after: World, proposal: Proposal) -> Iterator[Proposed]:
    for ref in dict.fromkeys(policy.ref for policy in proposal.policies):
        old, new = before.policies.get(ref), after.policies.get(ref)
        if new is None:
            action = Action.ABSENT if old is None else Action.DELETED
        elif old is None:
            action = Action.CREATED
        else:
            action = Action.UNCHANGED if old == new else Action.CHANGED
        policy = new or old
        yield Proposed(
            name=str(ref),
            action=action,
            pods=0 if policy is None else len(pods_selected(after, policy)),
            faults=() if new is None else new.faults,
        )


def _concerned(before: World, after: World, proposal: Proposal) -> tuple[str, ...]:
    """The nodes of all pods that the policies select, or did."""
    refs = {policy.ref for policy in proposal.policies}
    versions = {v for w in (before, after) for ref in refs if (v := w.policies.get(ref))}
    pods = {ref for policy in versions for ref in pods_selected(before, policy)}
    nodes = {before.pods[ref].node for ref in pods}
    return tuple(sorted(nodes & before.nodes.keys()))


def _shift(change: Change) -> Shift:
    return Shift(
        sources=tuple(map(str, change.sources)),
        destinations=tuple(map(str, change.destinations)),
        pairs=change.pairs,
        families=tuple(f"IPv{family}" for family in change.families),
        traffic=change.traffic,
    )


def _cut(before: World, after: World, told: Mapping[str, Answer]) -> Iterator[Cut]:
    # Both nodes of a connection know it.
    every = {_traffic(c) for each in told.values() if not isinstance(each, str) for c in each}
    for traffic in sorted(every, key=_order):
        if evaluate(before, traffic).allowed and not evaluate(after, traffic).allowed:
            yield Cut(
                protocol=_NAMES.get(traffic.protocol, str(traffic.protocol)),
                source=str(traffic.source),
                destination=str(traffic.destination),
                port=traffic.port,
                source_pod=_pod_at(before, traffic.source),
                destination_pod=_pod_at(before, traffic.destination),
            )


def _traffic(live: LiveConnection) -> Traffic:
    port = live.destination_port if live.protocol in _WITH_PORTS else None
    return Traffic(live.source, live.destination, live.protocol, port)


def _order(traffic: Traffic) -> tuple[int, ...]:
    ends = int(traffic.destination), int(traffic.source)
    return traffic.source.version, *ends, traffic.protocol, traffic.port or 0


def _pod_at(cluster: World, address: IPAddress) -> str:
    pod = parties(cluster, address)[0].pod
    return "" if pod is None else str(pod.ref)


def _flow_changes(seen: Snapshot, after: Policies) -> Iterator[FlowChanges]:
    """What applying would change of every node's flows, tried on a copy.

    Applying there and taking it back tells apart what is added from what is changed: a flow that
    was there before is written again on the way back.
    """
    network = copied(seen)
    there = network.set_policies(after.values())
    back = network.set_policies(seen.policies.values())
    for node in sorted(there):
        written, restored = _added(there, node), _added(back, node)
        yield FlowChanges(
            node=node,
            added=len(written - restored),
            changed=len(written & restored),
            deleted=len(there[node].deletes),
        )


def _added(deltas: Deltas, node: str) -> set[FlowKey]:
    return {flow.key for flow in deltas[node].adds}
