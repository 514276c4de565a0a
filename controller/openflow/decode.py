"""Flows as a switch reports them, from bytes (OpenFlow 1.5.1, section 7.3.5.2).

Flows that the switch itself has learnt (`ovsnet.flows.learnt`) are left out: they come and go, and
are nobody's concern but the switch's.

What comes from a switch is believed to be nothing in particular: every length is checked before
it is used and every step goes forward, so the work is bounded by the number of octets. A flow
that uses something that the pipeline never does yields a `ForeignFlow`, which is enough to delete
it; bytes that are no list of flows at all raise `WireError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ovsnet.controller.openflow.actions import decode_instructions
from ovsnet.controller.openflow.items import table
from ovsnet.controller.openflow.oxm import MATCH_TYPE_OXM, WireError, decode_match
from ovsnet.controller.openflow.protocol import Kind
from ovsnet.flows.flow import Flow, FlowKey
from ovsnet.flows.learnt import LEARNT_COOKIE
from ovsnet.names import Table

_ENTRY: Final = struct.Struct("!4xBxHHHHHQ")
_COOKIE: Final = struct.Struct("!Q")
_STATS_HEADER: Final = struct.Struct("!HH")
_WRAPPER_OCTETS: Final = 16
_FLOW_MOD: Final = struct.Struct("!8xQ8xB5xH")
_TABLE_STATS: Final = struct.Struct("!B3xI16x")
_LEARNT: Final = _COOKIE.pack(LEARNT_COOKIE)
_SMALLEST_ENTRY: Final = 24 + 8 + 8

_OXS_BASIC: Final = b"\x80\x02"
_DURATION: Final = 0
_PACKETS: Final = 4
_BYTES: Final = 5


class ForeignFlow(msgspec.Struct, frozen=True):
    """A flow that we cannot have written, as it stands, and why.

    `match` is enough to delete it. `key` is there if at least that could be one of ours.
    """

    table: int
    priority: int
    match: bytes
    cookie: int
    reason: str
    key: FlowKey | None = None


class Stats(msgspec.Struct, frozen=True, gc=False):
    """What a switch counts for a flow. `seconds`: how long it has been there."""

    packets: int
    octets: int
    seconds: float


def flows(body: bytes) -> list[Flow | ForeignFlow]:
    """The flows in one part of a flow description reply, but for those that the switch learnt.

    Raises:
        WireError: the bytes are no list of flow descriptions.
    """
    return [_flow(body, entry) for entry in _entries(body) if not _is_learnt(body, entry)]


def flows_with_stats(body: bytes) -> list[tuple[Flow | ForeignFlow, Stats]]:
    """The same with what the switch counts for each flow.

    Raises:
        WireError: the bytes are no list of flow descriptions.
    """
    return [
        (_flow(body, entry), _stats(body[entry.stats : entry.instructions]))
        for entry in _entries(body)
        if not _is_learnt(body, entry)
    ]


def packets(body: bytes) -> Iterator[tuple[int, int]]:
    """The cookie of each flow, and how many packets the switch has counted for it. What else the
    flows say is passed over: a third of the work.

    Raises:
        WireError: the bytes are no list of flow descriptions.
    """
    for entry in _entries(body):
        stats = _stats(body[entry.stats : entry.instructions])
        yield _COOKIE.unpack_from(body, entry.start + 16)[0], stats.packets


class _Entry(NamedTuple):
    """Offsets of a flow's parts in the reply: each ends at or before the next."""

    start: int
    match_end: int
    stats: int
    instructions: int
    end: int


