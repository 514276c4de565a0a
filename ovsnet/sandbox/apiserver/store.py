"""What is stored: objects as immutable encodings, one revision counter, a bounded history.

Every write takes the next revision of the one counter, so revisions are unique and ordered over
all kinds. An object is kept as its JSON text, made once, which lists and watches send as it is.
The history of a collection allows a watch to start at a past revision, and a paged list to go on
with the state of its first page; what has fallen out of it is answered with 410 Expired.

Nothing here does input or output, and nothing is thread-safe: one thread owns the store.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping

import msgspec

from ovsnet.sandbox.apiserver.kinds import Kind, Object
from ovsnet.sandbox.apiserver.status import expired

Key = tuple[str, str]
"""Namespace and name; the namespace is empty for what has none."""


class Stored(msgspec.Struct, frozen=True):
    """An object at one revision."""

    key: Key
    uid: str
    revision: int
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    owners: tuple[str, ...]
    """The uids of its owners."""
    body: bytes
    """The whole object as JSON, its resourceVersion included."""

    def decode(self) -> Object:
        """A fresh copy of the object, the caller's to change."""
        decoded: Object = msgspec.json.decode(self.body)
        return decoded


class Change(msgspec.Struct, frozen=True):
    """One write."""

    revision: int
    before: Stored | None
    after: Stored
    """The object as written; for a deletion its last state, with the deletion's revision."""
    deleted: bool


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def selectable_fields(kind: Kind, obj: Object) -> dict[str, str]:
    """What field selectors can ask of an object: dotted path to text."""
    metadata = obj["metadata"]
    fields = {"metadata.name": metadata["name"]}
    if kind.namespaced:
        fields["metadata.namespace"] = metadata["namespace"]
    for path in kind.fields:
        value: object = obj
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        fields[path] = _field(value)
    return fields


def encode(kind: Kind, obj: Object, revision: int) -> Stored:
    """Encode an object as of a revision. Its metadata is changed to carry it."""
    metadata = obj["metadata"]
    metadata["resourceVersion"] = str(revision)
    return Stored(
        key=(metadata.get("namespace", ""), metadata["name"]),
        uid=metadata["uid"],
        revision=revision,
        labels=metadata.get("labels", {}),
        fields=selectable_fields(kind, obj),
        owners=tuple(owner["uid"] for owner in metadata.get("ownerReferences", ())),
        body=msgspec.json.encode(obj),
    )


class Collection:
    """All objects of one kind, in the order of their keys, with their recent history."""

    def __init__(self, kind: Kind, history: int) -> None:
        self.kind = kind
        self._limit = history
        self._objects: dict[Key, Stored] = {}
        self._keys: list[Key] = []
        self._log: list[Change] = []
        self._forgotten = 0
        self.compacted = 0
        """The last revision that the history no longer holds: a watch may start there."""

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key) -> Stored | None:
        """The object of that key, or None."""
        return self._objects.get(key)

    def items(self, namespace: str | None = None) -> Iterator[Stored]:
        """The objects of one namespace, or all of them, in the order of their keys."""
        keys = self._keys
        start = 0 if namespace is None else bisect_left(keys, (namespace, ""))
        for position in range(start, len(keys)):
            key = keys[position]
            if namespace is not None and key[0] != namespace:
                return
            yield self._objects[key]

    def record(self, change: Change) -> None:
        """Apply a write and remember it, forgetting the oldest beyond the limit."""
        key = change.after.key
        if change.deleted:
            del self._objects[key]
            del self._keys[bisect_left(self._keys, key)]
        else:
            if change.before is None:
                insort(self._keys, key)
            self._objects[key] = change.after
        self._log.append(change)
        # Trimmed in strides: removing the head of a list costs as much as the list is long.
        if len(self._log) > self._limit + self._limit // 4:
            self.compact(keep=self._limit)

    def compact(self, keep: int = 0) -> None:
        """Forget all but the newest `keep` changes."""
        surplus = len(self._log) - keep
        if surplus > 0:
            self.compacted = self._log[surplus - 1].revision
            self._forgotten += surplus
            del self._log[:surplus]

    def position(self, revision: int) -> int:
        """The place in the history after a revision, counted from the first change ever.

        Raises ApiError (410 Expired) if changes after that revision are no longer held.
        """
        if revision < self.compacted:
            raise expired(f"too old resource version: {revision} ({self.compacted})")
        after = bisect_left(self._log, revision + 1, key=lambda change: change.revision)
        return self._forgotten + after

    def changes(self, position: int) -> list[Change]:
        """The changes from a place on, oldest first.

        Raises ApiError (410 Expired) if some of them are no longer held. Who has read everything
        is never behind, even when all history is forgotten.
        """
        if position < self._forgotten:
            raise expired("the watch fell behind the history that is kept; list again")
        return self._log[position - self._forgotten :]

    def at(self, revision: int, namespace: str | None = None) -> list[Stored]:
        """The objects as they were at a revision, in the order of their keys.

        Raises ApiError (410 Expired) if the history does not reach back that far.
        """
        changes = self.changes(self.position(revision))
        if not changes:
            return list(self.items(namespace))
        objects = {item.key: item for item in self.items(namespace)}
        for change in reversed(changes):
            key = change.after.key
            if namespace is not None and key[0] != namespace:
                continue
            if change.before is None:
                objects.pop(key, None)
            else:
                objects[key] = change.before
        return [objects[key] for key in sorted(objects)]


Listener = Callable[[Kind, Change], None]


class Store:
    """Every collection, and the one counter of revisions."""

    def __init__(self, kinds: tuple[Kind, ...], history: int = 10_000) -> None:
        self.revision = 1
        self._collections = {kind: Collection(kind, history) for kind in kinds}
        self._listeners: list[Listener] = []

    def __getitem__(self, kind: Kind) -> Collection:
        return self._collections[kind]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after every write; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def write(self, kind: Kind, obj: Object) -> Stored:
        """Store a new object or a new state of one, at the next revision."""
        after = encode(kind, obj, self.revision + 1)
        self._record(kind, Change(after.revision, self[kind].get(after.key), after, False))
        return after

    def remove(self, kind: Kind, obj: Object) -> Stored:
        """Remove an object whose last state is `obj`. Raises KeyError if it is not there."""
        after = encode(kind, obj, self.revision + 1)
        before = self[kind].get(after.key)
        if before is None:
            raise KeyError(after.key)
        self._record(kind, Change(after.revision, before, after, True))
        return after

    def compact(self) -> None:
        """Forget all history, so that whoever watches from the past must list again."""
        for collection in self._collections.values():
            collection.compact()
            collection.compacted = self.revision

    def _record(self, kind: Kind, change: Change) -> None:
        self.revision = change.revision
        self[kind].record(change)
        for listener in tuple(self._listeners):
            listener(kind, change)
