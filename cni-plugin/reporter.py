"""Tells a controller, over HTTP, which flows are in effect on this node.

A report is sent as soon as there is something new, and the last one again from time to time: a
controller that has just started learns of it without asking.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from ovsnet import logs
from ovsnet.cni.exchange import ExchangeError
from ovsnet.cni.stampwatch import Stamp

_log = logs.get("reporter")

REPEAT = 2.0
"""Seconds after which the last report is sent again."""

FAILED_AGAIN = 0.5
"""Seconds after which a report is sent again that was not taken."""


class Channel(Protocol):
    """Speaks with the controller; `Exchange` does. Raises ExchangeError."""

    def post(self, path: str, document: object) -> None:
        """Send a document."""

    def end(self) -> None:
        """Make the request that is under way fail, and every later one."""


class Reporter:
    """The thread that reports to one controller."""

    def __init__(
        self,
        node: str,
        target: str,
        channel: Channel,
        repeat: float = REPEAT,
        failed_again: float = FAILED_AGAIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`repeat` and `failed_again` are in seconds; see `REPEAT` and `FAILED_AGAIN`."""
        self._node = node
        self._log = _log.bind(controller=target)
        self._channel = channel
        self._repeat = repeat
        self._failed_again = failed_again
        self._clock = clock
        self._changed = threading.Condition()
        self._stamp: Stamp | None = None
        self._sent: Stamp | None = None
        self._again = 0.0
        self._reason = ""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a report that is on its way may or may not arrive."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._channel.end()
        self._thread.join()

    def settled(self, stamp: Stamp | None) -> None:
        """Report this from now on; None: report nothing. From any thread."""
        with self._changed:
            self._stamp = stamp
            self._changed.notify()

    def _run(self) -> None:
        while (stamp := self._next()) is not None:
            self._sent = stamp
            document = {
                "node": self._node,
                "digest": f"{stamp.digest:016x}",
                "serial": stamp.serial,
            }
            try:
                self._channel.post("/settled", document)
            except ExchangeError as error:
                if self._stopping:
                    return
                self._failed(str(error))
                self._again = self._clock() + self._failed_again
            else:
                self._succeeded()
                self._again = self._clock() + self._repeat

    def _next(self) -> Stamp | None:
        """Wait for the next report to send; None when there will be no more."""
        with self._changed:
            while not self._stopping:
                now = self._clock()
                if self._stamp is not None and (self._stamp != self._sent or now >= self._again):
                    return self._stamp
                self._changed.wait(None if self._stamp is None else self._again - now)
            return None

    def _failed(self, reason: str) -> None:
        if reason != self._reason:
            self._log.warning("controller takes no report", node=self._node, reason=reason)
        self._reason = reason

    def _succeeded(self) -> None:
        if self._reason:
            self._log.info("controller takes reports again", node=self._node)
        self._reason = ""
