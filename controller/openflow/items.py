"""What the parts of a message have in common: items that begin with type and length, numbers of
tables, and the head of the actions that only Open vSwitch knows.

An item's length is a multiple of 8 octets.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from ovsnet.controller.openflow.oxm import WireError
from ovsnet.names import Table

HEAD: Final = struct.Struct("!HH")
"""Type and length of an item."""

EXPERIMENTER: Final = 0xFFFF
"""Type of every item that OpenFlow leaves to others, actions and properties alike."""

_NICIRA: Final = 0x00002320
_TABLES: Final = {known.value: known for known in Table}


class Nicira(IntEnum):
    """Subtypes of Open vSwitch's own actions."""

    MULTIPATH = 10
    RESUBMIT_TABLE = 14
    OUTPUT_REG = 15
    CONJUNCTION = 34
    CT = 35
    NAT = 36
    LEARN2 = 45


NX_HEAD: Final = struct.Struct("!HHIH")
"""What Open vSwitch's own actions begin with: type, length, vendor and subtype."""


def padded(kind: int, body: bytes) -> bytes:
    """An item of this type."""
    length = -(-(len(body) + HEAD.size) // 8) * 8
    return HEAD.pack(kind, length) + body + bytes(length - HEAD.size - len(body))


def extension(subtype: Nicira, body: bytes) -> bytes:
    """One of Open vSwitch's own actions."""
    length = -(-(len(body) + NX_HEAD.size) // 8) * 8
    head = NX_HEAD.pack(EXPERIMENTER, length, _NICIRA, subtype)
    return head + body + bytes(length - NX_HEAD.size - len(body))


def item(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Type and length of the item at `at`: at least 8 octets, whole, and a multiple of 8.

    Raises:
        WireError: it is not so.
    """
    if end - at < 8:
        raise WireError(f"{end - at} octets left: expected an item of at least 8")
    kind, length = HEAD.unpack_from(data, at)
    if length < 8 or length % 8 or length > end - at:
        raise WireError(f"item of type {kind} says {length} octets, {end - at} are left")
    return kind, length


def subtype_of(data: bytes) -> int:
    """Which of Open vSwitch's actions this is, of at least 16 octets.

    Raises:
        WireError: it is somebody else's.
    """
    _, _, vendor, number = NX_HEAD.unpack_from(data)
    if vendor != _NICIRA:
        raise WireError(f"action of experimenter {vendor:#x}: expected {_NICIRA:#x}")
    return int(number)


def table(number: int) -> Table:
    """The table of this number.

    Raises:
        WireError: the pipeline has none of this number.
    """
    known = _TABLES.get(number)
    if known is None:
        raise WireError(f"table {number}: expected 0 to {max(Table):d}")
    return known
