"""Policies on every node: from what policies and pods are to which flows come and go.

A grant is on a node while one of its subjects is there. What an event changes is gathered in a
`Work`, node by node, so that one event is one change of each node's flows. Whatever the order of
events, the flows are those of the final state; tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType

from ovsnet.controller.complaints import is_doubtful
from ovsnet.controller.policy.grants import Grant, NamedGrant, grants_of, subjects_of
from ovsnet.controller.policy.isolation import Isolation, isolation_owner
from ovsnet.controller.policy.portnames import PortNames
from ovsnet.controller.policy.selection import Group, Labels, Member, Selection
from ovsnet.controller.policy.standings import Standings
from ovsnet.controller.policy.work import Work
from ovsnet.model import Direction, NetworkPolicy, PodRef, PolicyRef, RuleRef

_MOST_NAMES = 8


class Enforcement:
    """All policies with what they grant, and who is isolated."""

    def __init__(self) -> None:
        self._work = Work()
        self._selection = Selection()
        self._policies: dict[PolicyRef, NetworkPolicy] = {}
        self._doubtful: dict[PolicyRef, NetworkPolicy] = {}
        self._standings = Standings(self._selection, lambda: self._work)
        self._names = PortNames(self._standings)
        self._isolation = Isolation(self._selection)

    @property
    def policies(self) -> Mapping[PolicyRef, NetworkPolicy]:
        """Every policy of the cluster."""
        return MappingProxyType(self._policies)

    @property
    def doubtful(self) -> Iterable[NetworkPolicy]:
        """The policies about which there may be complaints."""
        return self._doubtful.values()

    @property
    def isolation(self) -> Isolation:
        """Who is isolated, for reading."""
        return self._isolation

    def nodes_of(self, policy: NetworkPolicy) -> frozenset[str]:
        """The nodes where pods are that one of the cluster's policies selects."""
        members = self._selection.members(subjects_of(policy))
        return frozenset(member.home for member in members if member.home)

    def member(self, ref: PodRef) -> Member | None:
        """A pod as policies see it, None if it is not on the network."""
        return self._selection.member(ref)

    def owners(self) -> Iterator[tuple[int, str]]:
        """Cookies of the flows of policies, and the rules or isolated pods that they are for."""
        for standing in self._standings:
            yield standing.cookie, _rules_text(standing.rules)
        for ref in {member.ref for member, _ in self._isolation.pods}:
            yield from self.owners_of_isolation(ref)

    def owners_of_rules(self, cookies: Container[int]) -> Iterator[tuple[int, str]]:
        """As `owners`, of the rules of these cookies only."""
        for standing in self._standings:
            if standing.cookie in cookies:
                yield standing.cookie, _rules_text(standing.rules)

    def owners_of_isolation(self, ref: PodRef) -> Iterator[tuple[int, str]]:
        """As `owners`, of the flows that isolate one pod."""
        for direction in self._isolation.directions(ref):
            policies = _names(map(str, self._isolation.policies(ref, direction)))
            text = f"pod {ref}, isolated for {direction.lower()} by policy {policies}"
            yield isolation_owner(ref, direction).cookie, text

    def put_member(self, member: Member) -> None:
        """A pod as it is now."""
        self._names.count(self._selection.member(member.ref), member)
        self._selection.put(member)
        self._isolation.look_at(member.ref)

    def drop_member(self, ref: PodRef) -> None:
        """A pod is on the network no more."""
        self._names.count(self._selection.member(ref), None)
        self._selection.drop(ref)
        self._isolation.look_at(ref)

    def set_namespace(self, name: str, labels: Labels | None) -> None:
        """A namespace as it is now; None: it is gone."""
        self._selection.set_namespace(name, labels)

    def put_policy(self, policy: NetworkPolicy) -> None:
        """A policy as it is now."""
        before = self._policies.get(policy.ref)
        if before == policy:
            return
        self._policies[policy.ref] = policy
        self._doubtful.pop(policy.ref, None)
        self._replace(before, policy)
        if is_doubtful(policy):
            self._doubtful[policy.ref] = policy

    def drop_policy(self, ref: PolicyRef, uid: str = "") -> None:
        """A policy is gone. With a uid, only that one and no later one of its name."""
        before = self._policies.get(ref)
        if before is None or (uid and before.uid != uid):
            return
        del self._policies[ref]
        self._doubtful.pop(ref, None)
        self._replace(before, None)

    def take_work(self) -> Work:
        """What has changed since this was called last."""
        self._isolation.settle(self._work)
        done, self._work = self._work, Work()
        return done

    def _replace(self, before: NetworkPolicy | None, now: NetworkPolicy | None) -> None:
        old, new = _rules(before), _rules(now)
        # What comes goes first: what rules of both say stays as it stands.
        for grant, rules in new.items():
            for rule in rules - old.get(grant, set()):
                self._grant(grant, rule)
        for grant, rules in old.items():
            for rule in rules - new.get(grant, set()):
                self._withdraw(grant, rule)
        subjects_before, subjects_now = _isolations(before), _isolations(now)
        for group, direction in subjects_now - subjects_before:
            assert now is not None
            self._isolation.begin(group, direction, now.ref)
        for group, direction in subjects_before - subjects_now:
            assert before is not None
            self._isolation.end(group, direction, before.ref)

    def _grant(self, grant: Grant | NamedGrant, rule: RuleRef) -> None:
        if isinstance(grant, Grant):
            self._standings.add(grant, rule)
        else:
            self._names.add(grant, rule)

    def _withdraw(self, grant: Grant | NamedGrant, rule: RuleRef) -> None:
        if isinstance(grant, Grant):
            self._standings.remove(grant, rule)
        else:
            self._names.remove(grant, rule)


def _rules(policy: NetworkPolicy | None) -> dict[Grant | NamedGrant, set[RuleRef]]:
    """What a policy grants, with the rules that do."""
    found: dict[Grant | NamedGrant, set[RuleRef]] = {}
    if policy is None:
        return found
    for direction in policy.directions:
        for number, grants in grants_of(policy, direction):
            for grant in grants:
                found.setdefault(grant, set()).add(RuleRef(policy.ref, direction, number))
    return found


def _isolations(policy: NetworkPolicy | None) -> set[tuple[Group, Direction]]:
    if policy is None:
        return set()
    return {(subjects_of(policy), direction) for direction in policy.directions}


def _rules_text(rules: Iterable[RuleRef]) -> str:
    return f"policy {_names(map(str, sorted(rules)))}"


def _names(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - _MOST_NAMES
    shown = ", ".join(found[:_MOST_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown
