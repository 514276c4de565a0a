"""Traffic that policies forbid: live connections that must end, calls that nobody may answer."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ovsnet.sandbox import netns
from ovsnet.sandbox.demo import probes
from ovsnet.sandbox.demo.checks import Check
from ovsnet.sandbox.demo.continuity import REQUEST_SECONDS
from ovsnet.sandbox.demo.knocking import call, connected

CALL_SECONDS = 0.05


class Conversation:
    """One TCP connection on which a request follows the other as long as answers come.

    A context manager: whatever happens, it ends.
    """

    def __init__(self, title: str, source: Path, target: tuple[str, int]) -> None:
        self.title = title
        self._source = source
        self._connection = http.client.HTTPConnection(*target)
        self._ended = threading.Event()
        self._answers = 0
        self._thread = threading.Thread(target=self._talk, name="conversation", daemon=True)

    @property
    def answers(self) -> int:
        """How many answers have come."""
        return self._answers

    def __enter__(self) -> Self:
        # Here, so that whoever is not let in at all is heard of; the socket keeps its namespace.
        netns.within(self._source, self._connection.connect)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        # Wakes the thread up that waits for an answer, which may never come.
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    def over(self, answers: int, since: float) -> Check:
        """That no answer has come since the moment when there had been so many."""
        late = self._answers - answers
        seen = f"{answers} answers before, {late} in the {time.monotonic() - since:.1f} s after"
        return Check(f"{self.title}: over", answers > 0 and not late, seen)

    def _talk(self) -> None:
        with contextlib.suppress(*probes.UNANSWERED):
            while not self._ended.wait(REQUEST_SECONDS):
                self._connection.request("GET", "/hostname")
                self._connection.getresponse().read()
                self._answers += 1


class Silence(msgspec.Struct, frozen=True):
    """How many calls there were that must not be answered, and how many were."""

    title: str
    called: int
    answered: int

    @property
    def check(self) -> Check:
        """That somebody called, and nobody answered."""
        seen = f"{self.called} calls, {self.answered} answered"
        return Check(
            f"{self.title}: none gets through", self.called > 0 and not self.answered, seen
        )


class CallStream:
    """A new TCP connection every `CALL_SECONDS`, each of them tried until the end."""

    def __init__(self, title: str, source: Path, target: tuple[str, int]) -> None:
        self._title = title
        self._source = source
        self._target = target
        self._stop = threading.Event()
        self._calls: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="calls", daemon=True)

    @property
    def called(self) -> int:
        """How many calls there have been."""
        return len(self._calls)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def stop(self) -> Silence:
        """Call no more, and count who has answered."""
        self._stop.set()
        self._thread.join()
        answered = sum(map(connected, self._calls))
        for each in self._calls:
            each.close()
        return Silence(self._title, len(self._calls), answered)

    def _run(self) -> None:
        netns.enter(self._source)
        while not self._stop.wait(CALL_SECONDS):
            self._calls.append(call(*self._target))
