"""Messages to a switch, as bytes (OpenFlow 1.5.1, section 7).

Flow-mods come wrapped as the bundle messages that carry them. Every bundle has the same id and
its messages the same transaction id, so the bytes of a flow are the same for every switch and
every bundle: they are made once and sent to all. A switch holds the bundles of each connection
apart, and a session has one open at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from ovsnet.controller.openflow.actions import encode_instructions
from ovsnet.controller.openflow.oxm import (
    EMPTY_MATCH,
    MATCH_HEADER,
    MATCH_TYPE_OXM,
    encode_match,
    encode_terms,
)
from ovsnet.controller.openflow.protocol import (
    FLOW_XID,
    OFP_VERSION,
    TABLE_ALL,
    BundleControl,
    ControllerRole,
    Kind,
    Multipart,
)
from ovsnet.flows.flow import Flow, FlowKey

_BUNDLE_ID: Final = 1
_ATOMIC_AND_ORDERED: Final = 0x3

_FLOW_ADD: Final = 0
_FLOW_DELETE_STRICT: Final = 4
_ANY: Final = 0xFFFFFFFF

_WRAPPER_OCTETS: Final = 16
_FLOW_MOD_OCTETS: Final = 48
_BEFORE_TERMS: Final = _FLOW_MOD_OCTETS + MATCH_HEADER.size
_LONGEST_FLOW_MOD: Final = 0xFFFF - _WRAPPER_OCTETS

_HEADER: Final = struct.Struct("!BBHI")
_BUNDLE_CONTROL: Final = struct.Struct("!BBHIIHH")
_MULTIPART: Final = struct.Struct("!BBHIHH4x")
_FLOW_QUERY: Final = struct.Struct("!B3xII4xQQ")
_ROLE: Final = struct.Struct("!BBHII4xQ")

# A bundle-add-message up to the terms of the match of the flow-mod in it. What is the same for all
# stands in runs of octets, so that one flow costs one call with few arguments: the wrapper's
# beginning, what lies between its length and that of the flow-mod (xid, bundle, flags, version,
# type), the xid, the cookie mask, the timeouts, and all from the buffer to the match's type.
_FLOW_MOD: Final = struct.Struct("!2sH14sH4sQ8sBB4sH18sH")
_WRAPPER_START: Final = bytes((OFP_VERSION, Kind.BUNDLE_ADD_MESSAGE))
_XID: Final = struct.pack("!I", FLOW_XID)
_WRAPPER_END: Final = (
    _XID
    + struct.pack("!IHH", _BUNDLE_ID, 0, _ATOMIC_AND_ORDERED)
    + bytes((OFP_VERSION, Kind.FLOW_MOD))
)
_ANY_COOKIE: Final = bytes(8)
_NO_TIMEOUTS: Final = bytes(4)
_FROM_BUFFER_TO_MATCH: Final = struct.pack("!IIIHHH", _ANY, _ANY, _ANY, 0, 0, MATCH_TYPE_OXM)
_as_text: Final = msgspec.json.Encoder().encode
_PADDING: Final = [bytes(-(MATCH_HEADER.size + length) % 8) for length in range(8)]


def flow_adds(flows: Iterable[Flow]) -> bytes:
    """Bundle messages that add each flow, or replace the one of the same key.

    Raises:
        ValueError: an action stands after a goto, or a flow is longer than a message can be.
        OverflowError: a value does not fit its field.
    """
    parts: list[bytes] = []
    for flow in flows:
        terms = encode_terms(flow.match)
        padding = _PADDING[len(terms) & 7]
        actions = encode_instructions(flow.actions)
        length = _BEFORE_TERMS + len(terms) + len(padding) + len(actions)
        if length > _LONGEST_FLOW_MOD:
            raise ValueError(f"a flow of {length} octets: expected at most {_LONGEST_FLOW_MOD}")
        head = _FLOW_MOD.pack(
            _WRAPPER_START,
            length + _WRAPPER_OCTETS,
            _WRAPPER_END,
            length,
            _XID,
            flow.cookie,
            _ANY_COOKIE,
            flow.table,
            _FLOW_ADD,
            _NO_TIMEOUTS,
            flow.priority,
            _FROM_BUFFER_TO_MATCH,
            MATCH_HEADER.size + len(terms),
        )
        parts += (head, terms, padding, actions)
    return b"".join(parts)


def flow_deletes(keys: Iterable[FlowKey]) -> bytes:
    """Bundle messages that delete exactly the flows of these keys; one that is gone is no error.

    Raises:
        OverflowError: a value does not fit its field.
    """
    return b"".join(
        raw_delete(table, priority, encode_match(match)) for table, priority, match in keys
    )


def raw_delete(table: int, priority: int, match: bytes) -> bytes:
    """A bundle message that deletes one flow, by its match as bytes (with header and padding)."""
    length = _FLOW_MOD_OCTETS + len(match)
    head = _FLOW_MOD.pack(
        _WRAPPER_START,
        length + _WRAPPER_OCTETS,
        _WRAPPER_END,
        length,
        _XID,
        0,
        _ANY_COOKIE,
        table,
        _FLOW_DELETE_STRICT,
        _NO_TIMEOUTS,
        priority,
        _FROM_BUFFER_TO_MATCH,
        0,
    )
    return head[: -MATCH_HEADER.size] + match


class SharedAdds:
    """`flow_adds` for changes that go to many switches: remembers the bytes of recent flows."""

    def __init__(self, remember: int = 1 << 14) -> None:
        self._remember = remember
        self._encode = lru_cache(maxsize=remember)(lambda flow: flow_adds((flow,)))

    def encode(self, flows: Sequence[Flow]) -> bytes:
        """As `flow_adds`. More flows than it remembers are a first load, and no change."""
        if len(flows) > self._remember:
            return flow_adds(flows)
        return b"".join(map(self._encode, flows))


@lru_cache(maxsize=1 << 14)
def fingerprint(flow: Flow) -> int:
    """64 bits that depend on all of a flow, the same in every process and release of Python."""
    # Remembered, for the peers of a policy are the same flows on every node that has subjects.
    # Not of the octets on the wire: those take three times as long to make.
    return int.from_bytes(blake2b(_as_text(flow), digest_size=8).digest(), "big")


def bundle_control(control: BundleControl, xid: int) -> bytes:
    """Opens, closes, commits or discards the bundle."""
    return _BUNDLE_CONTROL.pack(
        *(OFP_VERSION, Kind.BUNDLE_CONTROL, _BUNDLE_CONTROL.size, xid),
        *(_BUNDLE_ID, control, _ATOMIC_AND_ORDERED),
    )


def bundled(kind: Kind, body: bytes) -> bytes:
    """A bundle message that carries a message of this kind."""
    length = _HEADER.size + len(body)
    wrapper = _BUNDLE_CONTROL.pack(
        *(OFP_VERSION, Kind.BUNDLE_ADD_MESSAGE, _WRAPPER_OCTETS + length, FLOW_XID),
        *(_BUNDLE_ID, 0, _ATOMIC_AND_ORDERED),
    )
    return wrapper + _HEADER.pack(OFP_VERSION, kind, length, FLOW_XID) + body


def filled_bundle(xid: int, messages: Iterable[bytes]) -> bytes:
    """A bundle opened, filled and closed: what is left to do is to commit or discard it."""
    begin = bundle_control(BundleControl.OPEN_REQUEST, xid)
    return b"".join((begin, *messages, bundle_control(BundleControl.CLOSE_REQUEST, xid)))


def flow_dump(xid: int, table: int = TABLE_ALL) -> bytes:
    """Asks for all flows of a table, or of all tables."""
    query = _FLOW_QUERY.pack(table, _ANY, _ANY, 0, 0) + EMPTY_MATCH
    return _multipart(Multipart.FLOW_DESCRIPTION, xid, query)


def flow_counts(xid: int) -> bytes:
    """Asks how many flows there are in each table."""
    return _multipart(Multipart.TABLE, xid, b"")


def description_request(xid: int) -> bytes:
    """Asks for the description that holds the datapath's own words (dp_desc)."""
    return _multipart(Multipart.DESCRIPTION, xid, b"")


def _multipart(kind: Multipart, xid: int, body: bytes) -> bytes:
    length = _MULTIPART.size + len(body)
    return _MULTIPART.pack(OFP_VERSION, Kind.MULTIPART_REQUEST, length, xid, kind, 0) + body


def role_request(xid: int, generation: int, role: ControllerRole = ControllerRole.MASTER) -> bytes:
    """Asks for a role under this generation id (64 bit; OpenFlow 1.5.1, 6.3.5). `NOCHANGE` asks
    which role and generation id there are.
    """
    return _ROLE.pack(OFP_VERSION, Kind.ROLE_REQUEST, _ROLE.size, xid, role, generation)


def echo_request(xid: int) -> bytes:
    """Asks for a sign of life."""
    return _HEADER.pack(OFP_VERSION, Kind.ECHO_REQUEST, _HEADER.size, xid)
