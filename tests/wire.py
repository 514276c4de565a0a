"""Sending frames into namespaces, and seeing which of them arrive where.

Whether a packet does not arrive can only be said of one that had its chance: so every packet under
test is followed by honest ones, on the same way to every place that is watched. Once those have
come, whatever has not come before them will not come any more, because a switch keeps the order.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import frames
from places import Place
from slowness import SLOW

_ETH_P_ALL = 3
_LONGEST = 65535
_ATTEMPTS = 5
_PATIENCE = 2.0 * SLOW
NOBODY: Mapping[str, int] = {}


def mark() -> bytes:
    """Bytes that are in one packet and its copies and in no other."""
    return b"#" + secrets.token_hex(7).encode() + b"#"


def raw_socket(place: Place) -> socket.socket:
    """A socket that sends and receives whole frames on a place's interface."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind((place.interface, _ETH_P_ALL))
        sock.setblocking(False)
        return sock

    return place.within(make)


@dataclass
class Tap:
    """Everything that arrives at one place. What the place sends itself is not kept, nor what comes
    for the UDP port `deaf_to`.
    """

    place: Place
    socket: socket.socket
    deaf_to: int = 0
    seen: list[bytes] = field(default_factory=list)

    def read(self) -> None:
        while True:
            try:
                data, address = self.socket.recvfrom(_LONGEST)
            except BlockingIOError:
                return
            if address[2] != socket.PACKET_OUTGOING and not self._ignores(data):
                self.seen.append(data)

    def _ignores(self, data: bytes) -> bool:
        if not self.deaf_to:
            return False
        ends = frames.ends(data)
        return ends is not None and (ends.protocol, ends.target_port) == (frames.UDP, self.deaf_to)

    def has(self, token: bytes) -> list[bytes]:
        return [frame for frame in self.seen if token in frame]


class Taps:
    """Taps at several places, by name. `send` goes out of one of them."""

    def __init__(self, taps: Mapping[str, Tap]) -> None:
        self._taps = taps

    def __getitem__(self, name: str) -> Tap:
        return self._taps[name]

    def send(self, name: str, frame: bytes) -> None:
        self._taps[name].socket.send(frame)

    def read(self) -> None:
        for tap in self._taps.values():
            tap.read()

    def forget(self) -> None:
        self.read()
        for tap in self._taps.values():
            tap.seen.clear()

    def where(self, token: bytes) -> set[str]:
        """The names of the places where a marked packet has arrived so far."""
        self.read()
        return {name for name, tap in self._taps.items() if tap.has(token)}

    def wait(
        self,
        tokens: Collection[bytes],
        names: Iterable[str],
        send: Callable[[], None] | None = None,
    ) -> None:
        """Wait until packets with each of these marks have arrived at all of these places.

        `send` sends them, and is called again where some were lost on a crowded machine.
        """
        wanted = set(names)
        for _ in range(_ATTEMPTS):
            if send is not None:
                send()
            deadline = time.monotonic() + _PATIENCE
            while (left := deadline - time.monotonic()) > 0:
                if all(wanted <= self.where(token) for token in tokens):
                    return
                select.select([tap.socket for tap in self._taps.values()], [], [], left)
        missing = {name for token in tokens for name in wanted - self.where(token)}
        raise AssertionError(f"a packet has not come to {missing}")


@contextlib.contextmanager
def taps(places: Mapping[str, Place], deaf: Mapping[str, int] = NOBODY) -> Iterator[Taps]:
    """Taps at these places for as long as this lasts; the `deaf` ones do not hear a UDP port."""
    with contextlib.ExitStack() as stack:
        opened = {}
        for name, place in places.items():
            sock = raw_socket(place)
            stack.callback(sock.close)
            opened[name] = Tap(place, sock, deaf_to=deaf.get(name, 0))
        yield Taps(opened)


def datagram(
    source_mac: str, router_mac: str, source: object, target: object, payload: bytes, **kw: int
) -> bytes:
    """A UDP datagram in a frame for the router."""
    kind = frames.IPV4 if "." in str(source) else frames.IPV6
    packet = frames.ip(source, target, frames.UDP, frames.udp(source, target, payload, **kw))
    return frames.ethernet(router_mac, source_mac, kind, packet)