def _entries(body: bytes) -> Iterator[_Entry]:
    at, end = 0, len(body)
    while at < end:
        if end - at < _SMALLEST_ENTRY:
            raise WireError(f"{end - at} octets left: expected a flow of at least 40")
        length = int.from_bytes(body[at : at + 2], "big")
        after = at + length
        if length < _SMALLEST_ENTRY or length % 8 or after > end:
            raise WireError(f"a flow says it has {length} octets, {end - at} are left")
        match_type, match_length = _STATS_HEADER.unpack_from(body, at + 24)
        stats = at + 24 + -(-match_length // 8) * 8
        if match_type != MATCH_TYPE_OXM or match_length < 4 or stats + 8 > after:
            raise WireError(f"a match of type {match_type} and {match_length} octets in a flow")
        stats_length = int.from_bytes(body[stats + 2 : stats + 4], "big")
        instructions = stats + -(-stats_length // 8) * 8
        if stats_length < 4 or instructions > after:
            raise WireError(f"statistics of {stats_length} octets in a flow")
        yield _Entry(at, at + 24 + match_length, stats, instructions, after)
        at = after


def _is_learnt(body: bytes, entry: _Entry) -> bool:
    at = entry.start
    return body[at + 4] == Table.AFFINITY and body.startswith(_LEARNT, at + 16)


def _flow(body: bytes, entry: _Entry) -> Flow | ForeignFlow:
    start, match_end, stats, instructions, end = entry
    number, priority, idle, hard, flags, importance, cookie = _ENTRY.unpack_from(body, start)
    key: FlowKey | None = None
    try:
        key = (table(number), priority, decode_match(body[start + 28 : match_end]))
        if idle or hard or flags or importance:
            raise WireError("it has a timeout, a flag or an importance, and ours have none")
        return Flow(*key, decode_instructions(body[instructions:end]), cookie)
    except WireError as error:
        return ForeignFlow(number, priority, body[start + 24 : stats], cookie, str(error), key)


def _stats(data: bytes) -> Stats:
    """Reads an OXS list (OpenFlow 1.5.1, 7.2.4); what is not there counts as 0."""
    counted = _oxs(data)
    duration = counted.get(_DURATION, 0)
    seconds = (duration >> 32) + (duration & 0xFFFFFFFF) / 1e9
    return Stats(counted.get(_PACKETS, 0), counted.get(_BYTES, 0), seconds)


def _oxs(data: bytes) -> dict[int, int]:
    if len(data) < _STATS_HEADER.size:
        raise WireError(f"statistics of {len(data)} octets: expected at least 4")
    end = _STATS_HEADER.unpack_from(data)[1]
    if end > len(data):
        raise WireError(f"statistics say {end} octets, {len(data)} are there")
    at = 4
    found = {}
    while end - at >= 4:
        number, size = data[at + 2] >> 1, data[at + 3]
        if at + 4 + size > end:
            raise WireError(f"a statistic of {size} octets, {end - at - 4} are left")
        if data[at : at + 2] == _OXS_BASIC:
            found[number] = int.from_bytes(data[at + 4 : at + 4 + size], "big")
        at += 4 + size
    return found


def flow_counts(body: bytes) -> dict[int, int]:
    """How many flows each table has, as a table statistics reply tells (7.3.5.6).

    Raises:
        WireError: the bytes are no list of tables.
    """
    if not body or len(body) % _TABLE_STATS.size:
        raise WireError(f"{len(body)} octets of tables: expected {_TABLE_STATS.size} for each")
    return dict(_TABLE_STATS.iter_unpack(body))


class RefusedFlow(msgspec.Struct, frozen=True):
    """What an error message still tells about the flow-mod that it refuses."""

    table: int
    priority: int
    cookie: int


def refused_flow(message: bytes) -> RefusedFlow | None:
    """The flow of a refused flow-mod, in a bundle message or not, from its first 64 octets."""
    at = 0
    if message[1:2] == bytes((Kind.BUNDLE_ADD_MESSAGE,)):
        at = _WRAPPER_OCTETS
    if message[at + 1 : at + 2] != bytes((Kind.FLOW_MOD,)) or len(message) < at + 32:
        return None
    cookie, table_number, priority = _FLOW_MOD.unpack_from(message, at)
    return RefusedFlow(table_number, priority, cookie)
