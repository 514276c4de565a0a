"""Waiting until what the API server was told is in effect on every node."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import click

from ovsnet.cli.controller import UnreachableError
from ovsnet.controller.status import Status

_SHORTEST, _LONGEST = 0.02, 1.0
_TOLD_EVERY = 1.0

PATIENCE = 10.0
"""Seconds for which a switch that is not connected is waited for: one that was started anew, or
whose controller was, is back in a second or two, and one that is away for good keeps nobody.
"""


class NotInEffectError(Exception):
    """Something was still missing when the time was over: `missing`, in words."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__("; ".join(missing))
        self.missing = tuple(missing)


class StandsByError(click.ClickException):
    """The controller stands by: what is in effect the leader alone knows. The message says whom to
    ask.
    """


class Controller(Protocol):
    """Answers as the controller's HTTP port does. Raises UnreachableError."""

    def status(self) -> Status:
        """What it serves at /status."""

    def refresh(self) -> int:
        """Have all objects listed afresh; the number of this request."""


class Waiting:
    """Waits for one controller.

    Without `versions` everything counts that was written before the wait began: the controller is
    asked to list all objects afresh, for of what it has not heard of yet it cannot know that it is
    missing. With `versions`, which are resourceVersions by kind, it has to have heard of those.
    """

    def __init__(
        self,
        controller: Controller,
        versions: Mapping[str, int],
        tell: Callable[[Sequence[str]], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`tell` gets what is missing, about once a second."""
        self._controller = controller
        self._versions = versions
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._started: datetime | None = None
        self._refresh = 0

    def run(self, seconds: float) -> Status:
        """Wait for so long at the most; returns the status in which nothing was missing.

        Raises:
            NotInEffectError: the time is over.
            UnreachableError: the controller cannot be reached, at the beginning or in the end.
            StandsByError: another leads.
        """
        began = told = self._clock()
        while True:
            asked = self._clock()
            lost: UnreachableError | None = None
            try:
                document, missing = self._look(everywhere=asked - began < PATIENCE)
            except UnreachableError as error:
                if self._started is None:
                    raise
                # It may be starting anew.
                lost, missing = error, [error.message]
            if not missing:
                return document
            now = self._clock()
            if now - began >= seconds:
                raise lost or NotInEffectError(missing)
            if now - told >= _TOLD_EVERY:
                told = now
                self._tell(missing)
            # A large cluster's status is some work: that is not all that the controller does.
            pause = min(max(_SHORTEST, 2 * (now - asked)), _LONGEST)
            self._sleep(min(pause, max(0.0, began + seconds - now)))

    def _look(self, *, everywhere: bool) -> tuple[Status, list[str]]:
        document = self._controller.status()
        if document.leadership is not None and document.stands_by:
            raise StandsByError(document.leadership.referral("status --wait"))
        if document.started != self._started:
            # Numbers of requests count from the start of the controller's process. That is the
            # known one only once it has been asked.
            refresh = 0 if self._versions else self._controller.refresh()
            self._started, self._refresh = document.started, refresh
            document = self._controller.status()
            if document.started != self._started:
                return document, ["the controller has been started anew"]
        missing = document.missing(self._refresh, self._versions, everywhere=everywhere)
        return document, missing
