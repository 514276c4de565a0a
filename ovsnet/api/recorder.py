"""Writes Events about objects, in a thread of its own.

Whoever has something to say is never kept waiting: a bounded queue takes it, and what it cannot
take is written to the log alone. While the API server is away an Event waits; after a while it is
given up. Nothing is told twice in short order, and nothing by one whose business it is no more.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol

import msgspec

from ovsnet import logs
from ovsnet.api.connection import StalledError, UnreachableError
from ovsnet.api.decode import read_refusal
from ovsnet.api.remark import (
    Remark,
    count_of,
    event_name,
    events_path,
    first_event,
    repeated_event,
)

_NOT_FOUND, _CONFLICT = 404, 409
_SAME_AGAIN = frozenset({401, 408, _CONFLICT, 429})


class Pace(msgspec.Struct, frozen=True):
    """How long things take, in seconds, but for `waiting`, the number of remarks that may wait."""

    quiet: float = 300.0
    """The same is not told again sooner."""
    patience: float = 600.0
    """What could not be told for so long is given up."""
    backoff: float = 1.0
    """The n-th retry comes after half to all of this, times 2 to the power of n-1."""
    backoff_most: float = 60.0
    """No retry waits longer, unless the server asks for it."""
    silence: float = 10.0
    """A request without an answer has failed."""
    waiting: int = 1000


class Answer(Protocol):
    """A response as `ovsnet.api.connection.Response` has it."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def retry_after(self) -> float:
        """Seconds after which the server wants to be asked again, or 0."""

    def chunks(self) -> Iterator[bytes]:
        """The body, as it comes."""

    def close(self) -> None:
        """Gives the connection up."""


class Server(Protocol):
    """Answers requests, as `ovsnet.api.connection.Connection` does."""

    def get(self, path: str, query: tuple[tuple[str, str], ...], silence: float) -> Answer:
        """Sends a GET; raises UnreachableError if there is no response."""

    def post(self, path: str, body: bytes, silence: float) -> Answer:
        """Creates an object; raises UnreachableError if there is no response."""

    def patch(self, path: str, body: bytes, silence: float) -> Answer:
        """Merges JSON into an object; raises UnreachableError if there is no response."""


class _FailureError(Exception):
    """An Event was not written; `again` if it may be the next time, not sooner than in `late`."""

    def __init__(self, words: str, *, again: bool, late: float = 0.0) -> None:
        super().__init__(words)
        self.again = again
        self.late = late


class _WithdrawnError(Exception):
    """It is not for us any more to tell anything."""


class Recorder:
    """Tells what it is given, from `start` to `stop`. `clock` gives seconds since 1970.

    `ours` says whether telling is our business now, and is asked before every request, in the
    recorder's thread: what waits when it says no is dropped, as another tells it.
    """

    def __init__(
        self,
        server: Server,
        *,
        pace: Pace | None = None,
        ours: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._server = server
        self._pace = pace or Pace()
        self._ours = ours
        self._clock = clock
        self._chance = chance
        self._log = logs.get("api")
        self._queue: queue.Queue[tuple[Remark, float] | None] = queue.Queue(self._pace.waiting)
        self._told: dict[Remark, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begins to tell; what was given before waits until then."""
        self._thread.start()

    def stop(self) -> None:
        """Ends soon. What was not told by then is not told."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def record(self, remark: Remark) -> None:
        """Have this told; from any thread, and without waiting."""
        try:
            self._queue.put_nowait((remark, self._clock()))
        except queue.Full:
            self._give_up(remark, f"{self._pace.waiting} others wait to be told")

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None or self._stopping.is_set():
                return
            try:
                self._tell(*item)
            except _WithdrawnError:
                continue
            except Exception:
                # Nobody else would notice that this thread is gone.
                self._log.exception("event lost by a fault of our own")

    def _tell(self, remark: Remark, given: float) -> None:
        pace = self._pace
        if self._clock() - self._told.get(remark, float("-inf")) < pace.quiet:
            return
        failures = 0
        while not self._stopping.is_set():
            try:
                self._write(remark)
            except _FailureError as failure:
                if not failure.again or self._clock() - given >= pace.patience:
                    self._give_up(remark, str(failure))
                    return
                failures += 1
                late = min(failure.late, pace.patience)
                self._stopping.wait(max(self._backoff(failures), late))
            else:
                self._note(remark)
                return

    def _write(self, remark: Remark) -> None:
        """Creates the Event, or counts it if it is there.

        A request whose answer was lost is sent again: it is then counted once too often.
        """
        server, silence, path = self._server, self._pace.silence, events_path(remark)
        created = first_event(remark, self._clock())
        status, _ = self._ask(lambda: server.post(path, created, silence), _CONFLICT)
        if status != _CONFLICT:
            return
        path = f"{path}/{event_name(remark)}"
        status, event = self._ask(lambda: server.get(path, (), silence), _NOT_FOUND)
        if status != _NOT_FOUND:
            counted = repeated_event(remark, count_of(event) + 1, self._clock())
            status, _ = self._ask(lambda: server.patch(path, counted, silence), _NOT_FOUND)
        if status == _NOT_FOUND:
            raise _FailureError("the Event was just about to expire", again=True)

    def _ask(self, send: Callable[[], Answer], expected: int) -> tuple[int, bytes]:
        """Status and body of an answer that is a success, or has the other expected status."""
        if not self._ours():
            raise _WithdrawnError
        try:
            with closing(send()) as answer:
                body = b"".join(answer.chunks())
        except (UnreachableError, StalledError) as error:
            raise _FailureError(str(error), again=True) from None
        status = answer.status
        if 200 <= status < 300 or status == expected:
            return status, body
        refused = read_refusal(status, body)
        words = f"the API server answers {status}: {refused.message or 'no reason given'}"
        again = status in _SAME_AGAIN or status >= 500
        raise _FailureError(words, again=again, late=answer.retry_after)

    def _backoff(self, failures: int) -> float:
        most = min(self._pace.backoff * 2.0 ** min(failures - 1, 30), self._pace.backoff_most)
        return most * (0.5 + 0.5 * self._chance())

    def _note(self, remark: Remark) -> None:
        now = self._clock()
        if len(self._told) >= self._pace.waiting:
            recent = ((r, t) for r, t in self._told.items() if now - t < self._pace.quiet)
            self._told = dict(recent)
        self._told[remark] = now

    def _give_up(self, remark: Remark, why: str) -> None:
        subject = remark.subject
        self._log.warning(
            "event given up",
            about=f"{subject.kind} {subject.namespace}/{subject.name}",
            reason=remark.reason,
            message=remark.message,
            why=why,
        )
