"""Talks that go on: a client says a number every few ms, and who hears it gives it back by name."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from answerers import bound
from calling import Ring, client_port
from places import wait_for

INTERVAL = 0.005
LATELY = 0.7
"""Seconds within which an answer comes where one may."""

_LONGEST = 65535


@dataclass
class Talk:
    """What has been said, by number, with the time of it; who gave which number back."""

    ring: Ring
    sock: socket.socket
    sent: dict[int, float] = field(default_factory=dict)
    answered: dict[int, str] = field(default_factory=dict)
    ended: OSError | None = None
    _rest: bytes = b""

    def lately(self) -> set[str]:
        """Who has given back what was said lately."""
        return self.since(time.monotonic() - LATELY)

    def since(self, moment: float) -> set[str]:
        """Who has given back what was said after a moment."""
        return {who for number, who in dict(self.answered).items() if self.sent[number] > moment}

    def lost(self, since: float, until: float) -> list[int]:
        """What was said between two moments and nobody gave back."""
        known = dict(self.sent)
        return [n for n, at in known.items() if since < at < until and n not in self.answered]

    def said(self, since: float, until: float) -> int:
        """How much was said between two moments."""
        return sum(since < at < until for at in dict(self.sent).values())

    def say(self) -> None:
        number = len(self.sent)
        self.sent[number] = time.monotonic()
        with self._noting_errors(), contextlib.suppress(BlockingIOError):
            self.sock.send(b"%d\n" % number if self.ring.protocol == "tcp" else b"%d" % number)

    def hear(self) -> None:
        with self._noting_errors(), contextlib.suppress(BlockingIOError):
            got = self.sock.recv(_LONGEST)
            if not got:
                self.ended = ConnectionError("it was closed")
            *lines, self._rest = (self._rest + got).split(b"\n")
            if self.ring.protocol == "udp":
                lines, self._rest = [got], b""
            for line in lines:
                who, number = line.split()
                self.answered[int(number)] = who.decode()

    @contextlib.contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.ended = error


@contextlib.contextmanager
def talks(rings: Iterable[Ring]) -> Iterator[list[Talk]]:
    """Talk to all these, from the first answer of each of them on until the context ends."""
    found: list[Talk] = []
    over = threading.Event()

    def run() -> None:
        with selectors.DefaultSelector() as waiting:
            for talk in found:
                waiting.register(talk.sock, selectors.EVENT_READ, talk)
            due = time.monotonic()
            while not over.is_set():
                for key, _ in waiting.select(max(0, due - time.monotonic())):
                    key.data.hear()
                    if key.data.ended and key.data.ring.protocol == "tcp":
                        waiting.unregister(key.fileobj)
                if time.monotonic() >= due:
                    due = time.monotonic() + INTERVAL
                    for key in tuple(waiting.get_map().values()):
                        key.data.say()

    with contextlib.ExitStack() as stack:
        for ring in rings:
            made = ring.place.within(_connecting(ring))
            found.append(Talk(ring, stack.enter_context(made)))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            wait_for(
                lambda: all(talk.answered for talk in found),
                lambda: f"answers to {[str(t.ring) for t in found if not t.answered]}",
            )
            yield found
        finally:
            over.set()
            thread.join()


def _connecting(ring: Ring) -> Callable[[], socket.socket]:
    kind = socket.SOCK_STREAM if ring.protocol == "tcp" else socket.SOCK_DGRAM
    version = 6 if ":" in ring.address else 4

    def connect() -> socket.socket:
        made = bound("", version, kind, client_port())
        made.settimeout(20)
        made.connect((ring.address, ring.port))
        made.setblocking(False)
        return made

    return connect
