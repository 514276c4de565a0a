"""What a watch tells its consumer: frozen values.

The consumer's view of a kind starts with a `Synced` and is kept right by what follows. While the
API server cannot be reached nothing comes but one `Stale`: what was known stays in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from ovsnet.api.objects import AnyKind, Key


class Synced(msgspec.Struct, frozen=True):
    """Everything there is of a kind, after a list; the consumer computes the difference.

    Nobody changes `objects` after it was handed out.
    """

    kind: AnyKind
    objects: Mapping[Key, object]


class Changed(msgspec.Struct, frozen=True):
    """An object is new, or differs from what was told before in something the model holds."""

    kind: AnyKind
    key: Key
    object: object


class Deleted(msgspec.Struct, frozen=True):
    """An object that had been told of is gone, or can no longer be read."""

    kind: AnyKind
    key: Key
    uid: str


class Stale(msgspec.Struct, frozen=True):
    """The watch is broken; nothing is known of what happened `since` (seconds of the clock)."""

    kind: AnyKind
    since: float
    reason: str


class Fresh(msgspec.Struct, frozen=True):
    """The watch that was `Stale` works again. After a `Stale` it comes before any other news."""

    kind: AnyKind


class Reached(msgspec.Struct, frozen=True):
    """Everything of a kind up to `version` has been told.

    `asked` is the last of the numbers with which a fresh list was asked for (`Watch.refresh`)
    before the list began that is the base of it: all that was written before then is told, too.
    """

    kind: AnyKind
    version: int
    asked: int = 0


Event: TypeAlias = Synced | Changed | Deleted | Stale | Fresh | Reached
"""What a consumer is told."""


class Malformed(msgspec.Struct, frozen=True):
    """For the log: an object of which a field, or all of it, could not be used."""

    kind: AnyKind
    object: str
    field: str
    reason: str


class Rewound(msgspec.Struct, frozen=True):
    """For the log: the server's history starts over; a backup was restored, most likely."""

    kind: AnyKind
    seen: int
    now: int


Note: TypeAlias = Malformed | Rewound
"""What an operator should read, but no consumer acts on."""
