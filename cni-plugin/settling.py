"""Finds out when a revision of the flows is in effect on this node, and tells of it.

The switch has a revision when its stamp says so; in effect, or settled, it is when nothing cached
from before is used any more. One thread does one after the other: it sees the stamp change, waits
until the switch has put its cache right, and reports. Stamps that change meanwhile cost one more
wait together, for the newest of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from ovsnet import logs
from ovsnet.cni.control import ControlError
from ovsnet.cni.flowupdates import WatchError
from ovsnet.cni.stampwatch import Stamp

_log = logs.get("settling")
_CONNECT_AGAIN = 0.1


class Watch(Protocol):
    """What the switch says of its stamp; `StampWatch` is one."""

    def newest(self) -> Stamp | None:
        """The stamp at this moment, as far as the switch has told; does not wait."""

    def wait(self) -> None:
        """Return when the switch has told more."""

    def cut(self) -> None:
        """Make `wait` fail, from another thread."""


class Cache(Protocol):
    """The switch's cache; `Revalidation` is one."""

    def finish(self) -> None:
        """Return when every change made before the call is in effect."""


class Settling:
    """The thread that watches the switch. `settled` is called in it.

    `settled` gets the stamp of what is in effect now, or None when the switch is gone: what was
    reported of it says nothing about the one that comes.
    """

    def __init__(
        self,
        watch: Callable[[], AbstractContextManager[Watch]],
        cache: Callable[[], AbstractContextManager[Cache]],
        settled: Callable[[Stamp | None], None],
    ) -> None:
        self._open_watch = watch
        self._open_cache = cache
        self._settled = settled
        self._reason = ""
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when nothing more is told."""
        with self._lock:
            self._stopping.set()
            if self._watch is not None:
                self._watch.cut()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.follow()
            except (WatchError, ControlError) as error:
                self._away(str(error))
            except Exception as error:
                # Whatever it is, the switch goes on, and the next connection may do better.
                _log.exception("watching the switch failed")
                self._away(f"{type(error).__name__}: {error}")
            self._stopping.wait(_CONNECT_AGAIN)

    def _away(self, reason: str) -> None:
        self._settled(None)
        if not self._stopping.is_set() and reason != self._reason:
            _log.warning("cannot tell which flows are in effect", reason=reason)
        self._reason = reason

    def follow(self) -> None:
        """Watch one run of the switch for as long as it lasts, or until `stop`.

        Raises:
            WatchError, ControlError: it does not run, or no longer.
        """
        with self._open_watch() as watch, self._open_cache() as cache:
            with self._lock:
                if self._stopping.is_set():
                    return
                self._watch = watch
            try:
                self._report_all(watch, cache)
            finally:
                with self._lock:
                    self._watch = None

    def _report_all(self, watch: Watch, cache: Cache) -> None:
        done: Stamp | None = None
        while True:
            stamp = watch.newest()
            if stamp is None or stamp == done:
                watch.wait()
                continue
            # The stamp was seen before this begins: so were in all flows that it stands for.
            cache.finish()
            if self._reason:
                _log.info("the switch says again which flows are in effect")
                self._reason = ""
            done = stamp
            self._settled(stamp)
