"""What is known of one kind of objects, and what a reading of one adds to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from ovsnet.api.decode import Happened, Read
from ovsnet.api.events import Changed, Deleted, Malformed, Synced
from ovsnet.api.objects import AnyKind, Key, Problem, ValueT, name_of


class View(Generic[ValueT]):
    """The last known version of every object, by which late and repeated news is recognised.

    Versions of one kind grow with every write. News that is not newer than what is known of its
    object is none. Deleted objects are kept with the version of their deletion, so that an old
    write does not bring them back, until `floor` has passed it: up to there the view is complete,
    and nothing that is older can be news.
    """

    def __init__(self, kind: AnyKind) -> None:
        self._kind = kind
        self._known: dict[Key, Read[ValueT]] = {}
        self._gone: dict[Key, int] = {}
        self._problems: dict[Key, tuple[Problem, ...]] = {}
        self._floor = 0

    def replaced(
        self, objects: Iterable[Read[ValueT]], version: int
    ) -> tuple[Malformed | Synced, ...]:
        """A list says what there is at a version."""
        self._known = {read.key: read for read in objects}
        self._gone = {}
        self._floor = version
        complaints = [c for read in self._known.values() for c in self._complaints(read)]
        self._problems = {k: p for k, p in self._problems.items() if k in self._known}
        held = {key: read.value for key, read in self._known.items() if read.value is not None}
        return (*complaints, Synced(self._kind, held))

    def complete(self, version: int) -> None:
        """Everything up to this version has been told."""
        if version > self._floor:
            self._floor = version
            self._gone = {key: v for key, v in self._gone.items() if v > version}

    def happened(self, news: Happened[ValueT]) -> tuple[Malformed | Changed | Deleted, ...]:
        """A watch says that an object was written or deleted: what of it a consumer must know."""
        read = news.object
        known = self._known.get(read.key)
        if news.deleted:
            return self._deleted(read, known)
        if self._is_old(read, known):
            return ()
        self._gone.pop(read.key, None)
        self._known[read.key] = read
        return (*self._complaints(read), *self._written(read, known))

    def _deleted(self, read: Read[ValueT], known: Read[ValueT] | None) -> tuple[Deleted, ...]:
        # A uid never comes back, so that its deletion is true whenever it is told.
        if self._is_old(read, known) and not (known and known.uid == read.uid):
            return ()
        self._gone[read.key] = max(read.version, known.version if known else 0)
        self._known.pop(read.key, None)
        self._problems.pop(read.key, None)
        return self._withdrawn(known)

    def _written(
        self, read: Read[ValueT], known: Read[ValueT] | None
    ) -> tuple[Changed | Deleted, ...]:
        if read.value is None:
            return self._withdrawn(known)
        changed = Changed(self._kind, read.key, read.value)
        if known is None or known.uid != read.uid:
            return (*self._withdrawn(known), changed)
        return () if known.value == read.value else (changed,)

    def _withdrawn(self, known: Read[ValueT] | None) -> tuple[Deleted, ...]:
        if known is None or known.value is None:
            return ()
        return (Deleted(self._kind, known.key, known.uid),)

    def _is_old(self, read: Read[ValueT], known: Read[ValueT] | None) -> bool:
        newest = known.version if known else self._gone.get(read.key, 0)
        return read.version <= max(newest, self._floor)

    def _complaints(self, read: Read[ValueT]) -> tuple[Malformed, ...]:
        """What is wrong with an object, unless that was said of it before."""
        said = self._problems.pop(read.key, ())
        if not read.problems:
            return ()
        self._problems[read.key] = read.problems
        if said == read.problems:
            return ()
        name = name_of(read.key)
        return tuple(Malformed(self._kind, name, p.field, p.reason) for p in read.problems)
