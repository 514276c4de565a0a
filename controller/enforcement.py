"""Policies on every node: from what policies and pods are to which flows come and go.

A grant is on a node while one of its subjects is there. What an event changes is gathered in a
`Work`, node by node, so that one event is one change of each node's flows. Whatever the order of
events, the flows are those of the final state; tests hold it to that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType

from ovsnet.controller.complaints import is_doubtful
from ovsnet.controller.feeds import Peers, Subjects
from ovsnet.controller.grants import (
    Grant,
    NamedGrant,
    PortName,
    cookie_of,
    grants_of,
    subjects_of,
)
from ovsnet.controller.selection import Group, Labels, Listener, Member, Selection
from ovsnet.controller.standing import StandingGrant
from ovsnet.controller.work import Work
from ovsnet.flows.flow import Block, Owner, OwnerKind, block
from ovsnet.flows.policy import isolated
from ovsnet.model import Direction, NetworkPolicy, PodRef, PolicyRef, Protocol, RuleRef

_ALL = frozenset(map(str, Protocol))
_RANK_BITS = 8
_HASH_OCTETS = 3


def isolation_owner(ref: PodRef, direction: Direction) -> Owner:
    """The owner of the flows that isolate a pod in a direction."""
    return Owner(OwnerKind.POLICY, f"isolation of {ref} {direction}")


class Enforcement:
    """All policies with their grants, and who is isolated."""

    def __init__(self) -> None:
        self._selection = Selection()
        self._policies: dict[PolicyRef, NetworkPolicy] = {}
        self._doubtful: dict[PolicyRef, NetworkPolicy] = {}
        self._standing: dict[Grant, StandingGrant] = {}
        self._listening: dict[Grant, list[tuple[Group, Listener]]] = {}
        # Conjunctions have 32 bits: a hash of 24 and a rank among the grants that share it.
        self._by_hash: dict[int, dict[bytes, Grant]] = defaultdict(dict)
        self._named: dict[PortName, dict[NamedGrant, set[RuleRef]]] = defaultdict(dict)
        self._numbers: dict[PortName, Counter[int]] = defaultdict(Counter)
        self._isolating: dict[Group, dict[Direction, set[PolicyRef]]] = {}
        self._watchers: dict[Group, _Watcher] = {}
        self._dirty: set[PodRef] = set()
        self._isolated: dict[PodRef, tuple[Member, frozenset[Direction]]] = {}
        self._isolated_pods = dict.fromkeys(Direction, 0)
        self._work = Work()

    @property
    def policies(self) -> Mapping[PolicyRef, NetworkPolicy]:
        """Every policy of the cluster."""
        return MappingProxyType(self._policies)

    @property
    def doubtful(self) -> Iterable[NetworkPolicy]:
        """The policies about which there may be complaints."""
        return self._doubtful.values()

    def nodes_of(self, policy: NetworkPolicy) -> frozenset[str]:
        """The nodes where pods are that one of the cluster's policies selects."""
        members = self._selection.members(subjects_of(policy))
        return frozenset(member.home for member in members if member.home)

    def member(self, ref: PodRef) -> Member | None:
        """A pod as policies see it, None if it is not on the network."""
        return self._selection.member(ref)

    def isolating(self, ref: PodRef, direction: Direction) -> tuple[PolicyRef, ...]:
        """The policies that isolate a pod in a direction, in order."""
        found: set[PolicyRef] = set()
        for group in self._selection.groups_of(ref):
            found |= self._isolating.get(group, {}).get(direction, set())
        return tuple(sorted(found))

    def isolating_if_few(
        self, ref: PodRef, direction: Direction, most: int
    ) -> tuple[PolicyRef, ...] | None:
        """As `isolating`, if they are no more than `most`."""
        found: list[PolicyRef] = []
        for group in self._selection.groups_of(ref):
            # Every policy has one group of subjects, so none is met twice.
            policies = self._isolating.get(group, {}).get(direction, set())
            if len(found) + len(policies) > most:
                return None
            found += policies
        return tuple(sorted(found))

    def owners(self) -> Iterator[tuple[int, str]]:
        """Cookies of the flows of policies, and the rules or isolated pods that they are for."""
        for standing in self._standing.values():
            yield standing.cookie, _rules_text(standing.rules)
        for ref in self._isolated:
            yield from self.owners_of_isolation(ref)

    def owners_of_rules(self, cookies: Container[int]) -> Iterator[tuple[int, str]]:
        """As `owners`, of the rules of these cookies only."""
        for standing in self._standing.values():
            if standing.cookie in cookies:
                yield standing.cookie, _rules_text(standing.rules)

    def owners_of_isolation(self, ref: PodRef) -> Iterator[tuple[int, str]]:
        """As `owners`, of the flows that isolate one pod."""
        _, directions = self._isolated.get(ref, (None, frozenset()))
        for direction in sorted(directions):
            policies = _names(map(str, self.isolating(ref, direction)))
            text = f"pod {ref}, isolated for {direction.lower()} by policy {policies}"
            yield isolation_owner(ref, direction).cookie, text

    @property
    def isolated(self) -> Iterable[tuple[Member, Direction]]:
        """Every isolated pod, with each direction in which it is."""
        for member, directions in self._isolated.values():
            yield from ((member, direction) for direction in sorted(directions))

    @property
    def isolated_pods(self) -> Mapping[Direction, int]:
        """How many pods are isolated in each direction."""
        return MappingProxyType(self._isolated_pods)

    def put_member(self, member: Member) -> None:
        """A pod as it is now."""
        before = self._selection.member(member.ref)
        self._count_numbers(before, member)
        self._selection.put(member)
        self._dirty.add(member.ref)

    def drop_member(self, ref: PodRef) -> None:
        """A pod is on the network no more."""
        self._count_numbers(self._selection.member(ref), None)
        self._selection.drop(ref)
        self._dirty.add(ref)

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
        if is_doubtful(policy):
            self._doubtful[policy.ref] = policy
        self._replace(before, policy)

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
        for ref in sorted(self._dirty):
            self._isolate(ref)
        self._dirty.clear()
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
            self._begin_isolation(group, direction, now.ref)
        for group, direction in subjects_before - subjects_now:
            assert before is not None
            self._end_isolation(group, direction, before.ref)

    def _grant(self, grant: Grant | NamedGrant, rule: RuleRef) -> None:
        if isinstance(grant, Grant):
            self._stand(grant).rules.add(rule)
            return
        watching = self._named[grant.name].setdefault(grant, set())
        watching.add(rule)
        for number in self._numbers[grant.name]:
            self._grant(grant.of(number), rule)

    def _withdraw(self, grant: Grant | NamedGrant, rule: RuleRef) -> None:
        if isinstance(grant, Grant):
            standing = self._standing[grant]
            standing.rules.discard(rule)
            if not standing.rules:
                self._end(standing)
            return
        for number in self._numbers[grant.name]:
            self._withdraw(grant.of(number), rule)
        watching = self._named[grant.name][grant]
        watching.discard(rule)
        if not watching:
            del self._named[grant.name][grant]

    def _count_numbers(self, before: Member | None, now: Member | None) -> None:
        """Grants by port name stand for every number that some pod declares under the name."""
        old, new = Counter(_declared(before)), Counter(_declared(now))
        for (name, number), count in (new - old).items():
            numbers = self._numbers[name]
            numbers[number] += count
            if numbers[number] == count:
                for named, rules in self._named.get(name, {}).items():
                    for rule in rules:
                        self._grant(named.of(number), rule)
        for (name, number), count in (old - new).items():
            numbers = self._numbers[name]
            numbers[number] -= count
            if not numbers[number]:
                del numbers[number]
                for named, rules in self._named.get(name, {}).items():
                    for rule in rules:
                        self._withdraw(named.of(number), rule)

    def _stand(self, grant: Grant) -> StandingGrant:
        standing = self._standing.get(grant)
        if standing is not None:
            return standing
        digest = grant.digest()
        standing = StandingGrant(grant, cookie_of(digest), lambda: self._work)
        self._standing[grant] = standing
        number = int.from_bytes(digest[:_HASH_OCTETS], "big")
        self._by_hash[number][digest] = grant
        self._number(number)
        feeds: list[tuple[Group, Listener]] = [
            (grant.subjects, Subjects(standing)),
            *((group, Peers(standing, group)) for group in grant.peer_groups),
        ]
        for place in grant.peer_places:
            standing.peer_comes(place)
        self._listening[grant] = feeds
        for group, feed in feeds:
            self._selection.listen(group, feed)
        return standing

    def _end(self, standing: StandingGrant) -> None:
        grant = standing.grant
        standing.withdraw()
        for group, feed in self._listening.pop(grant):
            self._selection.stop(group, feed)
        del self._standing[grant]
        digest = grant.digest()
        number = int.from_bytes(digest[:_HASH_OCTETS], "big")
        del self._by_hash[number][digest]
        if self._by_hash[number]:
            self._number(number)
        else:
            del self._by_hash[number]

    def _number(self, number: int) -> None:
        """Give the grants of one hash their conjunctions: by rank, which begins at 1, for
        conjunction 0 would hold for every packet.
        """
        grants = self._by_hash[number]
        for rank, digest in enumerate(sorted(grants), 1):
            if rank >> _RANK_BITS:
                raise ValueError(f"more than {rank - 1} grants have the hash {number:#x}")
            self._standing[grants[digest]].renumber(number << _RANK_BITS | rank)

    def _begin_isolation(self, group: Group, direction: Direction, policy: PolicyRef) -> None:
        if group not in self._isolating:
            self._isolating[group] = {each: set() for each in Direction}
            watcher = self._watchers[group] = _Watcher(self._dirty)
            self._selection.listen(group, watcher)
        policies = self._isolating[group][direction]
        if not policies:
            self._dirty.update(member.ref for member in self._selection.members(group))
        policies.add(policy)

    def _end_isolation(self, group: Group, direction: Direction, policy: PolicyRef) -> None:
        policies = self._isolating[group][direction]
        policies.discard(policy)
        if not policies:
            self._dirty.update(member.ref for member in self._selection.members(group))
        if not any(self._isolating[group].values()):
            del self._isolating[group]
            self._selection.stop(group, self._watchers.pop(group))

    def _isolate(self, ref: PodRef) -> None:
        """Bring a pod's isolation to what it must be on the node that it is on."""
        before, had = self._isolated.get(ref, (None, frozenset()))
        member = self._selection.member(ref)
        now = frozenset[Direction]()
        if member is not None and member.home:
            groups = self._selection.groups_of(ref)
            now = frozenset(
                direction
                for direction in Direction
                if any(self._isolating.get(g, {}).get(direction) for g in groups)
            )
        if now and member is not None:
            self._isolated[ref] = member, now
        else:
            self._isolated.pop(ref, None)
        for direction in now ^ had:
            self._isolated_pods[direction] += 1 if direction in now else -1
        moved = before is not None and (member is None or before.home != member.home)
        if before is not None:
            for direction in had if moved else had - now:
                self._work.on(before.home).gone.append(isolation_owner(ref, direction))
        if member is None:
            return
        same = before is not None and not moved and before.addresses == member.addresses
        for direction in now - had if same else now:
            self._work.on(member.home).blocks.append(_isolation_block(member, direction))


class _Watcher:
    """Notes which pods' isolation must be looked at."""

    __slots__ = ("_dirty",)

    def __init__(self, dirty: set[PodRef]) -> None:
        self._dirty = dirty

    def joined(self, member: Member) -> None:
        self._dirty.add(member.ref)

    def changed(self, _: Member, now: Member, /) -> None:
        self._dirty.add(now.ref)

    def left(self, member: Member) -> None:
        self._dirty.add(member.ref)


def _isolation_block(member: Member, direction: Direction) -> Block:
    return block(isolation_owner(member.ref, direction), isolated(direction, member.addresses))


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


def _declared(member: Member | None) -> Iterator[tuple[PortName, int]]:
    """The named ports of a pod, each once."""
    if member is None:
        return
    ports = (p for p in member.ports if p.name and p.protocol in _ALL)
    for name in {PortName(Protocol(p.protocol), p.name) for p in ports}:
        number = name.number(member)
        if number is not None:
            yield name, number


def _rules_text(rules: Iterable[RuleRef]) -> str:
    return f"policy {_names(map(str, sorted(rules)))}"


_MOST_NAMES = 8


def _names(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - _MOST_NAMES
    shown = ", ".join(found[:_MOST_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown
