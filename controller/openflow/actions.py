"""Actions and instructions on the wire, both ways.

The standard ones are those of OpenFlow 1.5.1 (sections 7.2.5 and 7.2.6); those that only Open
vSwitch knows (ct, nat, conjunction, resubmit, learn, multipath, output to a register) are its
experimenter actions, described in ovs-actions(7). All lengths are multiples of 8 octets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import Final, TypeAlias

from ovsnet.controller.openflow import oxm
from ovsnet.controller.openflow.items import (
    EXPERIMENTER,
    NX_HEAD,
    Nicira,
    extension,
    item,
    padded,
    subtype_of,
    table,
)
from ovsnet.controller.openflow.learning import decode_learn, encode_learn
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import (
    Action,
    Conjunction,
    Ct,
    DecTtl,
    Goto,
    Group,
    HashSource,
    InPort,
    Learn,
    Move,
    Nat,
    NatKind,
    Output,
    OutputField,
    Resubmit,
    SetField,
    Subfield,
)


class _Kind(IntEnum):
    """Types of actions (OpenFlow 1.5.1, ofp_action_type)."""

    OUTPUT = 0
    GROUP = 22
    DEC_NW_TTL = 24
    SET_FIELD = 25
    COPY_FIELD = 28


class _Instruction(IntEnum):
    """Types of instructions (OpenFlow 1.5.1, ofp_instruction_type)."""

    GOTO_TABLE = 1
    APPLY_ACTIONS = 4


_PORT_IN_PORT: Final = 0xFFFFFFF8
_PORT_IN_PORT_16: Final = 0xFFF8
_RESERVED: Final = 0xFFFFFF00
_RESERVED_16: Final = 0xFF00
# Open vSwitch lets actions write the port that a packet came in by under its older number alone
# (NXM_OF_IN_PORT), which has 16 bits.
_IN_PORT_16: Final = bytes.fromhex("00000002")
_NO_TABLE: Final = 0xFF

_CT_COMMIT: Final = 1
_CT_FORCE: Final = 2
# Hashing the source address alone, and what is done with the hash (nicira-ext.h).
_NW_SRC, _MODULO_N = 4, 0
_NAT_IPV4_MIN: Final = 0x01
_NAT_IPV6_MIN: Final = 0x04
_NAT_PORT_MIN: Final = 0x10
_NAT_KIND: Final = {0: NatKind.RESTORE, 1: NatKind.SOURCE, 2: NatKind.DESTINATION}

_PLAIN: Final = struct.Struct("!HHI")
_OUTPUT_TO: Final = struct.Struct("!HHIH6x")
_COPY: Final = struct.Struct("!HHHHH2x")
# What follows the head of Open vSwitch's own actions.
_NX_RESUBMIT: Final = struct.Struct("!HB3x")
_NX_OUTPUT: Final = struct.Struct("!H4sH6x")
_NX_MULTIPATH: Final = struct.Struct("!HH2xHH6xH4s")
_NX_CLAUSE: Final = struct.Struct("!BBI")
_NX_CT: Final = struct.Struct("!HIHB3xH")
_NX_NAT: Final = struct.Struct("!2xHH")
_INSTRUCTION: Final = struct.Struct("!HH4x")
_GOTO: Final = struct.Struct("!HHB3x")

_LISTS_CACHED: Final = 1 << 15


@lru_cache(maxsize=_LISTS_CACHED)
def encode_instructions(actions: tuple[Action, ...]) -> bytes:
    """The instructions that carry these actions out: apply-actions, then goto-table.

    Raises:
        ValueError: an action stands after a `Goto`, where no packet would reach it.
    """
    if not actions:
        return b""
    last = actions[-1]
    goto = b""
    if isinstance(last, Goto):
        goto = _GOTO.pack(_Instruction.GOTO_TABLE, 8, last.table)
        actions = actions[:-1]
    if not actions:
        return goto
    body = encode_list(actions)
    return _INSTRUCTION.pack(_Instruction.APPLY_ACTIONS, len(body) + 8) + body + goto


def encode_list(actions: Iterable[Action]) -> bytes:
    """The actions one after the other, as they stand in an instruction and in a group's bucket.

    Raises:
        ValueError: one of them is a `Goto`, which is no action to OpenFlow.
    """
    return b"".join(map(_encode, actions))


def _encode(action: Action) -> bytes:
    match action:
        case SetField(Field.IN_PORT, port, None):
            return padded(_Kind.SET_FIELD, _IN_PORT_16 + _port_16(port).to_bytes(2, "big"))
        case SetField(field, value, mask):
            return padded(_Kind.SET_FIELD, oxm.encode_value(field, value, mask))
        case Output(port):
            return _OUTPUT_TO.pack(_Kind.OUTPUT, 16, port, 0)
        case InPort():
            return _OUTPUT_TO.pack(_Kind.OUTPUT, 16, _PORT_IN_PORT, 0)
        case Group(number):
            return _PLAIN.pack(_Kind.GROUP, 8, number)
        case DecTtl():
            return _PLAIN.pack(_Kind.DEC_NW_TTL, 8, 0)
        case _:
            return _encode_extension(action)


def _encode_extension(
    action: Move | HashSource | OutputField | Resubmit | Conjunction | Ct | Learn | Goto,
) -> bytes:
    match action:
        case Move():
            return _encode_move(action)
        case HashSource():
            return _encode_hash(action)
        case OutputField(Subfield(field, offset, bits)):
            place = offset << 6 | (bits - 1)
            return extension(Nicira.OUTPUT_REG, _NX_OUTPUT.pack(place, oxm.header(field), 0))
        case Resubmit(to):
            body = _NX_RESUBMIT.pack(_PORT_IN_PORT_16, to)
            return extension(Nicira.RESUBMIT_TABLE, body)
        case Conjunction(number, clause, of):
            return extension(Nicira.CONJUNCTION, _NX_CLAUSE.pack(clause - 1, of, number))
        case Ct():
            return _encode_ct(action)
        case Learn():
            return encode_learn(action)
        case Goto():
            raise ValueError("a goto stands before other actions: expected it last")


def _port_16(port: int) -> int:
    """A port in 16 bits, as Open vSwitch has them; its reserved ones have other numbers then."""
    if port < _RESERVED_16:
        return port
    if port < _RESERVED:
        raise ValueError(f"port {port}: expected one below {_RESERVED_16} or a reserved one")
    return port & 0xFFFF


def _encode_move(move: Move) -> bytes:
    source, target = move.source, move.target
    return _COPY.pack(_Kind.COPY_FIELD, 24, source.bits, source.offset, target.offset) + b"".join(
        (oxm.header(source.field), oxm.header(target.field), bytes(4))
    )


def _encode_hash(action: HashSource) -> bytes:
    field, offset, bits = action.target.field, action.target.offset, action.target.bits
    place = offset << 6 | (bits - 1)
    how = (_NW_SRC, action.basis, _MODULO_N, action.of - 1)
    return extension(Nicira.MULTIPATH, _NX_MULTIPATH.pack(*how, place, oxm.header(field)))


def _encode_ct(ct: Ct) -> bytes:
    inner = b"" if ct.nat is None else _encode_nat(ct.nat)
    inner += b"".join(map(_encode, ct.then))
    flags = _CT_COMMIT * ct.commit | _CT_FORCE * ct.force
    then = _NO_TABLE if ct.table is None else ct.table
    body = _NX_CT.pack(flags, 0, ct.zone, then, 0) + inner
    return extension(Nicira.CT, body)


def _encode_nat(nat: Nat) -> bytes:
    present, ranges = 0, b""
    if nat.address is not None:
        present |= _NAT_IPV4_MIN if nat.bits == 32 else _NAT_IPV6_MIN
        ranges += nat.address.to_bytes(nat.bits // 8, "big")
    if nat.port is not None:
        present |= _NAT_PORT_MIN
        ranges += nat.port.to_bytes(2, "big")
    return extension(Nicira.NAT, _NX_NAT.pack(nat.kind, present) + ranges)


@lru_cache(maxsize=_LISTS_CACHED)
def decode_instructions(data: bytes) -> tuple[Action, ...]:
    """The actions that these instructions carry out.

    Raises:
        WireError: a length is wrong, or an instruction or action is none of ours.
    """
    actions: list[Action] = []
    at, end = 0, len(data)
    while at < end:
        if actions and isinstance(actions[-1], Goto):
            raise WireError("an instruction after goto-table: expected none")
        kind, length = item(data, at, end)
        if kind == _Instruction.APPLY_ACTIONS:
            if actions:
                raise WireError("apply-actions twice: expected it once")
            actions += _decode_list(data, at + 8, at + length)
        elif kind == _Instruction.GOTO_TABLE:
            actions.append(Goto(table(data[at + 4])))
        else:
            raise WireError(f"instruction {kind}: expected apply-actions or goto-table")
        at += length
    return tuple(actions)


def _decode_list(data: bytes, at: int, end: int) -> list[Action]:
    actions = []
    while at < end:
        kind, length = item(data, at, end)
        actions.append(_decode(kind, data[at : at + length]))
        at += length
    return actions


def _decode(kind: int, data: bytes) -> Action:
    length = len(data)
    match kind:
        case _Kind.SET_FIELD:
            return _decode_set_field(data)
        case _Kind.COPY_FIELD:
            return _decode_move(data)
        case _Kind.OUTPUT if length == 16:
            port = _OUTPUT_TO.unpack(data)[2]
            return InPort() if port == _PORT_IN_PORT else Output(port)
        case _Kind.GROUP if length == 8:
            return Group(_PLAIN.unpack(data)[2])
        case _Kind.DEC_NW_TTL if length == 8:
            return DecTtl()
        case _ if kind == EXPERIMENTER and length >= 16:
            return _decode_extension(data)
    raise WireError(f"action {kind} of {length} octets: expected one that the pipeline uses")


def _decode_set_field(data: bytes) -> SetField:
    if data.startswith(_IN_PORT_16, 4) and len(data) == 16:
        port = int.from_bytes(data[8:10], "big")
        return SetField(Field.IN_PORT, port if port < _RESERVED_16 else port | _RESERVED)
    written, after = oxm.decode_value(data, 4, len(data))
    if len(data) - after >= 8:
        raise WireError(f"set_field of {written.field.text}: {len(data) - after} octets too many")
    return SetField(written.field, written.value, written.mask)


def _decode_move(data: bytes) -> Move:
    if len(data) != 24:
        raise WireError(f"copy_field of {len(data)} octets: expected 24")
    _, _, bits, source_offset, target_offset = _COPY.unpack_from(data)
    source, _, source_masked = oxm.decode_header(data, 12)
    target, _, target_masked = oxm.decode_header(data, 16)
    if source_masked or target_masked:
        raise WireError("copy_field names a field with a mask: expected none")
    return Move(Subfield(source, source_offset, bits), Subfield(target, target_offset, bits))


def _decode_extension(data: bytes) -> Action:
    length = len(data)
    subtype = subtype_of(data)
    match subtype:
        case Nicira.RESUBMIT_TABLE if length == 16:
            port, number = _NX_RESUBMIT.unpack_from(data, NX_HEAD.size)
            if port == _PORT_IN_PORT_16:
                return Resubmit(table(number))
        case Nicira.MULTIPATH if length == 32:
            return _decode_hash(data)
        case Nicira.OUTPUT_REG if length == 24:
            place = _NX_OUTPUT.unpack_from(data, NX_HEAD.size)[0]
            field, _, masked = oxm.decode_header(data, 12)
            if not masked:
                return OutputField(Subfield(field, place >> 6, (place & 0x3F) + 1))
        case Nicira.CONJUNCTION if length == 16:
            clause, of, number = _NX_CLAUSE.unpack_from(data, NX_HEAD.size)
            return Conjunction(number, clause + 1, of)
        case Nicira.CT if length >= 24:
            return _decode_ct(data)
        case Nicira.LEARN2:
            return decode_learn(data)
    raise WireError(f"Nicira action {subtype} of {length} octets: expected one that we use")


def _decode_hash(data: bytes) -> HashSource:
    hashed, basis, algorithm, last, place, _ = _NX_MULTIPATH.unpack_from(data, NX_HEAD.size)
    field, _, masked = oxm.decode_header(data, len(data) - 4)
    if (hashed, algorithm) != (_NW_SRC, _MODULO_N) or masked:
        raise WireError("multipath by something else than the source, modulo the number of links")
    return HashSource(Subfield(field, place >> 6, (place & 0x3F) + 1), last + 1, basis)


_Then: TypeAlias = SetField | Move


def _decode_ct(data: bytes) -> Ct:
    flags, zone_field, zone, number, alg = _NX_CT.unpack_from(data, NX_HEAD.size)
    if flags & ~(_CT_COMMIT | _CT_FORCE) or zone_field or alg:
        raise WireError("ct with unknown flags, a zone from a field or a helper: expected none")
    nat: Nat | None = None
    then: list[_Then] = []
    at, end = 24, len(data)
    while at < end:
        kind, length = item(data, at, end)
        inner = data[at : at + length]
        if kind == EXPERIMENTER:
            if nat is not None:
                raise WireError("ct with two nat actions: expected one")
            nat = _decode_nat(inner)
        else:
            action = _decode(kind, inner)
            if not isinstance(action, SetField | Move):
                raise WireError(f"ct executes {action}: expected set_field or move")
            then.append(action)
        at += length
    return Ct(
        zone,
        None if number == _NO_TABLE else table(number),
        bool(flags & _CT_COMMIT),
        bool(flags & _CT_FORCE),
        nat,
        tuple(then),
    )


def _decode_nat(data: bytes) -> Nat:
    if len(data) < 16:
        raise WireError(f"nat of {len(data)} octets: expected at least 16")
    subtype = subtype_of(data)
    flags, present = _NX_NAT.unpack_from(data, NX_HEAD.size)
    kind = _NAT_KIND.get(flags)
    known = present & (_NAT_IPV4_MIN | _NAT_IPV6_MIN | _NAT_PORT_MIN)
    both = bool(present & _NAT_IPV4_MIN and present & _NAT_IPV6_MIN)
    if subtype != Nicira.NAT or kind is None or known != present or both:
        raise WireError("ct holds something else than a nat to one address and port")
    bits = 128 if present & _NAT_IPV6_MIN else 32
    at = 16
    address = port = None
    if present & (_NAT_IPV4_MIN | _NAT_IPV6_MIN):
        address = int.from_bytes(data[at : at + bits // 8], "big")
        at += bits // 8
    if present & _NAT_PORT_MIN:
        port = int.from_bytes(data[at : at + 2], "big")
        at += 2
    if not at <= len(data) < at + 8:
        raise WireError(f"nat of {len(data)} octets: expected {at} and padding")
    return Nat(kind, address, bits, port)
