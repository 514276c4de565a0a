"""Fields on the wire: OXM and NXM headers, terms and matches both ways.

The numbers are those of the OpenFlow 1.5.1 specification (section 7.2.3) and, for what only Open
vSwitch knows, of ovs-fields(7). A header is 32 bits: class, field, a bit that says whether a mask
follows, and the length of what follows in octets.
"""

from __future__ import annotations

import itertools
import struct
from functools import lru_cache
from typing import Final

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Match, Term

_BASIC: Final = 0x8000
_NXM_0: Final = 0x0000
_NXM_1: Final = 0x0001

_REGISTERS: Final = [f for f in Field if f <= Field.REG9]
_NUMBERS: Final[dict[Field, tuple[int, int]]] = {
    **{register: (_NXM_1, n) for n, register in enumerate(_REGISTERS)},
    Field.DP_HASH: (_NXM_1, 35),
    Field.CONJ_ID: (_NXM_1, 37),
    Field.IN_PORT: (_BASIC, 0),
    Field.TUN_ID: (_BASIC, 38),
    Field.TUN_SRC: (_NXM_1, 31),
    Field.TUN_DST: (_NXM_1, 32),
    Field.TUN_IPV6_SRC: (_NXM_1, 109),
    Field.TUN_IPV6_DST: (_NXM_1, 110),
    Field.CT_STATE: (_NXM_1, 105),
    Field.CT_ZONE: (_NXM_1, 106),
    Field.CT_MARK: (_NXM_1, 107),
    Field.CT_LABEL: (_NXM_1, 108),
    Field.CT_NW_SRC: (_NXM_1, 120),
    Field.CT_NW_DST: (_NXM_1, 121),
    Field.CT_IPV6_SRC: (_NXM_1, 122),
    Field.CT_IPV6_DST: (_NXM_1, 123),
    Field.CT_NW_PROTO: (_NXM_1, 119),
    Field.CT_TP_SRC: (_NXM_1, 124),
    Field.CT_TP_DST: (_NXM_1, 125),
    Field.ETH_DST: (_BASIC, 3),
    Field.ETH_SRC: (_BASIC, 4),
    Field.ETH_TYPE: (_BASIC, 5),
    Field.IP_PROTO: (_BASIC, 10),
    Field.IP_TTL: (_NXM_1, 29),
    Field.IP_FRAG: (_NXM_1, 26),
    Field.IPV4_SRC: (_BASIC, 11),
    Field.IPV4_DST: (_BASIC, 12),
    Field.IPV6_SRC: (_BASIC, 26),
    Field.IPV6_DST: (_BASIC, 27),
    Field.TCP_SRC: (_BASIC, 13),
    Field.TCP_DST: (_BASIC, 14),
    Field.TCP_FLAGS: (_BASIC, 42),
    Field.UDP_SRC: (_BASIC, 15),
    Field.UDP_DST: (_BASIC, 16),
    Field.SCTP_SRC: (_BASIC, 17),
    Field.SCTP_DST: (_BASIC, 18),
    Field.ICMP_TYPE: (_BASIC, 19),
    Field.ICMP_CODE: (_BASIC, 20),
    Field.ICMPV6_TYPE: (_BASIC, 29),
    Field.ICMPV6_CODE: (_BASIC, 30),
    Field.ARP_OP: (_BASIC, 21),
    Field.ARP_SPA: (_BASIC, 22),
    Field.ARP_TPA: (_BASIC, 23),
    Field.ARP_SHA: (_BASIC, 24),
    Field.ARP_THA: (_BASIC, 25),
    Field.ND_TARGET: (_BASIC, 31),
    Field.ND_SLL: (_BASIC, 32),
    Field.ND_TLL: (_BASIC, 33),
}

