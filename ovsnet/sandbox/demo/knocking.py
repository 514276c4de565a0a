"""Attempts to connect by TCP, many at once, from inside network namespaces."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

from ovsnet.sandbox import netns
from ovsnet.sandbox.demo.pairs import Attempt

_QUIET_SECONDS = 1.5
"""For so long those are waited for that should not get through. The kernel sends a SYN that was not
answered once more after 1 s, so each has two chances."""

_LONGEST_SECONDS = 10.0
_UNDER_WAY = (0, errno.EINPROGRESS)


def call(address: str, port: int) -> socket.socket:
    """A socket that begins to connect, in the namespace of the calling thread.

    Raises:
        OSError: it cannot even begin.
    """
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        number = made.connect_ex((address, port))
        if number not in _UNDER_WAY:
            raise OSError(number, f"cannot call {address} port {port}")
    except BaseException:
        made.close()
        raise
    return made


def connected(calling: socket.socket) -> bool:
    """Whether a call was answered."""
    try:
        calling.getpeername()
    except OSError:
        return False
    return True


def knock(tried: Collection[Attempt], hoped: Collection[Attempt]) -> frozenset[Attempt]:
    """Make all these attempts at once; those that got through.

    Those that are `hoped` for get more time, should the machine be busy.
    """
    by_place: dict[Path, list[Attempt]] = {}
    for attempt in tried:
        by_place.setdefault(attempt.netns, []).append(attempt)
    wanted = frozenset(hoped)

    def from_place(item: tuple[Path, list[Attempt]]) -> frozenset[Attempt]:
        place, those = item
        return netns.within(place, lambda: _knock(those, wanted.intersection(those)))

    with ThreadPoolExecutor(len(by_place) or 1) as pool:
        return frozenset().union(*pool.map(from_place, by_place.items()))


def _knock(tried: Iterable[Attempt], hoped: frozenset[Attempt]) -> frozenset[Attempt]:
    reached: set[Attempt] = set()
    began = time.monotonic()
    with contextlib.ExitStack() as sockets, selectors.DefaultSelector() as waiting:
        for attempt in tried:
            with contextlib.suppress(OSError):
                calling = sockets.enter_context(call(attempt.target, attempt.port))
                waiting.register(calling, selectors.EVENT_WRITE, attempt)
        while waiting.get_map():
            patience = _QUIET_SECONDS if hoped <= reached else _LONGEST_SECONDS
            left = began + patience - time.monotonic()
            if left <= 0:
                break
            for key, _ in waiting.select(min(left, _QUIET_SECONDS)):
                waiting.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                if connected(key.fileobj):
                    reached.add(key.data)
    return frozenset(reached)
