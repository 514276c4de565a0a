"""What the network cannot do as the API's objects say: of which object, which part, and why.

What is wrong with policies is found here, what is wrong with services in `services/complaints`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from typing import TypeAlias

import msgspec

from ovsnet.api import Remark, Subject
from ovsnet.model import Direction, Fault, NetworkPolicy, PolicyRule, Protocol

_RULES = tuple(f"spec.{direction.lower()}" for direction in Direction)
_MOST_NAMES = 3
_MOST_REASONS = 3
_MOST_PARTS = 10


class Sort(msgspec.Struct, frozen=True, order=True):
    """A sort of objects: as the API calls it, as people do, and what is to be done with it."""

    api_version: str
    kind: str
    noun: str
    done: str

    @property
    def event(self) -> str:
        """The reason of the Events about it."""
        return f"Not{self.done.capitalize()}"


POLICY = Sort("networking.k8s.io/v1", "NetworkPolicy", "policy", "enforced")
SERVICE = Sort("v1", "Service", "service", "served")
SLICE = Sort("discovery.k8s.io/v1", "EndpointSlice", "slice", "served")


class Complaint(msgspec.Struct, frozen=True, order=True):
    """A part of an object that is not done as it stands: which field, why, and what is done.

    `field` is empty of one that stands for all further ones of its object.
    """

    namespace: str
    name: str
    sort: Sort
    uid: str
    field: str
    reason: str

    @property
    def object(self) -> str:
        """The object's namespace and name."""
        return f"{self.namespace}/{self.name}"


_Object: TypeAlias = tuple[str, str, Sort, str]


def is_doubtful(policy: NetworkPolicy) -> bool:
    """Whether there may ever be a complaint about a policy; of most, there never is."""
    return bool(policy.faults) or any(True for _ in _sctp_fields(policy))


def complaints(policies: Iterable[NetworkPolicy]) -> tuple[Complaint, ...]:
    """What could not be understood of these policies, in order."""
    return tuple(
        sorted(
            _about(policy, fault.field, f"{fault.reason}; {_effect(fault)}")
            for policy in policies
            for fault in policy.faults
        )
    )


def _about(policy: NetworkPolicy, field: str, reason: str) -> Complaint:
    return Complaint(*policy.ref, POLICY, policy.uid, field, reason)


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
        nodes = set(nodes_of(policy)).intersection(userspace) if fields else ()
        if nodes:
            reason = f"{unknown_sctp(nodes)}; what is allowed by them is dropped there"
            found += (_about(policy, field, reason) for field in fields)
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


def unknown_sctp(nodes: Iterable[str]) -> str:
    """That the userspace datapath of some nodes does not know the ports of SCTP, in words."""
    names = sorted(nodes)
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return f"ports of SCTP are not known to the userspace datapath of {shown}"


def news(present: Iterable[Complaint], before: Iterable[Complaint]) -> tuple[Complaint, ...]:
    """The complaints that there were not before, in their order."""
    known = frozenset(before)
    return tuple(complaint for complaint in present if complaint not in known)


def by_object(present: Iterable[Complaint]) -> Iterator[list[Complaint]]:
    """Complaints that are in order, those of each object together."""
    for _, found in groupby(present, _object):
        yield list(found)


def few(present: Iterable[Complaint]) -> Iterator[Complaint]:
    """Of complaints that are in order the first ones of each object; one more says how many others
    there are.
    """
    for found in by_object(present):
        yield from found[:_MOST_PARTS]
        more = len(found) - _MOST_PARTS
        if more > 0:
            reason = f"{more} more of its parts are not {found[0].sort.done}"
            yield msgspec.structs.replace(found[0], field="", reason=reason)


def remarks(present: Iterable[Complaint]) -> tuple[Remark, ...]:
    """The Events about complaints that are in order; of one object not more than a few, and one
    alone of one field: a second one would take its place.
    """
    return tuple(_remark(list(found)) for _, found in groupby(few(present), _part))


def _remark(found: list[Complaint]) -> Remark:
    first = found[0]
    sort = first.sort
    subject = Subject(sort.api_version, sort.kind, first.namespace, first.name, first.uid)
    if not first.field:
        return Remark(subject, sort.event, first.reason, "more")
    reasons = [complaint.reason for complaint in found[:_MOST_REASONS]]
    more = len(found) - _MOST_REASONS
    reasons += [f"and {more} more"] if more > 0 else []
    return Remark(subject, sort.event, f"{first.field}: {'; '.join(reasons)}", first.field)


def _object(complaint: Complaint) -> _Object:
    return complaint.namespace, complaint.name, complaint.sort, complaint.uid


def _part(complaint: Complaint) -> tuple[_Object, str]:
    return _object(complaint), complaint.field