_HEADER: Final = struct.Struct("!HBB")
# Open vSwitch names the field of an output action by its older number, where it has one.
_OLDER_NUMBERS: Final[dict[Field, tuple[int, int]]] = {
    Field.TUN_ID: (_NXM_1, 16),
    Field.ETH_DST: (_NXM_0, 1),
    Field.ETH_SRC: (_NXM_0, 2),
    Field.ETH_TYPE: (_NXM_0, 3),
    Field.IP_PROTO: (_NXM_0, 6),
    Field.IPV4_SRC: (_NXM_0, 7),
    Field.IPV4_DST: (_NXM_0, 8),
    Field.IPV6_SRC: (_NXM_1, 19),
    Field.IPV6_DST: (_NXM_1, 20),
    Field.TCP_SRC: (_NXM_0, 9),
    Field.TCP_DST: (_NXM_0, 10),
    Field.TCP_FLAGS: (_NXM_1, 34),
    Field.UDP_SRC: (_NXM_0, 11),
    Field.UDP_DST: (_NXM_0, 12),
    Field.ICMP_TYPE: (_NXM_0, 13),
    Field.ICMP_CODE: (_NXM_0, 14),
    Field.ICMPV6_TYPE: (_NXM_1, 21),
    Field.ICMPV6_CODE: (_NXM_1, 22),
    Field.ARP_OP: (_NXM_0, 15),
    Field.ARP_SPA: (_NXM_0, 16),
    Field.ARP_TPA: (_NXM_0, 17),
    Field.ARP_SHA: (_NXM_1, 17),
    Field.ARP_THA: (_NXM_1, 18),
    Field.ND_TARGET: (_NXM_1, 23),
    Field.ND_SLL: (_NXM_1, 24),
    Field.ND_TLL: (_NXM_1, 25),
}

_MATCHES_CACHED: Final = 1 << 16
_PACKET_REGS: Final = b"\x80\x01"
_LAST_PACKET_REG: Final = len(_REGISTERS) // 2 - 1
MATCH_TYPE_OXM: Final = 1
MATCH_HEADER: Final = struct.Struct("!HH")


class WireError(ValueError):
    """Bytes that are not what OpenFlow 1.5 says. The text names what was wrong and expected."""


def octets(field: Field) -> int:
    """Octets of a value of this field on the wire."""
    return (field.bits + 7) // 8


def header(field: Field, masked: bool = False) -> bytes:
    """The OXM header of a field, as it stands before a value (and its mask) or names a field."""
    return _header(_NUMBERS[field], field, masked)


def _header(numbers: tuple[int, int], field: Field, masked: bool) -> bytes:
    oxm_class, number = numbers
    return _HEADER.pack(oxm_class, number << 1 | masked, octets(field) << masked)


EMPTY_MATCH: Final = MATCH_HEADER.pack(MATCH_TYPE_OXM, 4) + bytes(4)
"""The match of every packet, as it stands in a message."""

_BY_HEADER: Final = {
    _header(numbers, field, masked): (field, octets(field), masked)
    for table in (_OLDER_NUMBERS, _NUMBERS)
    for field, numbers in table.items()
    for masked in (False, True)
}
# A switch wants what a field depends on before the field itself (OpenFlow 1.5.1, 7.2.3.6). Our
# order of fields has that, except that those of a tracked connection need these two.
_PREREQUISITES: Final = (Field.ETH_TYPE, Field.IP_PROTO)
_DEPENDENT: Final = range(Field.CT_NW_SRC, Field.CT_TP_DST + 1)
# By field: its headers without and with mask, its octets, and whether it is one of those. A list,
# because to hash a member of an enumeration costs more than all the rest.
_WIRE: Final = [
    (header(f), header(f, masked=True), octets(f), f.value in _DEPENDENT) for f in Field
]


def encode_value(field: Field, value: int, mask: int | None) -> bytes:
    """Header, value and mask of a field, as in a match and in set_field.

    Raises:
        OverflowError: the value has more bits than the field.
    """
    plain, masked, size, _ = _WIRE[field]
    if mask is None:
        return plain + value.to_bytes(size, "big")
    return masked + value.to_bytes(size, "big") + mask.to_bytes(size, "big")


def encode_match(match: Match) -> bytes:
    """A match with its own header, padded to a multiple of 8 octets.

    Raises:
        OverflowError: a value has more bits than its field.
    """
    terms = encode_terms(match)
    length = len(terms) + MATCH_HEADER.size
    return MATCH_HEADER.pack(MATCH_TYPE_OXM, length) + terms + bytes(-length % 8)


