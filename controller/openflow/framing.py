"""Cutting a stream into OpenFlow messages, and checking them before anything parses them.

os-ken's parsers trust the lengths inside a message: a hello element of length 0 keeps them busy
for ever. So every list inside a message is walked here first, and messages that the controller
has no use for are not parsed at all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ovsnet.controller.openflow.oxm import WireError
from ovsnet.controller.openflow.protocol import HEADER_OCTETS, OFP_VERSION, Kind, Multipart

_HEADER: Final = struct.Struct("!BBHI")
_ITEM: Final = struct.Struct("!HH")
_MULTIPART_HEADER: Final = struct.Struct("!HH4x")
_MORE: Final = 1

_PORT_OCTETS: Final = 40
_DESCRIPTION_OCTETS: Final = 1056

_FIXED_OCTETS: Final[dict[int, int]] = {
    Kind.ERROR: 12,
    Kind.ECHO_REQUEST: 8,
    Kind.ECHO_REPLY: 8,
    Kind.FEATURES_REPLY: 32,
    Kind.ROLE_REPLY: 24,
}
# Where the list of items begins in messages that end with one.
_ITEMS_AT: Final[dict[int, int]] = {
    Kind.HELLO: 8,
    Kind.BUNDLE_CONTROL: 16,
    Kind.ROLE_STATUS: 24,
}
_PORT_STATUS_PORT_AT: Final = 16


class Message(NamedTuple):
    """One whole message: its header's fields and all its octets."""

    version: int
    kind: int
    xid: int
    data: bytes


class Part(NamedTuple):
    """One part of a multipart reply."""

    kind: int
    more: bool
    body: bytes


def messages(buffer: bytearray) -> Iterator[Message]:
    """Take the whole messages off the front of `buffer`, which keeps what is not yet whole.

    Raises:
        WireError: what stands there is no OpenFlow message.
    """
    at = 0
    try:
        while len(buffer) - at >= HEADER_OCTETS:
            version, kind, length, xid = _HEADER.unpack_from(buffer, at)
            if length < HEADER_OCTETS:
                raise WireError(f"a message of {length} octets: expected at least {HEADER_OCTETS}")
            if version != OFP_VERSION and kind != Kind.HELLO:
                raise WireError(f"OpenFlow version {version:#x}: expected {OFP_VERSION:#x}")
            if len(buffer) - at < length:
                break
            data = bytes(buffer[at : at + length])
            at += length
            yield Message(version, kind, xid, data)
    finally:
        del buffer[:at]


def part(data: bytes) -> Part:
    """The part that a multipart reply carries.

    Raises:
        WireError: it is shorter than its header.
    """
    _need(data, HEADER_OCTETS + _MULTIPART_HEADER.size)
    kind, flags = _MULTIPART_HEADER.unpack_from(data, HEADER_OCTETS)
    return Part(kind, bool(flags & _MORE), data[HEADER_OCTETS + _MULTIPART_HEADER.size :])


def check(message: Message) -> bool:
    """Whether the message is of a kind that the controller parses; its lengths are then right.

    Raises:
        WireError: a length in it is wrong.
    """
    kind, data = message.kind, message.data
    if kind == Kind.MULTIPART_REPLY:
        return _check_part(part(data))
    if kind == Kind.PORT_STATUS:
        _need(data, _PORT_STATUS_PORT_AT + _PORT_OCTETS)
        if _port_octets(data, _PORT_STATUS_PORT_AT) != len(data) - _PORT_STATUS_PORT_AT:
            raise WireError("a port status with more or less than one port")
        return True
    items_at = _ITEMS_AT.get(kind)
    if items_at is not None:
        _need(data, items_at)
        _check_items(data, items_at, len(data))
        return True
    fixed = _FIXED_OCTETS.get(kind)
    if fixed is not None:
        _need(data, fixed)
    return fixed is not None


def _check_part(reply: Part) -> bool:
    if reply.kind == Multipart.DESCRIPTION:
        if len(reply.body) != _DESCRIPTION_OCTETS:
            raise WireError(f"a description of {len(reply.body)} octets: expected 1056")
        return True
    if reply.kind == Multipart.PORT_DESCRIPTION:
        at = 0
        while at < len(reply.body):
            _need(reply.body, at + _PORT_OCTETS)
            at += _port_octets(reply.body, at)
        return True
    return reply.kind in {Multipart.FLOW_DESCRIPTION, Multipart.TABLE}


def _port_octets(data: bytes, at: int) -> int:
    """The octets of the port at `at`, whose properties are checked (ofp_port)."""
    length = int.from_bytes(data[at + 4 : at + 6], "big")
    if length < _PORT_OCTETS or at + length > len(data):
        raise WireError(f"a port of {length} octets, {len(data) - at} are left")
    _check_items(data, at + _PORT_OCTETS, at + length)
    return length


def _check_items(data: bytes, at: int, end: int) -> None:
    """Walk items of type, length and content, each padded to a multiple of 8 octets."""
    while at < end:
        if end - at < _ITEM.size:
            raise WireError(f"{end - at} octets left in a message: expected an item")
        length = _ITEM.unpack_from(data, at)[1]
        if length < _ITEM.size or length > end - at:
            raise WireError(f"an item of {length} octets in a message, {end - at} are left")
        at += -(-length // 8) * 8


def _need(data: bytes, octets: int) -> None:
    if len(data) < octets:
        raise WireError(f"{len(data)} octets in a message: expected at least {octets}")
