"""Tells a controller, over HTTP, which flows are in effect on this node.

A report is sent as soon as there is something new, and the last one again from time to time: a
controller that has just started learns of it without asking.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Protocol
from urllib.parse import urlsplit

from ovsnet import logs
from ovsnet.cni.stampwatch import Stamp

_log = logs.get("reporter")

REPEAT = 2.0
"""Seconds after which the last report is sent again."""

_FAILED_AGAIN = 0.5
_ANSWER_SECONDS = 5.0


class ReportError(Exception):
    """The controller did not take a report; the text has the reason."""


class Post(Protocol):
    """Sends one report; `Client` does."""

    def __call__(self, body: bytes) -> None:
        """Send it; raises ReportError if it was not taken."""

    def close(self) -> None:
        """End the connection."""


class Client:
    """A connection to one controller's listener for agents, kept open between reports."""

    def __init__(self, url: str) -> None:
        """`url` as in http://192.0.2.1:9096."""
        split = urlsplit(url)
        assert split.hostname is not None
        self._connection = HTTPConnection(split.hostname, split.port, timeout=_ANSWER_SECONDS)
        self._path = f"{split.path.rstrip('/')}/settled"

    def __call__(self, body: bytes) -> None:
        """Send a report.

        Raises:
            ReportError: the controller cannot be reached, or refuses it.
        """
        kept = self._connection.sock is not None
        try:
            answer, text = self._exchange(body)
        except (OSError, HTTPException) as error:
            self.close()
            if not kept:
                raise ReportError(f"cannot be reached: {error}") from None
            # The controller may have closed a connection that was not used for long.
            try:
                answer, text = self._exchange(body)
            except (OSError, HTTPException) as again:
                self.close()
                raise ReportError(f"cannot be reached: {again}") from None
        if answer >= 300:
            raise ReportError(f"answers {answer}: {text}")

    def close(self) -> None:
        """End the connection; the next report opens another."""
        self._connection.close()

    def _exchange(self, body: bytes) -> tuple[int, str]:
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()


def report(node: str, stamp: Stamp) -> bytes:
    """The report that what this stamp stands for is in effect on a node."""
    value = {"node": node, "digest": f"{stamp.digest:016x}", "serial": stamp.serial}
    return json.dumps(value).encode()


class Reporter:
    """The thread that reports to one controller."""

    def __init__(
        self, node: str, target: str, post: Post, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node = node
        self._log = _log.bind(controller=target)
        self._post = post
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
        """End after the report that is on its way."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        self._post.close()

    def settled(self, stamp: Stamp | None) -> None:
        """Report this from now on; None: report nothing. From any thread."""
        with self._changed:
            self._stamp = stamp
            self._changed.notify()

    def _run(self) -> None:
        while (stamp := self._next()) is not None:
            try:
                self._post(report(self._node, stamp))
            except ReportError as error:
                self._failed(str(error))
                self._again = self._clock() + _FAILED_AGAIN
            else:
                self._succeeded()
                self._again = self._clock() + REPEAT
            self._sent = stamp

    def _next(self) -> Stamp | None:
        """Waits for the next report to send; None when there will be no more."""
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
