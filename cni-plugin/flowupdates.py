"""How a switch tells of its flows: the bytes of OpenFlow's flow monitors, both ways.

A flow monitor (OpenFlow 1.5.1, section 7.3.5.19) tells which flows are there, and from then on
every change, in the order in which they took effect. A switch that has more to tell than its client
takes pauses: it goes on to tell which flows are removed, and when the client has caught up which
were added and changed meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from ovsnet.names import Table

_VERSION = 6
_HEADER = struct.Struct("!BBHI")
_MULTIPART = struct.Struct("!HH4x")
_MONITOR = struct.Struct("!IIIHBB")
_UPDATE = struct.Struct("!BBHHH4xQ")
_MATCH = struct.Struct("!HH")
_ITEM = struct.Struct("!HH")

_FLOW_MONITOR = 16
_MORE = 1
_ANY = 0xFFFFFFFF
_MONITOR_FLAGS = 0x1F
"""What is there now, and what is added, removed and modified, with instructions."""
_OXM_MATCH = 1


class WatchError(Exception):
    """The switch cannot be watched, or no longer; the text says why."""


class Kind(IntEnum):
    """Types of OpenFlow's messages."""

    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    EXPERIMENTER = 4
    MULTIPART_REQUEST = 18
    MULTIPART_REPLY = 19


_OF_ANY_VERSION = frozenset({Kind.HELLO, Kind.ERROR})
MONITOR_XID = 2
"""Transaction id of the request to be told, and of the answer that says what is there."""


class Event(IntEnum):
    """What happened to a flow, or to the monitor (ofp_flow_update_event)."""

    INITIAL = 0
    ADDED = 1
    REMOVED = 2
    MODIFIED = 3
    PAUSED = 5
    RESUMED = 6


_OF_A_FLOW = frozenset({Event.INITIAL, Event.ADDED, Event.REMOVED, Event.MODIFIED})


class FlowUpdate(NamedTuple):
    """What the switch tells: of a flow, or that it pauses or is done with that.

    `match` and `instructions` are as OpenFlow 1.5 has them; instructions of a flow that is removed
    are those that it had.
    """

    event: Event
    table: int = 0
    priority: int = 0
    cookie: int = 0
    match: bytes = b""
    instructions: bytes = b""


class Watched(NamedTuple):
    """Flows to be told of: those of a table whose match has all of these OXM fields."""

    table: Table
    fields: bytes = b""


def oxm_match(fields: bytes = b"") -> bytes:
    """A match of OXM fields (OpenFlow 1.5.1, section 7.2.3.1), padded."""
    length = _MATCH.size + len(fields)
    return _MATCH.pack(_OXM_MATCH, length) + fields + bytes(-length % 8)


def message(kind: Kind, xid: int, body: bytes = b"") -> bytes:
    """A message with its header."""
    return _HEADER.pack(_VERSION, kind, _HEADER.size + len(body), xid) + body


def hello() -> bytes:
    """The greeting of one who speaks OpenFlow 1.5."""
    return message(Kind.HELLO, 1)


def monitor_request(watched: Sequence[Watched]) -> bytes:
    """The request to be told of flows and of every change of them."""
    monitors = (
        _MONITOR.pack(number, _ANY, _ANY, _MONITOR_FLAGS, table, 0) + oxm_match(fields)
        for number, (table, fields) in enumerate(watched, 1)
    )
    body = _MULTIPART.pack(_FLOW_MONITOR, 0) + b"".join(monitors)
    return message(Kind.MULTIPART_REQUEST, MONITOR_XID, body)


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


def more_follow(body: bytes) -> bool:
    """Whether a multipart reply is not the last one of its answer."""
    return len(body) >= _MULTIPART.size and bool(_MULTIPART.unpack_from(body)[1] & _MORE)


def updates(body: bytes) -> Iterator[FlowUpdate]:
    """What a multipart reply tells of flows; nothing if it is no flow monitor's.

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
        if event in _OF_A_FLOW:
            yield _of_a_flow(Event(event), body[at + _ITEM.size : at + length])
        elif event in {Event.PAUSED, Event.RESUMED}:
            yield FlowUpdate(Event(event))
        at += length


def _of_a_flow(event: Event, data: bytes) -> FlowUpdate:
    if len(data) < _UPDATE.size + _MATCH.size:
        raise WatchError(f"the switch sent a flow update of {len(data)} octets")
    table, _, _, _, priority, cookie = _UPDATE.unpack_from(data)
    _, length = _MATCH.unpack_from(data, _UPDATE.size)
    end = _UPDATE.size + length + -length % 8
    if length < _MATCH.size or end > len(data):
        raise WatchError(f"the switch sent a match of {length} octets")
    return FlowUpdate(event, table, priority, cookie, data[_UPDATE.size : end], data[end:])
