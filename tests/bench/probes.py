"""A stream of probes from one pod to several, and when the first one fared as it should."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Self

from places import Place

PORT = 7000
INTERVAL = 0.002
_NUMBER = struct.Struct("!I")


class Probes:
    """One datagram to each target every `INTERVAL` seconds, while the context lasts.

    Times are those of the wall clock.
    """

    def __init__(self, source: Place, targets: Sequence[Place]) -> None:
        self._senders = [source.within(lambda t=target: _connected(t)) for target in targets]
        self._receivers = [target.within(_bound) for target in targets]
        self._sent: list[float] = []
        self._arrived: list[list[int]] = [[] for _ in targets]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for each in (*self._senders, *self._receivers):
            each.close()

    def now_right(self, *, allowed: bool, within: float) -> bool:
        """Whether probes of the last `within` seconds arrived everywhere, or nowhere."""
        since = time.time() - within
        recent = [bool(a) and self._sent[a[-1]] >= since for a in self._arrived]
        return all(recent) if allowed else not any(recent)

    def first_right(self, since: float, *, allowed: bool) -> float:
        """Seconds from a moment to the sending of the first probe that fared as all later ones, at
        the target where that was last.
        """
        return max(self._first_right(a, since, allowed) for a in self._arrived) - since

    def _first_right(self, arrived: Sequence[int], since: float, allowed: bool) -> float:
        later = [n for n in arrived if self._sent[n] >= since]
        if allowed:
            return self._sent[min(later)]
        # Nothing that was sent after the last one that arrived has come.
        return self._sent[max(later) + 1] if later else since

    def _send(self) -> None:
        number = 0
        while not self._stop.is_set():
            self._sent.append(time.time())
            for sender in self._senders:
                # What a pod answers to a port that is closed is reported at the next sending.
                with contextlib.suppress(OSError):
                    sender.send(_NUMBER.pack(number))
            number += 1
            time.sleep(INTERVAL)

    def _receive(self) -> None:
        of_socket = dict(zip(self._receivers, self._arrived, strict=True))
        while not self._stop.is_set():
            for each in select.select(self._receivers, [], [], 0.1)[0]:
                of_socket[each].append(_NUMBER.unpack(each.recv(_NUMBER.size))[0])


def _connected(target: Place) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((str(target.ipv4), PORT))
    return sender


def _bound() -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    receiver.bind(("0.0.0.0", PORT))
    return receiver


_FIRST_PORT = 10_000
_UDP = struct.Struct("!HHHH")
_AT_ONCE = 25
_PAUSE = 0.004


def knock(source: Place, target: Place, ports: int) -> None:
    """One datagram to each of so many ports: a switch that looks at ports caches a flow for each.

    Their senders' port is always the same, so that nothing else tells them apart.
    """

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            for number in range(ports):
                header = _UDP.pack(PORT, _FIRST_PORT + number, _UDP.size, 0)
                raw.sendto(header, (str(target.ipv4), 0))
                if number % _AT_ONCE == _AT_ONCE - 1:
                    # The socket by which a switch receives holds a limited number.
                    time.sleep(_PAUSE)

    source.within(send)
