"""Netlink (netlink(7), rtnetlink(7)): messages packed once, sent many at a time.

Setting up one pod takes a handful of messages. They are packed with prepared structs and handed
to the kernel in one system call, which answers each with an acknowledgement.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP_INTR = 0x10
_NLM_F_DUMP = 0x300
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
_RECEIVE_BYTES = 1 << 16
_MOST_DUMPS = 20

REPLACE = 0x100
EXCLUSIVE = 0x200
CREATE = 0x400


class NetlinkError(OSError):
    """The kernel refused a message; the text says which and why."""


@dataclass(frozen=True)
class Message:
    """One request: type, extra flags, body, and what it does in words for an error's text."""

    kind: int
    flags: int
    body: bytes
    purpose: str
    tolerated: frozenset[int] = field(default_factory=frozenset)
    """Error numbers that mean that there was nothing to do."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def attribute_u32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number."""
    return attribute(kind, _U32.pack(value))


def attribute_text(kind: int, text: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(kind, text.encode() + b"\0")


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes in `data` by type; of several of one type the last."""
    found: dict[int, bytes] = {}
    while start + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[start + 4 : start + length]
        start += length + (-length % 4)
    return found


class Netlink:
    """A netlink socket of the namespace in which the calling thread is when it is made.

    Not for use by two threads at once: every thread has its own.
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.bind((0, 0))
        self._sequence = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def run(self, messages: Sequence[Message]) -> None:
        """Send all messages in one call and wait for every acknowledgement.

        The kernel carries out each of them, also behind one that failed.

        Raises:
            NetlinkError: for the first message that failed.
        """
        pending: dict[int, Message] = {}
        packed = bytearray()
        for message in messages:
            number = next(self._sequence)
            pending[number] = message
            packed += _pack(message, number, _NLM_F_REQUEST | _NLM_F_ACK)
        self._socket.send(packed)
        failed: NetlinkError | None = None
        while pending:
            for kind, flags, number, body in split(self._socket.recv(_RECEIVE_BYTES)):
                acknowledged = pending.pop(number, None) if kind == _NLMSG_ERROR else None
                if acknowledged is None:
                    continue
                error = _error(acknowledged, flags, body)
                failed = failed or error
        if failed:
            raise failed

    def dump(self, kind: int, body: bytes, purpose: str) -> list[bytes]:
        """The bodies of all messages of a dump.

        A dump during which something changed may lack entries; it is taken again, as what is
        missing here may be taken for gone.

        Raises:
            NetlinkError: the kernel refused, or things never stood still.
        """
        for _ in range(_MOST_DUMPS):
            found, consistent = self._dump(Message(kind, 0, body, purpose))
            if consistent:
                return found
        raise NetlinkError(errno.EAGAIN, f"{purpose}: it changes all the time")

    def _dump(self, request: Message) -> tuple[list[bytes], bool]:
        number = next(self._sequence)
        self._socket.send(_pack(request, number, _NLM_F_REQUEST | _NLM_F_DUMP))
        found: list[bytes] = []
        consistent = True
        while True:
            for answer, flags, sequence, content in split(self._socket.recv(_RECEIVE_BYTES)):
                if sequence != number:
                    continue
                consistent = consistent and not flags & _NLM_F_DUMP_INTR
                if answer in {_NLMSG_DONE, _NLMSG_ERROR}:
                    error = _error(request, flags, content) if content else None
                    if error:
                        raise error
                    return found, consistent
                found.append(content)


def _pack(message: Message, number: int, flags: int) -> bytes:
    length = _HEADER.size + len(message.body)
    header = _HEADER.pack(length, message.kind, flags | message.flags, number, 0)
    return header + message.body + bytes(-length % 4)


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in what the kernel sent: type, flags, sequence number and body of each."""
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, start)
        yield kind, flags, number, data[start + _HEADER.size : start + length]
        start += length + (-length % 4)


def _error(message: Message, flags: int, body: bytes) -> NetlinkError | None:
    number = -int.from_bytes(body[:4], "little", signed=True)
    if number == 0 or number in message.tolerated:
        return None
    text = os.strerror(number)
    if flags & _NLM_F_ACK_TLVS and flags & _NLM_F_CAPPED:
        words = attributes(body, 4 + _HEADER.size).get(_NLMSGERR_ATTR_MSG)
        if words:
            text += f" ({words.rstrip(bytes(1)).decode(errors='replace')})"
    return NetlinkError(number, f"{message.purpose}: {text}")
