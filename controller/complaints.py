"""What is wrong with policies, so that they are not enforced as they stand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from ovsnet.api import Remark, Subject
from ovsnet.model import Direction, Fault, NetworkPolicy, PolicyRef, PolicyRule, Protocol

NOT_ENFORCED = "NotEnforced"
"""The reason of the Events."""

_RULES = tuple(f"spec.{direction.lower()}" for direction in Direction)
_MOST_NAMES = 3
_MOST_REMARKS = 10


class Complaint(msgspec.Struct, frozen=True, order=True):
    """A part of a policy that is not enforced as it stands: which field, why, and what is done."""

    policy: PolicyRef
    uid: str
    field: str
    reason: str


def is_doubtful(policy: NetworkPolicy) -> bool:
    """Whether there may ever be a complaint about a policy; of most, there never is."""
    return bool(policy.faults) or any(True for _ in _sctp_fields(policy))


def complaints(policies: Iterable[NetworkPolicy]) -> tuple[Complaint, ...]:
    """What could not be understood of these policies, in order."""
    return tuple(
        sorted(
            Complaint(policy.ref, policy.uid, fault.field, f"{fault.reason}; {_effect(fault)}")
            for policy in policies
            for fault in policy.faults
        )
    )


def _effect(fault: Fault) -> str:
    """What is done in place of what cannot be understood."""
    field = fault.field
    if field.startswith("spec.policyTypes"):
        return "pods are isolated in both directions"
    if field == "spec" or field.startswith("spec.podSelector"):
        return "all pods of the namespace are isolated, and the policy allows nothing"
    if field.startswith(_RULES):
        return "the part that this belongs to allows nothing"
    return "the policy allows nothing"


def sctp_complaints(
    policies: Iterable[NetworkPolicy],
    nodes_of: Callable[[NetworkPolicy], Iterable[str]],
    userspace: Collection[str],
) -> tuple[Complaint, ...]:
    """What policies say of ports of SCTP to no effect, in order: on `userspace` nodes, among those
    where pods are that a policy selects (`nodes_of`).
    """
    found: list[Complaint] = []
    for policy in policies:
        fields = list(_sctp_fields(policy))
        nodes = sorted(set(nodes_of(policy)).intersection(userspace)) if fields else []
        if nodes:
            reason = (
                f"ports of SCTP are not known to the userspace datapath of {_names(nodes)}; what "
                "is allowed by them is dropped there"
            )
            found += (Complaint(policy.ref, policy.uid, field, reason) for field in fields)
    return tuple(sorted(found))


def _sctp_fields(policy: NetworkPolicy) -> Iterator[str]:
    for direction in policy.directions:
        for index, rule in enumerate(policy.rules(direction)):
            if _names_sctp_ports(rule):
                yield f"spec.{direction.lower()}[{index}].ports"


def _names_sctp_ports(rule: PolicyRule) -> bool:
    """Whether it matters to a rule which port of SCTP it is."""
    return any(
        port.protocol is Protocol.SCTP and port.port is not None for port in rule.ports or ()
    )


def _names(nodes: list[str]) -> str:
    shown, more = ", ".join(nodes[:_MOST_NAMES]), len(nodes) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def news(present: Iterable[Complaint], before: Iterable[Complaint]) -> tuple[Complaint, ...]:
    """The complaints that there were not before, in their order."""
    known = frozenset(before)
    return tuple(complaint for complaint in present if complaint not in known)


def remarks(present: Iterable[Complaint]) -> tuple[Remark, ...]:
    """The Events about these complaints, in their order; of one policy not more than a few."""
    by_policy: dict[tuple[PolicyRef, str], list[Complaint]] = {}
    for complaint in present:
        by_policy.setdefault((complaint.policy, complaint.uid), []).append(complaint)
    return tuple(remark for found in by_policy.values() for remark in _remarks(found))


def _remarks(found: list[Complaint]) -> Iterator[Remark]:
    policy = found[0].policy
    subject = Subject(
        "networking.k8s.io/v1", "NetworkPolicy", policy.namespace, policy.name, found[0].uid
    )
    for complaint in found[:_MOST_REMARKS]:
        message = f"{complaint.field}: {complaint.reason}"
        yield Remark(subject, NOT_ENFORCED, message, complaint.field)
    more = len(found) - _MOST_REMARKS
    if more > 0:
        yield Remark(subject, NOT_ENFORCED, f"{more} more of its parts are not enforced", "more")
