"""TCP connections of the node as the kernel has them (proc(5), /proc/net/tcp and tcp6).

Open vSwitch brings the column `is_connected` of its Controller table up to date every five
seconds at the earliest, which is too late for a node that starts.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

_TABLES = (Path("/proc/thread-self/net/tcp"), Path("/proc/thread-self/net/tcp6"))
_REMOTE, _STATE = 2, 3
_ESTABLISHED = "01"
_WORD = 4

Peer = tuple[bytes, int]
"""A remote address in network byte order, and its port."""


def peer_of(target: str) -> Peer | None:
    """The address of an OVSDB target (`tcp:192.0.2.1:6653`); None if it has no such address."""
    host, _, port = target.partition(":")[2].rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.inet_pton(family, host.strip("[]")), int(port)
    except (OSError, ValueError):
        return None


def parse(table: Iterable[str]) -> frozenset[Peer]:
    """The remote ends of established connections; `table` are a file's lines, heading included."""
    peers = set()
    for line in list(table)[1:]:
        fields = line.split()
        if fields[_STATE] == _ESTABLISHED:
            address, port = fields[_REMOTE].split(":")
            peers.add((_address(address), int(port, 16)))
    return frozenset(peers)


def _address(text: str) -> bytes:
    """The kernel prints an address as 32-bit words in the machine's own byte order."""
    words = bytes.fromhex(text)
    if sys.byteorder == "big":
        return words
    return b"".join(words[i : i + _WORD][::-1] for i in range(0, len(words), _WORD))


def established() -> frozenset[Peer]:
    """The remote ends of all connections of the calling thread's network namespace."""
    found: frozenset[Peer] = frozenset()
    for path in _TABLES:
        # A kernel without IPv6 has no table of it.
        with contextlib.suppress(FileNotFoundError):
            found |= parse(path.read_text().splitlines())
    return found
