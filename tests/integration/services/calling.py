"""Real calls, many at once: TCP connections and UDP datagrams from network namespaces, and what
becomes of each.
"""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple

from answerers import bound
from places import Place
from slowness import SLOW

AT_ONCE = 96
"""So many calls are under way together; the queues of a switch hold more."""

PATIENCE = 15.0 * SLOW
"""Seconds for a call that should come to something, on a crowded machine."""

SILENCE = 0.6
"""Seconds after which silence counts. Others were answered meanwhile."""

AGAIN = 0.2
"""Seconds after which a datagram without an answer is sent again."""

_CLIENT_PORTS = cycle(range(10000, 29000))

_UNDER_WAY = (0, errno.EINPROGRESS)
_QUESTION = b"GET / HTTP/1.0\r\n\r\n"
_LONGEST = 65535


def client_port() -> int:
    """A port for a client. Each call has one of its own: the tracker has not forgotten those of
    before. Ports of nodes and those that kernels choose are others.
    """
    return next(_CLIENT_PORTS)


@dataclass(frozen=True)
class Ring:
    """A call: from where, by which protocol, and where to."""

    place: Place
    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.place.name} to {self.address} {self.protocol} {self.port}"


class Heard(NamedTuple):
    """What came of a call: who answered, on which port, and which address the client had for him.

    `who` is empty where nobody did: `status` is then that of a health check, or says `REFUSED` or
    `SILENT`. Of any other error it has the words.
    """

    who: str = ""
    port: int = 0
    seen: str = ""
    status: int = 0


REFUSED = Heard(status=-1)
SILENT = Heard(status=-2)


@dataclass
class _Line:
    """A call under way."""

    ring: Ring
    sock: socket.socket
    sent: float
    got: bytes = b""
    asked: bool = False
    heard: Heard = field(default=SILENT)


def ring(
    calls: Sequence[Ring], silent: Iterable[Ring] = (), patience: float = PATIENCE
) -> list[Heard]:
    """Make all these calls; what came of each. Nothing is waited for long from those that are
    expected to be `silent`.
    """
    quiet = frozenset(silent)
    found: list[Heard] = []
    for start in range(0, len(calls), AT_ONCE):
        found += _ring(calls[start : start + AT_ONCE], quiet, patience)
    return found


def _ring(calls: Sequence[Ring], quiet: frozenset[Ring], patience: float) -> list[Heard]:
    began = time.monotonic()
    lines = _begin(calls, began)
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for line in lines:
            stack.enter_context(line.sock)
            event = selectors.EVENT_WRITE if line.ring.protocol == "tcp" else selectors.EVENT_READ
            waiting.register(line.sock, event, line)
        while waiting.get_map():
            under_way = [key.data for key in waiting.get_map().values()]
            hoped = any(line.ring not in quiet for line in under_way)
            left = began + (patience if hoped else SILENCE) - time.monotonic()
            if left <= 0:
                break
            for key, _ in waiting.select(min(left, AGAIN)):
                _go_on(waiting, key.data)
            _repeat(waiting)
    return [line.heard for line in lines]


def _begin(calls: Sequence[Ring], now: float) -> list[_Line]:
    by_place: dict[Place, list[int]] = {}
    for number, call in enumerate(calls):
        by_place.setdefault(call.place, []).append(number)
    lines: dict[int, _Line] = {}
    for place, numbers in by_place.items():
        made = place.within(lambda numbers=numbers: [_open(calls[n], now) for n in numbers])
        lines |= dict(zip(numbers, made, strict=True))
    return [lines[number] for number in range(len(calls))]


def _open(call: Ring, now: float) -> _Line:
    tcp = call.protocol == "tcp"
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    sock = bound("", 6 if ":" in call.address else 4, kind, client_port())
    sock.setblocking(False)
    number = sock.connect_ex((call.address, call.port))
    assert number in _UNDER_WAY, f"{call}: {errno.errorcode[number]}"
    if not tcp:
        sock.send(b"?")
    return _Line(call, sock, now)


def _go_on(waiting: selectors.BaseSelector, line: _Line) -> None:
    try:
        if line.ring.protocol == "tcp" and not line.asked:
            line.sock.send(_QUESTION)
            line.asked = True
            waiting.modify(line.sock, selectors.EVENT_READ, line)
            return
        got = line.sock.recv(_LONGEST)
        line.got += got
        if got and line.ring.protocol == "tcp":
            return
        line.heard = _read(line.got)
    except OSError as error:
        line.heard = _said(error)
    waiting.unregister(line.sock)


def _repeat(waiting: selectors.BaseSelector) -> None:
    now = time.monotonic()
    for key in tuple(waiting.get_map().values()):
        line = key.data
        if line.ring.protocol == "udp" and now - line.sent > AGAIN:
            line.sent = now
            try:
                line.sock.send(b"?")
            except OSError as error:
                line.heard = _said(error)
                waiting.unregister(line.sock)


def _said(error: OSError) -> Heard:
    return REFUSED if isinstance(error, ConnectionRefusedError) else Heard(who=str(error))


def _read(got: bytes) -> Heard:
    head, gap, body = got.partition(b"\r\n\r\n")
    if not gap:
        body = head
    status = int(head.split()[1]) if head.startswith(b"HTTP/") else 0
    if not body.startswith(b"{"):
        # A health check, or the echo of a pod, which begins with its name.
        return Heard(status=status) if status else Heard(who=body.split()[0].decode())
    said = json.loads(body)
    if "client" not in said:
        return Heard(status=status)
    seen = said["client"].rpartition(":")[0].strip("[]")
    return Heard(said["pod"], said.get("port", 0), seen)
