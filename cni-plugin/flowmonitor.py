"""Is told of the flows of a bridge: a small OpenFlow client on the local management socket."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ovsnet.cni.flowupdates import (
    MONITOR_XID,
    Event,
    FlowUpdate,
    Kind,
    Watched,
    WatchError,
    hello,
    message,
    messages,
    monitor_request,
    more_follow,
    updates,
)

_RECEIVE_BYTES = 1 << 16
_HANDSHAKE_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_AT_ONCE = 500


class FlowMonitor(ABC):
    """One connection to the switch. A context manager. `cut` ends a `wait` from another thread."""

    def __init__(self, path: Path, watched: Sequence[Watched]) -> None:
        """Connect to a bridge's management socket, and return when it has told what is there.

        Raises:
            WatchError: the bridge is not there, or cannot be watched.
        """
        self._known = self._paused = False
        self._asked = self._answered = MONITOR_XID
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(path, watched)
        except BaseException:
            # Whatever it is goes on its way; the caller has nothing yet that could be closed.
            self._socket.close()
            raise

    @abstractmethod
    def told(self, update: FlowUpdate) -> None:
        """Called with everything that the switch tells, in its order."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def _connect(self, path: Path, watched: Sequence[Watched]) -> None:
        self._socket.settimeout(_HANDSHAKE_SECONDS)
        try:
            self._socket.connect(str(path))
            self._socket.sendall(hello() + monitor_request(watched))
            while not self._known:
                self._receive()
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror
            raise WatchError(f"{path}: {reason}") from None

    def wait(self, seconds: float | None = None, bell: int | None = None) -> None:
        """Return when the switch has said something, when there is something to read from the
        descriptor `bell`, or after so long.

        Raises:
            WatchError: the switch has hung up, or what it says makes no sense.
        """
        if self._says(seconds, bell):
            self._receive()

    def catch_up(self) -> None:
        """Take in everything that the switch has said up to now.

        Raises:
            WatchError: as `wait`.
        """
        while self._says(0):
            self._receive()

    def synchronise(self) -> None:
        """Return when everything is told that took effect before the call.

        Raises:
            WatchError: as `wait`, or there is no answer.
        """
        self._asked += 1
        self._send(Kind.ECHO_REQUEST, self._asked, b"")
        until = time.monotonic() + _ANSWER_SECONDS
        # What the switch tells of the end of its pause is of later than the answer.
        while self._answered != self._asked or self._paused:
            if not self._says(max(0.0, until - time.monotonic())):
                raise WatchError(f"the switch did not answer within {_ANSWER_SECONDS:g} s")
            self._receive()

    def order(self, kind: Kind, bodies: Sequence[bytes]) -> None:
        """Have messages carried out that have no answer, and return when they are.

        Raises:
            WatchError: as `wait`, or the switch refuses one.
        """
        # A few at a time: the switch does other things in between.
        for start in range(0, len(bodies), _AT_ONCE):
            for body in bodies[start : start + _AT_ONCE]:
                self._send(kind, MONITOR_XID - 1, body)
            self.synchronise()

    def cut(self) -> None:
        """Hang up: whoever waits for the switch gets a `WatchError`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _says(self, seconds: float | None, bell: int | None = None) -> bool:
        """Whether the switch says something within so long, or before the bell rings."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if bell is not None:
            poll.register(bell, select.POLLIN)
        found = poll.poll(None if seconds is None else math.ceil(seconds * 1000))
        return any(descriptor == self._socket.fileno() for descriptor, _ in found)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise
        except OSError as error:
            raise WatchError(f"the switch is gone ({error.strerror})") from None
        if not data:
            raise WatchError("the switch has hung up")
        self._buffer += data
        for kind, xid, body in messages(self._buffer):
            self._heard(kind, xid, body)

    def _heard(self, kind: int, xid: int, body: bytes) -> None:
        match kind:
            case Kind.ECHO_REQUEST:
                self._send(Kind.ECHO_REPLY, xid, body)
            case Kind.ECHO_REPLY:
                self._answered = xid
            case Kind.ERROR if self._known:
                raise WatchError(
                    f"the switch refuses a message (error {body[:4].hex()}): expected Open vSwitch"
                    " 3.1 or later"
                )
            case Kind.ERROR:
                raise WatchError(
                    f"the switch refuses to be watched (error {body[:4].hex()}): expected flow"
                    " monitors as Open vSwitch 3.1 has them, and OpenFlow15 among the bridge's"
                    " protocols"
                )
            case Kind.MULTIPART_REPLY:
                for update in updates(body):
                    if update.event in {Event.PAUSED, Event.RESUMED}:
                        self._paused = update.event is Event.PAUSED
                    else:
                        self.told(update)
                if xid == MONITOR_XID and not more_follow(body):
                    self._known = True

    def _send(self, kind: Kind, xid: int, body: bytes) -> None:
        try:
            self._socket.sendall(message(kind, xid, body))
        except OSError as error:
            raise WatchError(f"the switch is gone ({error.strerror})") from None
