"""Connections that have not shown yet who they are: only so many at a time.

Anybody can open connections and say nothing. When there are too many of them, one has to go for
the next: the oldest of the address that has the most. So whoever opens many pushes out their own,
and a good switch, which needs milliseconds, is through before its turn comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class Newcomers(Generic[KeyT]):
    """At most `most` of them, with the address of each. Not for several threads at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._address: dict[KeyT, str] = {}
        self._count: Counter[str] = Counter()

    def enter(self, key: KeyT, address: str) -> KeyT | None:
        """Take one in; returns the one that has to go for it, if any has."""
        self._address[key] = address
        self._count[address] += 1
        if len(self._address) <= self._most:
            return None
        crowd = max(self._count.values())
        leaves = next(k for k, a in self._address.items() if self._count[a] == crowd)
        self.leave(leaves)
        return leaves

    def leave(self, key: KeyT) -> None:
        """One has shown who it is, or is gone; nothing happens if it is not among them."""
        address = self._address.pop(key, None)
        if address is not None:
            self._count[address] -= 1
            if not self._count[address]:
                del self._count[address]
