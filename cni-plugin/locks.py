"""Locks by name: what concerns one pod happens in order, different pods do not wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Busy(Exception):  # noqa: N818
    """Somebody else held the lock for all of the time there was."""


class KeyedLocks:
    """One lock per key, which exists only while somebody holds or wants it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[object, tuple[threading.Lock, int]] = {}

    @contextmanager
    def held(self, key: object, timeout: float = -1) -> Iterator[None]:
        """Hold the lock of `key`; waits for it up to `timeout` seconds (-1: for ever).

        Raises:
            Busy: it was not free in time.
        """
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=timeout):
                raise Busy(key)
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = (lock, users - 1)
