"""Sees the stamp of the bridge change: a small OpenFlow client on the local management socket.

It asks for a flow monitor of the stamp's table (OpenFlow 1.5.1, section 7.3.5.19): the switch
then tells what is there, and from then on every change, in the order in which they took effect.
The stamp is the last message of every bundle, and the switch tells of it after all of the bundle
has taken effect.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from ovsnet.names import Table

_VERSION = 6
_HEADER = struct.Struct("!BBHI")
_MULTIPART = struct.Struct("!HH4x")
_MONITOR = struct.Struct("!IIIHBBHH4x")
_UPDATE = struct.Struct("!BBHHH4xQHH")
_ITEM = struct.Struct("!HH")

_FLOW_MONITOR = 16
_ANY = 0xFFFFFFFF
_MONITOR_FLAGS = 0x1F
"""What is there now, and what is added, removed and modified, with instructions."""
_EMPTY_MATCH = 4
_INSTRUCTIONS_AT = 28
"""Where a flow's instructions begin after the head of its update, if its match is empty."""
_APPLY_ACTIONS = 4
_SET_FIELD = 25
_SERIAL_FIELD = 0x00010C04
"""The OXM header of the register in which the stamp bears its serial number."""

_RECEIVE_BYTES = 1 << 16
_HANDSHAKE_SECONDS = 5.0


class WatchError(Exception):
    """The switch cannot be watched, or no longer; the text says why."""


class _Kind(IntEnum):
    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    MULTIPART_REQUEST = 18
    MULTIPART_REPLY = 19


_OF_ANY_VERSION = frozenset({_Kind.HELLO, _Kind.ERROR})


class _Event(IntEnum):
    """What happened to a flow (ofp_flow_update_event)."""

    INITIAL = 0
    ADDED = 1
    REMOVED = 2
    MODIFIED = 3


@dataclass(frozen=True)
class Stamp:
    """What the stamp says: the digest of all flows, and which writing of a stamp it is.

    The same flows may come back, and their digest with them; the serial number does not.
    """

    digest: int
    serial: int


@dataclass(frozen=True)
class Update:
    """The stamp as it is after a change; None: it was removed."""

    stamp: Stamp | None = None


def hello() -> bytes:
    """The greeting of one who speaks OpenFlow 1.5."""
    return _HEADER.pack(_VERSION, _Kind.HELLO, _HEADER.size, 1)


def monitor_request(table: int) -> bytes:
    """The request to be told of all flows of a table and of every change."""
    match = _MONITOR.pack(1, _ANY, _ANY, _MONITOR_FLAGS, table, 0, 1, _EMPTY_MATCH)
    body = _MULTIPART.pack(_FLOW_MONITOR, 0) + match
    length = _HEADER.size + len(body)
    return _HEADER.pack(_VERSION, _Kind.MULTIPART_REQUEST, length, 2) + body


def messages(buffer: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Take whole messages off the front of `buffer`: type, transaction id, body.

    Raises:
        WatchError: what stands there is not OpenFlow 1.5.
    """
    while len(buffer) >= _HEADER.size:
        version, kind, length, xid = _HEADER.unpack_from(buffer)
        if length < _HEADER.size:
            raise WatchError(f"the switch sent a message of {length} octets")
        if version != _VERSION and kind not in _OF_ANY_VERSION:
            raise WatchError(f"the switch speaks OpenFlow version {version:#x}, not 1.5")
        if len(buffer) < length:
            return
        body = bytes(buffer[_HEADER.size : length])
        del buffer[:length]
        yield kind, xid, body


def updates(body: bytes) -> Iterator[Update]:
    """What a multipart reply says of the stamp; nothing if it is no flow monitor's.

    Raises:
        WatchError: a length in it is wrong.
    """
    if len(body) < _MULTIPART.size or _MULTIPART.unpack_from(body)[0] != _FLOW_MONITOR:
        return
    at = _MULTIPART.size
    while at < len(body):
        if len(body) - at < _ITEM.size:
            raise WatchError("the switch sent half a flow update")
        length, event = _ITEM.unpack_from(body, at)
        if length < 8 or at + length > len(body):
            raise WatchError(f"the switch sent a flow update of {length} octets")
        if event in set(_Event):
            update = _update(_Event(event), body[at + _ITEM.size : at + length])
            if update is not None:
                yield update
        at += length


def _update(event: _Event, data: bytes) -> Update | None:
    """What an update says of the stamp; None if it is of some other flow in its table."""
    if len(data) < _UPDATE.size:
        raise WatchError(f"the switch sent a flow update of {len(data)} octets")
    _, _, _, _, priority, cookie, _, match_length = _UPDATE.unpack_from(data)
    if priority or match_length != _EMPTY_MATCH:
        return None
    if event is _Event.REMOVED:
        return Update()
    return Update(Stamp(cookie, _serial(data[_INSTRUCTIONS_AT:])))


def _serial(instructions: bytes) -> int:
    """The constant that the stamp's one action would write to its register; 0 without it."""
    if len(instructions) < 24:
        return 0
    kind, _ = _ITEM.unpack_from(instructions)
    action, _ = _ITEM.unpack_from(instructions, 8)
    field, value = struct.unpack_from("!II", instructions, 12)
    if (kind, action, field) != (_APPLY_ACTIONS, _SET_FIELD, _SERIAL_FIELD):
        return 0
    return int(value)


class StampWatch:
    """One connection to the switch. `stamp` is what the switch has said last; None: there is none.

    A context manager. `cut` ends a `wait` from another thread.
    """

    def __init__(self, path: Path) -> None:
        """Connect to a bridge's management socket, and return when its stamp is known.

        Raises:
            WatchError: the bridge is not there, or cannot be watched.
        """
        self.stamp: Stamp | None = None
        self._known = False
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def _connect(self, path: Path) -> None:
        self._socket.settimeout(_HANDSHAKE_SECONDS)
        try:
            self._socket.connect(str(path))
            self._socket.sendall(hello() + monitor_request(Table.STAMP))
            while not self._known:
                self._receive()
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror
            raise WatchError(f"{path}: {reason}") from None

    def wait(self, seconds: float | None = None) -> None:
        """Return when the switch has said something, or after so long.

        Raises:
            WatchError: the switch has hung up, or what it says makes no sense.
        """
        if self._poll.poll(None if seconds is None else round(seconds * 1000)):
            self._receive()

    def newest(self) -> Stamp | None:
        """The stamp, after everything that the switch has said up to now.

        Raises:
            WatchError: as `wait`.
        """
        while self._poll.poll(0):
            self._receive()
        return self.stamp

    def cut(self) -> None:
        """Hang up: whoever waits for the switch gets a `WatchError`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

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
            self._told(kind, xid, body)

    def _told(self, kind: int, xid: int, body: bytes) -> None:
        match kind:
            case _Kind.ECHO_REQUEST:
                reply = _HEADER.pack(_VERSION, _Kind.ECHO_REPLY, _HEADER.size + len(body), xid)
                self._socket.sendall(reply + body)
            case _Kind.ERROR:
                raise WatchError(
                    f"the switch refuses to be watched (error {body[:4].hex()}): expected flow"
                    " monitors as Open vSwitch 3.1 has them, and OpenFlow15 among the bridge's"
                    " protocols"
                )
            case _Kind.MULTIPART_REPLY:
                for update in updates(body):
                    self.stamp = update.stamp
                self._known = True
