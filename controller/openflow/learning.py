"""The action learn on the wire, both ways (ovs-actions(7), learn).

Open vSwitch has two forms of it; the younger one has room for a limit, and that one it reports for
every learn that has a limit. After the head of a learn come the parts of the flow to be learnt,
each with a header of two octets: where its value comes from (a field of the packet, or octets that
follow), what it is for (a condition, or a write), and how many bits it has. A header of zeros, or
the end, is the end.
"""

from __future__ import annotations

import struct
from typing import Final

from ovsnet.controller.openflow import oxm
from ovsnet.controller.openflow.items import NX_HEAD, Nicira, extension, table
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Learn, Subfield, Term

# Timeouts, priority, cookie, flags, table, timeouts after the end of a TCP connection, limit, and
# where to note whether it was learnt.
_LEARN: Final = struct.Struct("!HHHQHBxHHIHxx")
_PART: Final = struct.Struct("!H")
_PLACE: Final = struct.Struct("!4sH")

_IMMEDIATE: Final = 0x2000
_LOAD: Final = 0x0800
_BITS: Final = 0x07FF


def encode_learn(learn: Learn) -> bytes:
    """The action. Conditions with a value stand first, since others may need them.

    Raises:
        ValueError: a condition has a mask, or the limit is 0, which means none.
        OverflowError: a value does not fit its field.
    """
    if not learn.limit:
        raise ValueError("learn without a limit: expected one")
    parts = [
        _LEARN.pack(
            *(learn.idle, 0, learn.priority, learn.cookie),
            *(0, learn.table, 0, 0, learn.limit, 0),
        )
    ]
    for term in learn.where:
        if term.mask is not None:
            raise ValueError(f"learn on some bits of {term.field.text}: expected all of them")
        parts += _constant(0, Subfield(term.field, 0, term.field.bits), term.value)
    for field in learn.same:
        place = _place(field, 0)
        parts += (_PART.pack(field.bits), place, place)
    parts += _constant(_LOAD, learn.target, learn.value)
    return extension(Nicira.LEARN2, b"".join(parts))


def _constant(use: int, target: Subfield, value: int) -> tuple[bytes, bytes, bytes]:
    if value >> target.bits:
        raise OverflowError(f"learn: {value:#x} does not fit {target.bits} bits")
    head = _PART.pack(_IMMEDIATE | use | target.bits)
    return head, value.to_bytes(_octets(target.bits), "big"), _place(target.field, target.offset)


def _octets(bits: int) -> int:
    """Octets of a value of so many bits: an even number."""
    return -(-bits // 16) * 2


def _place(field: Field, offset: int) -> bytes:
    return _PLACE.pack(oxm.header(field), offset)


def decode_learn(data: bytes) -> Learn:
    """The action in these octets, of which the first 16 are there and say that it is one.

    Raises:
        WireError: a part is cut off, or it learns something that our flows never do.
    """
    begin, end = NX_HEAD.size + _LEARN.size, len(data)
    if end < begin:
        raise WireError(f"learn of {end} octets: expected at least {begin}")
    idle, hard, priority, cookie, flags, number, *never, limit, result = _LEARN.unpack_from(
        data, NX_HEAD.size
    )
    if hard or flags or any(never) or result or not limit:
        raise WireError("learn with a hard timeout, a flag, a result or no limit")
    same: list[Field] = []
    where: list[Term] = []
    loads: list[tuple[Subfield, int]] = []
    at = begin
    while end - at >= _PART.size and (part := _PART.unpack_from(data, at)[0]):
        at += _PART.size
        if part & ~(_IMMEDIATE | _LOAD | _BITS):
            raise WireError(f"learn with a part {part:#06x}: expected a condition or a write")
        bits = part & _BITS
        if not part & _IMMEDIATE:
            source, at = _decode_place(data, at, bits)
            target, at = _decode_place(data, at, bits)
            if part & _LOAD or source != target or bits != target.field.bits:
                raise WireError("learn moves bits of the packet: expected to match whole fields")
            same.append(target.field)
            continue
        value, at = _decode_value(data, at, bits)
        target, at = _decode_place(data, at, bits)
        if part & _LOAD:
            loads.append((target, value))
        elif bits == target.field.bits:
            where.append(Term(target.field, value))
        else:
            raise WireError(f"learn on some bits of {target.field.text}: expected all of them")
    if len(loads) != 1:
        raise WireError(f"learn with {len(loads)} writes: expected one")
    ((target, value),) = loads
    return Learn(
        table(number), priority, tuple(same), tuple(where), target, value, idle, limit, cookie
    )


def _decode_value(data: bytes, at: int, bits: int) -> tuple[int, int]:
    after = at + _octets(bits)
    if after > len(data):
        raise WireError(f"learn: {len(data) - at} octets left, expected {after - at}")
    value = int.from_bytes(data[at:after], "big")
    if value >> bits:
        raise WireError(f"learn: {value:#x} does not fit {bits} bits")
    return value, after


def _decode_place(data: bytes, at: int, bits: int) -> tuple[Subfield, int]:
    after = at + _PLACE.size
    if after > len(data):
        raise WireError(f"learn: {len(data) - at} octets left, expected a field")
    field, _, masked = oxm.decode_header(data, at)
    offset = _PLACE.unpack_from(data, at)[1]
    if masked or offset + bits > field.bits or not bits:
        raise WireError(f"learn: {bits} bits of {field.text} from {offset} on, or a mask")
    return Subfield(field, offset, bits), after