def encode_terms(match: Match) -> bytes:
    """The terms of a match without its header and padding.

    Raises:
        OverflowError: a value has more bits than its field.
    """
    parts = []
    for item in match:
        plain, masked, size, dependent = _WIRE[item.field]
        if dependent:
            ordered = sorted(match, key=_is_no_prerequisite)
            return b"".join([encode_value(t.field, t.value, t.mask) for t in ordered])
        mask = item.mask
        if mask is None:
            parts.append(plain + item.value.to_bytes(size, "big"))
        else:
            parts.append(masked + item.value.to_bytes(size, "big") + mask.to_bytes(size, "big"))
    return b"".join(parts)


def _is_no_prerequisite(item: Term) -> bool:
    return item.field not in _PREREQUISITES


def decode_header(data: bytes, at: int) -> tuple[Field, int, bool]:
    """The field that a header names, the octets of its value, and whether a mask follows.

    Raises:
        WireError: it is no header of a field that we know.
    """
    head = data[at : at + 4]
    known = _BY_HEADER.get(head)
    if known is None:
        raise WireError(f"OXM header {head.hex()}: expected a field of the pipeline")
    return known


def decode_value(data: bytes, at: int, end: int) -> tuple[Term, int]:
    """The field, value and mask that begin at `at`, and where the next begin.

    The term is as it stands on the wire: see `decode_match` for the canonical form.

    Raises:
        WireError: the field is unknown or does not end before `end`.
    """
    field, size, masked = decode_header(data, at)
    value_at = at + 4
    mask_at = value_at + size
    after = mask_at + size if masked else mask_at
    if after > end:
        raise WireError(f"{field.text}: {end - at} octets left, expected {after - at}")
    value = int.from_bytes(data[value_at:mask_at], "big")
    mask = int.from_bytes(data[mask_at:after], "big") if masked else None
    if max(value, mask or 0) > field.full:
        raise WireError(f"{field.text}={value:#x}: expected a value of {field.bits} bits")
    return Term(field, value, mask), after


@lru_cache(maxsize=_MATCHES_CACHED)
def decode_match(oxm: bytes) -> Match:
    """A match from its OXM fields (without the match's header and padding).

    Raises:
        WireError: a field is unknown, cut off, has an empty mask or stands there twice.
    """
    at, end = 0, len(oxm)
    terms: list[Term] = []
    while at < end:
        if oxm[at : at + 2] == _PACKET_REGS:
            at = _decode_register_pair(oxm, at, end, terms)
            continue
        item, at = decode_value(oxm, at, end)
        mask = item.mask
        if mask is not None:
            if not mask:
                raise WireError(f"{item.field.text}: expected a mask that is not empty")
            whole = mask == item.field.full
            item = Term(item.field, item.value & mask, None if whole else mask)
        terms.append(item)
    terms.sort(key=_field_of)
    for before, after in itertools.pairwise(terms):
        if before.field is after.field:
            raise WireError(f"{after.field.text} stands twice in one match")
    return tuple(terms)


def _decode_register_pair(oxm: bytes, at: int, end: int, terms: list[Term]) -> int:
    """Reads a 64-bit packet register, as Open vSwitch reports any two registers in OpenFlow 1.5.

    Packet register n holds register 2n in its upper half and 2n+1 in its lower.
    """
    number, masked, size = oxm[at + 2] >> 1, oxm[at + 2] & 1, oxm[at + 3]
    after = at + 4 + size
    if size != 8 << masked or after > end or number > _LAST_PACKET_REG:
        raise WireError(f"packet register {number} of {size} octets, {end - at - 4} are left")
    for half in (0, 1):
        value, mask = (
            int.from_bytes(oxm[start : start + 4], "big")
            for start in (at + 4 + 4 * half, at + 12 + 4 * half)
        )
        field = _REGISTERS[2 * number + half]
        if not masked or mask == field.full:
            terms.append(Term(field, value))
        elif mask:
            terms.append(Term(field, value & mask, mask))
    return after


def _field_of(item: Term) -> Field:
    return item.field
