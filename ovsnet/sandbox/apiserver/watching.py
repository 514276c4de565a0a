"""What a watch sees: the changes after a revision, as its selectors make them look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ovsnet.sandbox.apiserver.kinds import Kind
from ovsnet.sandbox.apiserver.selectors import EVERYTHING, Selector
from ovsnet.sandbox.apiserver.store import Change, Collection, Stored, encode


class EventType(StrEnum):
    """What happened, in the words of the watch protocol."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


@dataclass(frozen=True)
class WatchEvent:
    """One event of a watch."""

    type: EventType
    object: Stored


@dataclass(frozen=True)
class Scope:
    """Which objects of a kind a list or watch is about."""

    namespace: str | None = None
    labels: Selector = EVERYTHING
    fields: Selector = EVERYTHING

    def covers(self, item: Stored) -> bool:
        """Whether the object is in scope."""
        return (
            (self.namespace is None or item.key[0] == self.namespace)
            and self.labels.matches(item.labels)
            and self.fields.matches(item.fields)
        )

    def filter(self, items: Iterable[Stored]) -> list[Stored]:
        """The objects in scope, in the order given."""
        if not self.labels and not self.fields and self.namespace is None:
            return list(items)
        return [item for item in items if self.covers(item)]


def select(collection: Collection, scope: Scope) -> list[Stored]:
    """The objects of a collection that are in scope now, in the order of their keys."""
    name = scope.fields.exactly("metadata.name")
    if name is not None and (scope.namespace is not None or not collection.kind.namespaced):
        found = collection.get((scope.namespace or "", name))
        return [found] if found is not None and scope.covers(found) else []
    return scope.filter(collection.items(scope.namespace))


def event_of(kind: Kind, change: Change, scope: Scope) -> WatchEvent | None:
    """How a change looks within a scope; None if it is not seen at all.

    An object that leaves the scope is DELETED: with the content it last had inside, so that the
    watcher can find it, and the revision at which it left.
    """
    was = change.before is not None and scope.covers(change.before)
    now = not change.deleted and scope.covers(change.after)
    if now:
        return WatchEvent(EventType.MODIFIED if was else EventType.ADDED, change.after)
    if not was or change.before is None:
        return None
    if change.deleted:
        return WatchEvent(EventType.DELETED, change.after)
    last_inside = encode(kind, change.before.decode(), change.revision)
    return WatchEvent(EventType.DELETED, last_inside)


class Cursor:
    """A watch's place in a collection's history. It holds no events, only that place."""

    def __init__(self, collection: Collection, scope: Scope, revision: int) -> None:
        """Start after a revision. Raises ApiError (410 Expired) if it is too old."""
        self._collection = collection
        self._scope = scope
        self._position = collection.position(revision)
        self._after = revision

    def advance(self) -> list[WatchEvent]:
        """The events since the last call, in order, each once.

        Raises ApiError (410 Expired) if the watch is so far behind that some are lost.
        """
        changes = self._collection.changes(self._position)
        self._position += len(changes)
        # A watch may start at a revision that is yet to come.
        new = (change for change in changes if change.revision > self._after)
        seen = (event_of(self._collection.kind, change, self._scope) for change in new)
        return [event for event in seen if event is not None]
