"""Traffic that goes on while something is broken, and an exact count of what was lost of it."""

from __future__ import annotations

import http.client
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from ovsnet.sandbox import netns
from ovsnet.sandbox.demo import probes
from ovsnet.sandbox.demo.checks import Check

PING_SECONDS = 0.02
REQUEST_SECONDS = 0.02
_STOP_SECONDS = 10.0


class Count(msgspec.Struct, frozen=True):
    """How much of one stream there was, and how much of it was lost."""

    title: str
    sent: int
    lost: int
    fault: str = ""

    @property
    def check(self) -> Check:
        """That there was traffic and none of it was lost."""
        seen = f"{self.sent} sent, {self.lost} lost"
        if self.fault:
            seen += f"; {self.fault}"
        return Check(f"{self.title}: nothing lost", self.sent > 0 and self.lost == 0, seen)


class Outcome(Protocol):
    """How one stream went."""

    @property
    def check(self) -> Check:
        """That it went as it should."""


class Stream(Protocol):
    """Traffic between two places, from `start` to `stop`."""

    def start(self) -> None:
        """Begin to send."""

    def stop(self) -> Outcome:
        """Send no more; say how it went."""


class PingStream:
    """A ping every `PING_SECONDS`."""

    def __init__(self, title: str, source: Path, target: str) -> None:
        self._title = title
        self._source = source
        self._target = target
        self._process: subprocess.Popen[str]

    def start(self) -> None:
        """Begin to ping."""
        command = ["ping", "-n", "-i", str(PING_SECONDS), "-W", "2", self._target]
        self._process = netns.within(
            self._source,
            lambda: subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ),
        )

    def stop(self) -> Count:
        """Have ping print its summary and read it."""
        self._process.send_signal(signal.SIGINT)
        try:
            output, _ = self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, _ = self._process.communicate()
        sent, lost = probes.lost(output)
        return Count(self._title, sent, lost)


class RequestStream:
    """An HTTP request every `REQUEST_SECONDS`, on one connection or each on a new one."""

    def __init__(
        self, title: str, source: Path, target: tuple[str, int], answers: str, *, keep: bool
    ) -> None:
        self._title = title
        self._source = source
        self._target = target
        self._answers = answers
        self._keep = keep
        self._stop = threading.Event()
        self._sent = 0
        self._lost = 0
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> Count:
        """Let the request that is under way end, and count."""
        self._stop.set()
        self._thread.join()
        return Count(self._title, self._sent, self._lost, self._fault)

    def _run(self) -> None:
        netns.enter(self._source)
        connection = self._connection()
        while not self._stop.wait(REQUEST_SECONDS):
            self._sent += 1
            try:
                connection.request("GET", "/hostname")
                answer = connection.getresponse().read().decode()
                if answer != self._answers:
                    raise ValueError(f"{answer!r} answered")
            except probes.UNANSWERED as error:
                self._lost += 1
                self._fault = self._fault or str(error)
                connection.close()
            if not self._keep:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._target
        connection = http.client.HTTPConnection(host, port, timeout=probes.TIMEOUT_SECONDS)
        # Without this a lost connection would be replaced in silence, and not be counted.
        connection.auto_open = 0 if self._keep else 1
        if self._keep:
            connection.connect()
        return connection


class Traffic:
    """Streams that run together. A context manager: whatever happens, they are stopped."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._started: list[Stream] = []

    def __enter__(self) -> Self:
        try:
            for stream in self._streams:
                stream.start()
                self._started.append(stream)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> list[Outcome]:
        """Stop them all; how each went. Those that are stopped already are not in it."""
        outcomes = []
        while self._started:
            outcomes.append(self._started.pop(0).stop())
        return outcomes
