"""Streams of numbered packets between network namespaces: when each was sent, and which arrived.

Sockets are opened inside the namespaces and used from threads of this process, so that one clock
says when a packet was sent and when it came.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from places import Place

_NUMBER = struct.Struct("!I")
_POLL_SECONDS = 0.2
_LONGEST_SECONDS = 300.0


@dataclass
class Stream:
    """What was sent, and what has arrived, by number, with the time of each."""

    sent: dict[int, float] = field(default_factory=dict)
    arrived: dict[int, float] = field(default_factory=dict)

    def arrived_of_those_sent_after(self, moment: float) -> list[int]:
        """The numbers that were sent after a moment and came all the same."""
        return [n for n in dict(self.arrived) if self.sent[n] > moment]

    def lost_between(self, since: float, until: float) -> list[int]:
        """The numbers that were sent within a time and did not come."""
        sent = dict(self.sent)
        return [n for n, t in sent.items() if since < t < until and n not in self.arrived]

    def sent_between(self, since: float, until: float) -> int:
        """How many were sent within a time."""
        return sum(since < t < until for t in dict(self.sent).values())


def udp_socket(place: Place, version: int, port: int = 0) -> socket.socket:
    """A UDP socket in a namespace, bound to the place's address."""

    def make() -> socket.socket:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.bind((place.address(version), port))
        made.settimeout(_POLL_SECONDS)
        return made

    return place.within(make)


@contextlib.contextmanager
def udp_stream(
    sender: socket.socket, target: tuple[str, int], receiver: socket.socket, seconds: float
) -> Iterator[Stream]:
    """Send a numbered datagram every so many seconds while the context lasts."""
    stream = Stream()
    ended = threading.Event()
    deadline = time.monotonic() + _LONGEST_SECONDS

    def send() -> None:
        number = 0
        while not ended.wait(seconds) and time.monotonic() < deadline:
            stream.sent[number] = time.monotonic()
            # A full queue or an ICMP error is a packet that does not arrive, which is counted.
            with contextlib.suppress(OSError):
                sender.sendto(_NUMBER.pack(number), target)
            number += 1

    def receive() -> None:
        while not ended.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError, OSError):
                data = receiver.recv(64)
                if len(data) == _NUMBER.size:
                    stream.arrived[_NUMBER.unpack(data)[0]] = time.monotonic()

    threads = [threading.Thread(target=work, daemon=True) for work in (receive, send)]
    for thread in threads:
        thread.start()
    try:
        yield stream
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@dataclass
class Conversation:
    """A TCP connection of which one end alone sends: how many octets have come, and when last."""

    sending: socket.socket
    receiving: socket.socket
    octets: int = 0
    last: float = 0.0


@contextlib.contextmanager
def tcp_conversation(
    client: Place,
    server: Place,
    version: int,
    port: int,
    *,
    server_sends: bool,
    called: str | None = None,
    source_port: int = 0,
) -> Iterator[Conversation]:
    """Connect, and have one end send a few octets every few ms. The server is called by its own
    address, or by another one that leads to it.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def listen() -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((server.address(version), port))
        made.listen()
        return made

    def connect() -> socket.socket:
        return socket.create_connection(
            (called or server.address(version), port),
            timeout=5,
            source_address=(client.address(version), source_port),
        )

    with server.within(listen) as listener, client.within(connect) as calling:
        taken, _ = listener.accept()
        with taken:
            ends = (taken, calling) if server_sends else (calling, taken)
            conversation = Conversation(*ends)
            ended = threading.Event()
            for end in ends:
                end.settimeout(_POLL_SECONDS)

            def send() -> None:
                while not ended.wait(0.005):
                    with contextlib.suppress(TimeoutError, BlockingIOError):
                        conversation.sending.send(b"octets")

            def receive() -> None:
                while not ended.is_set():
                    with contextlib.suppress(TimeoutError):
                        conversation.octets += len(conversation.receiving.recv(4096))
                        conversation.last = time.monotonic()

            threads = [threading.Thread(target=work, daemon=True) for work in (receive, send)]
            for thread in threads:
                thread.start()
            try:
                yield conversation
            finally:
                ended.set()
                for thread in threads:
                    thread.join()
