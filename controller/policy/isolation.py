"""Who is isolated: the pods that some policy selects, by direction, and their flows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ovsnet.controller.policy.selection import Group, Member, Selection
from ovsnet.controller.policy.work import Work
from ovsnet.flows.flow import Block, Owner, OwnerKind, block
from ovsnet.flows.policy import isolated
from ovsnet.model import Direction, PodRef, PolicyRef


def isolation_owner(ref: PodRef, direction: Direction) -> Owner:
    """The owner of the flows that isolate a pod in a direction."""
    return Owner(OwnerKind.POLICY, f"isolation of {ref} {direction}")


class Isolation:
    """Every isolated pod, kept up to date as policies begin and end and groups change.

    What policies select is noted by group, not by pod: ten thousand policies that select the same
    ten thousand pods are ten thousand entries and not their square.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._policies: dict[Group, dict[Direction, set[PolicyRef]]] = {}
        self._watchers: dict[Group, _Watcher] = {}
        self._changed: set[PodRef] = set()
        self._isolated: dict[PodRef, tuple[Member, frozenset[Direction]]] = {}
        self._counts = dict.fromkeys(Direction, 0)

    @property
    def pods(self) -> Iterable[tuple[Member, Direction]]:
        """Every isolated pod, with each direction in which it is."""
        for member, directions in self._isolated.values():
            yield from ((member, direction) for direction in sorted(directions))

    @property
    def counts(self) -> Mapping[Direction, int]:
        """How many pods are isolated in each direction."""
        return MappingProxyType(self._counts)

    def directions(self, ref: PodRef) -> tuple[Direction, ...]:
        """The directions in which a pod is isolated, in order."""
        _, directions = self._isolated.get(ref, (None, frozenset()))
        return tuple(sorted(directions))

    def policies(self, ref: PodRef, direction: Direction) -> tuple[PolicyRef, ...]:
        """The policies that isolate a pod in a direction, in order."""
        found: set[PolicyRef] = set()
        for group in self._selection.groups_of(ref):
            found |= self._policies.get(group, {}).get(direction, set())
        return tuple(sorted(found))

    def policies_if_few(
        self, ref: PodRef, direction: Direction, most: int
    ) -> tuple[PolicyRef, ...] | None:
        """As `policies`, if they are no more than `most`."""
        found: list[PolicyRef] = []
        for group in self._selection.groups_of(ref):
            # Every policy has one group of subjects, so none is met twice.
            policies = self._policies.get(group, {}).get(direction, set())
            if len(found) + len(policies) > most:
                return None
            found += policies
        return tuple(sorted(found))

    def begin(self, group: Group, direction: Direction, policy: PolicyRef) -> None:
        """A policy isolates the pods of a group from now on."""
        if group not in self._policies:
            self._policies[group] = {each: set() for each in Direction}
            watcher = self._watchers[group] = _Watcher(self._changed)
            self._selection.listen(group, watcher)
        policies = self._policies[group][direction]
        if not policies:
            self._changed.update(member.ref for member in self._selection.members(group))
        policies.add(policy)

    def end(self, group: Group, direction: Direction, policy: PolicyRef) -> None:
        """A policy isolates the pods of a group no more."""
        policies = self._policies[group][direction]
        policies.discard(policy)
        if not policies:
            self._changed.update(member.ref for member in self._selection.members(group))
        if not any(self._policies[group].values()):
            del self._policies[group]
            self._selection.stop(group, self._watchers.pop(group))

    def look_at(self, ref: PodRef) -> None:
        """A pod has changed."""
        self._changed.add(ref)

    def settle(self, work: Work) -> None:
        """Add to the work what has changed of pods' isolation."""
        for ref in sorted(self._changed):
            self._settle(ref, work)
        self._changed.clear()

    def _settle(self, ref: PodRef, work: Work) -> None:
        before, had = self._isolated.get(ref, (None, frozenset()))
        member = self._selection.member(ref)
        now = self._due(member)
        if now and member is not None:
            self._isolated[ref] = member, now
        else:
            self._isolated.pop(ref, None)
        for direction in now ^ had:
            self._counts[direction] += 1 if direction in now else -1
        moved = before is not None and (member is None or before.home != member.home)
        if before is not None:
            for direction in had if moved else had - now:
                work.on(before.home).gone.append(isolation_owner(ref, direction))
        if member is None:
            return
        same = before is not None and not moved and before.addresses == member.addresses
        for direction in now - had if same else now:
            work.on(member.home).blocks.append(_block(member, direction))

    def _due(self, member: Member | None) -> frozenset[Direction]:
        """The directions in which a pod must be isolated on the node that it is on."""
        if member is None or not member.home:
            return frozenset()
        groups = [g for g in self._selection.groups_of(member.ref) if g in self._policies]
        return frozenset(d for d in Direction if any(self._policies[g][d] for g in groups))


class _Watcher:
    """Notes which pods must be looked at."""

    __slots__ = ("_changed",)

    def __init__(self, changed: set[PodRef]) -> None:
        self._changed = changed

    def joined(self, member: Member) -> None:
        self._changed.add(member.ref)

    def changed(self, _: Member, now: Member, /) -> None:
        self._changed.add(now.ref)

    def left(self, member: Member) -> None:
        self._changed.add(member.ref)


def _block(member: Member, direction: Direction) -> Block:
    return block(isolation_owner(member.ref, direction), isolated(direction, member.addresses))
