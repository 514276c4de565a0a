"""Which pods a selector means, kept up to date: groups of pods that policies speak of.

Groups are compared by what they say, so rules that mean the same pods share one. A change of a
pod or namespace looks only at the groups that its labels may concern.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeAlias

import msgspec

from ovsnet.model import ContainerPort, IPAddress, Operator, PodRef, Requirement, Selector

Labels: TypeAlias = tuple[tuple[str, str], ...]
_Label: TypeAlias = tuple[str, str] | None


class Member(msgspec.Struct, frozen=True):
    """A pod on the network as policies see it.

    `home` is the node whose switch has its port; empty while that is not known, so that the pod is
    a peer of others but no subject anywhere.
    """

    ref: PodRef
    labels: Labels
    addresses: tuple[IPAddress, ...]
    home: str = ""
    ports: tuple[ContainerPort, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """Pods by their labels, in one namespace or in all those that a selector selects.

    With neither `namespace` nor `namespaces` it is every pod there is.
    """

    pods: Selector
    namespace: str = ""
    namespaces: Selector | None = None

    @property
    def order(self) -> tuple[object, ...]:
        """What groups are put in order by."""
        anywhere = self.namespaces is None
        return self.pods, self.namespace, anywhere, self.namespaces or Selector()


class Listener(Protocol):
    """Who wants to know of a group's members."""

    def joined(self, member: Member) -> None:
        """There is a new member."""

    def changed(self, before: Member, now: Member, /) -> None:
        """A member is still one, but not as it was."""

    def left(self, member: Member) -> None:
        """A member, as it was, is none any more."""


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a selector selects these labels (LabelSelector, meta/v1)."""
    return all(labels.get(key) == value for key, value in selector.labels) and all(
        _fulfils(each, labels) for each in selector.expressions
    )


def _fulfils(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case Operator.IN:
            return value is not None and value in requirement.values
        case Operator.NOT_IN:
            return value is None or value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None


class _Watched:
    """A group with its members and listeners."""

    __slots__ = ("listeners", "members")

    def __init__(self) -> None:
        self.members: dict[PodRef, Member] = {}
        self.listeners: list[Listener] = []


class Selection:
    """All groups that somebody listens to, and all pods and namespaces."""

    def __init__(self) -> None:
        self._members: dict[PodRef, Member] = {}
        self._groups_of: dict[PodRef, frozenset[Group]] = {}
        self._namespaces: dict[str, dict[str, str]] = {}
        self._watched: dict[Group, _Watched] = {}
        # Groups by namespace (empty: of several) and by one label that their members must have.
        self._by_label: dict[tuple[str, _Label], set[Group]] = defaultdict(set)
        # Pods by namespace (empty: of any) and label; None: all of the namespace.
        self._pods_by: dict[tuple[str, _Label], set[PodRef]] = defaultdict(set)

    def members(self, group: Group) -> Iterable[Member]:
        """The members of a group that somebody listens to."""
        return self._watched[group].members.values()

    def groups_of(self, ref: PodRef) -> frozenset[Group]:
        """The groups that a pod is in."""
        return self._groups_of.get(ref, frozenset())

    def member(self, ref: PodRef) -> Member | None:
        """A pod, if it is on the network."""
        return self._members.get(ref)

    def listen(self, group: Group, listener: Listener) -> None:
        """Tell a listener of the present members, and of every change from now on."""
        watched = self._watched.get(group)
        if watched is None:
            watched = self._begin(group)
        watched.listeners.append(listener)
        for member in watched.members.values():
            listener.joined(member)

    def stop(self, group: Group, listener: Listener) -> None:
        """Tell a listener that all members left, and nothing more."""
        watched = self._watched[group]
        watched.listeners.remove(listener)
        for member in watched.members.values():
            listener.left(member)
        if not watched.listeners:
            self._end(group, watched)

    def put(self, member: Member) -> None:
        """A pod as it is now."""
        before = self._members.get(member.ref)
        self._members[member.ref] = member
        if before is not None and before.labels == member.labels:
            self._regroup(member.ref, before, member, self.groups_of(member.ref))
            return
        self._unindex(before)
        for place in _places(member):
            self._pods_by[place].add(member.ref)
        self._regroup(member.ref, before, member, frozenset(self._groups_for(member)))

    def drop(self, ref: PodRef) -> None:
        """A pod is on the network no more."""
        before = self._members.get(ref)
        if before is None:
            return
        self._unindex(before)
        del self._members[ref]
        self._regroup(ref, before, None, frozenset())

    def set_namespace(self, name: str, labels: Labels | None) -> None:
        """A namespace as it is now; None: it is gone, or unknown."""
        present = None if labels is None else dict(labels)
        if self._namespaces.get(name) == present:
            return
        if present is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = present
        for ref in sorted(self._pods_by.get((name, None), ())):
            member = self._members[ref]
            self._regroup(ref, member, member, frozenset(self._groups_for(member)))

    def _begin(self, group: Group) -> _Watched:
        watched = self._watched[group] = _Watched()
        self._by_label[_place_of(group)].add(group)
        for member in self._candidates(group):
            if self._belongs(group, member):
                watched.members[member.ref] = member
                self._groups_of[member.ref] = self._groups_of.get(member.ref, frozenset()) | {group}
        return watched

    def _end(self, group: Group, watched: _Watched) -> None:
        del self._watched[group]
        place = _place_of(group)
        self._by_label[place].discard(group)
        if not self._by_label[place]:
            del self._by_label[place]
        for ref in watched.members:
            self._groups_of[ref] -= {group}

    def _candidates(self, group: Group) -> Iterator[Member]:
        """Pods among which all members of a group are."""
        refs = self._pods_by.get(_place_of(group), set())
        return (self._members[ref] for ref in refs)

    def _groups_for(self, member: Member) -> Iterator[Group]:
        for place in _places(member):
            for group in self._by_label.get(place, ()):
                if self._belongs(group, member):
                    yield group

    def _belongs(self, group: Group, member: Member) -> bool:
        if group.namespace and group.namespace != member.ref.namespace:
            return False
        if group.namespaces is not None:
            labels = self._namespaces.get(member.ref.namespace)
            # Of a namespace that is not known nobody can say what labels it has.
            if labels is None or not selects(group.namespaces, labels):
                return False
        return selects(group.pods, dict(member.labels))

    def _regroup(
        self, ref: PodRef, before: Member | None, now: Member | None, groups: frozenset[Group]
    ) -> None:
        old = self._groups_of.get(ref, frozenset())
        if groups:
            self._groups_of[ref] = groups
        else:
            self._groups_of.pop(ref, None)
        for group in old - groups:
            watched = self._watched[group]
            present = watched.members.pop(ref)
            for listener in watched.listeners:
                listener.left(present)
        if now is None:
            return
        if before is not None and before != now:
            for group in old & groups:
                watched = self._watched[group]
                watched.members[ref] = now
                for listener in watched.listeners:
                    listener.changed(before, now)
        for group in groups - old:
            watched = self._watched[group]
            watched.members[ref] = now
            for listener in watched.listeners:
                listener.joined(now)

    def _unindex(self, member: Member | None) -> None:
        if member is None:
            return
        for place in _places(member):
            self._pods_by[place].discard(member.ref)
            if not self._pods_by[place]:
                del self._pods_by[place]


def _places(member: Member) -> Iterator[tuple[str, _Label]]:
    """Where a pod is indexed, and where the groups are that it may belong to."""
    for namespace in (member.ref.namespace, ""):
        yield namespace, None
        for label in member.labels:
            yield namespace, label


def _place_of(group: Group) -> tuple[str, _Label]:
    """Where a group is indexed: by the first label that its members must have, if there is one."""
    return group.namespace, group.pods.labels[0] if group.pods.labels else None
