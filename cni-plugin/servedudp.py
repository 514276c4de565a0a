"""UDP connections to services, as the tracker has them (ovs-dpctl(8), dump-conntrack)."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple, Protocol

from ovsnet.cni.control import Control
from ovsnet.cni.leads import Lead
from ovsnet.names import SERVICE_ZONE

_LINE = re.compile(
    r"udp,orig=\(src=(?P<source>[^,]+),dst=(?P<destination>[^,]+)"
    r",sport=(?P<source_port>\d+),dport=(?P<destination_port>\d+)\)"
    r",reply=\(src=(?P<endpoint>[^,]+),[^)]*sport=(?P<endpoint_port>\d+)[^)]*\)"
    r"(?P<rest>.*)"
)
_ZONE = re.compile(rf",zone={SERVICE_ZONE}\b")
_MARK = re.compile(r",mark=(\d+)")
_UDP = 17
_SECONDS = 20.0

_NICIRA, _CT_FLUSH = 0x00002320, 32
_HEAD = struct.Struct("!IIB7x")
"""Whose message, which message, the tuple's protocol."""
_ITEM = struct.Struct("!HH")
_ORIGINAL, _ZONE_ID = 0, 2
_SOURCE, _DESTINATION, _SOURCE_PORT, _DESTINATION_PORT = range(4)
_IPV4_IN_IPV6 = bytes(10) + b"\xff\xff"


class Commands(Protocol):
    """Has ovs-vswitchd carry out commands; `Control` does. Raises ControlError."""

    def ask(self, command: str, *arguments: str) -> str:
        """What a command prints."""


class ServedUdp(NamedTuple):
    """A connection by its first packet, as its client sent it; and its endpoint."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    endpoint: str
    endpoint_port: int
    mark: int

    @property
    def lead(self) -> Lead:
        """The flow that leads there, if it still does."""
        family = AF_INET6 if ":" in self.endpoint else AF_INET
        return Lead(self.mark, inet_pton(family, self.endpoint), self.endpoint_port)

    @property
    def target(self) -> str:
        """Its endpoint in words."""
        host = f"[{self.endpoint}]" if ":" in self.endpoint else self.endpoint
        return f"{host}:{self.endpoint_port}"


def parse(lines: Iterable[str]) -> Iterator[ServedUdp]:
    """Reads what dpctl/dump-conntrack prints; whatever else is tracked is passed over."""
    for line in lines:
        found = _LINE.match(line)
        if found is None or not _ZONE.search(found["rest"]):
            continue
        # A mark of 0 is not printed.
        mark = _MARK.search(found["rest"])
        yield ServedUdp(
            found["source"],
            int(found["source_port"]),
            found["destination"],
            int(found["destination_port"]),
            found["endpoint"],
            int(found["endpoint_port"]),
            int(mark[1]) if mark else 0,
        )


def deletion(connection: ServedUdp) -> bytes:
    """The message that deletes this entry of the tracker, and with it its translation: the body of
    OpenFlow's experimenter message NXT_CT_FLUSH (nicira-ext.h of Open vSwitch 3.1).

    All five parts of the tuple are given: so the entry is found at once, and no other one fits.
    """
    original = b"".join(
        (
            _address(_SOURCE, connection.source),
            _address(_DESTINATION, connection.destination),
            _number(_SOURCE_PORT, connection.source_port),
            _number(_DESTINATION_PORT, connection.destination_port),
        )
    )
    # What an item holds begins at a multiple of 8 octets if it is made of items.
    return (
        _HEAD.pack(_NICIRA, _CT_FLUSH, _UDP)
        + _item(_ORIGINAL, bytes(4) + original)
        + _number(_ZONE_ID, SERVICE_ZONE)
    )


def _address(kind: int, text: str) -> bytes:
    address = ip_address(text)
    prefix = _IPV4_IN_IPV6 if address.version == 4 else b""
    return _item(kind, prefix + address.packed)


def _number(kind: int, value: int) -> bytes:
    return _item(kind, value.to_bytes(2, "big") + bytes(2))


def _item(kind: int, value: bytes) -> bytes:
    length = _ITEM.size + len(value)
    return _ITEM.pack(kind, length) + value + bytes(-length % 8)


def stale(
    connections: Iterable[ServedUdp], stands: Callable[[Lead], bool]
) -> tuple[ServedUdp, ...]:
    """Those that no flow leads to their endpoint."""
    return tuple(c for c in connections if not stands(c.lead))


class Tracker:
    """The tracker of the only datapath that ovs-vswitchd has."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def connections(self) -> list[ServedUdp]:
        """All UDP connections to services.

        Raises:
            ControlError: ovs-vswitchd does not tell them.
        """
        shown = self._commands.ask("dpctl/dump-conntrack", f"zone={SERVICE_ZONE}")
        return list(parse(shown.splitlines()))


@contextlib.contextmanager
def connected(rundir: Path) -> Iterator[Tracker]:
    """For the ovs-vswitchd whose control socket is in this directory.

    Raises:
        ControlError: it does not run.
    """
    with Control(rundir, _SECONDS) as control:
        yield Tracker(control)
