"""What stands in registers and in connections' marks, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import SetField, Term
from ovsnet.flows.registers import (
    AFFINE,
    COUNT,
    DESTINATION,
    FOR_NODE,
    INDEX,
    INSIDE,
    KEEP_SOURCE,
    LOCAL_ONLY,
    NATTED,
    OUT_PORT,
    REGISTERS,
    REMEMBERED,
    SERVICE_HIGH,
    SERVICE_LOW,
    SLOT,
    SOURCE,
    Natted,
    Register,
    Side,
)
from ovsnet.flows.text import PortNames

_HIGH, _LOW = SERVICE_HIGH.bits.field, SERVICE_LOW.bits.field
_SIDES = {int(side): side.name.lower() for side in Side}
_NATTED = {
    Natted.SERVED: "served",
    Natted.SOURCE: "source translated",
    Natted.REFUSED: "refused",
}
_YES_AND_NO = {
    FOR_NODE: ("for the node itself", "not for the node itself"),
    INSIDE: ("from a pod here or the node itself", "from beyond the node"),
    LOCAL_ONLY: ("only endpoints here will do", "endpoints anywhere will do"),
    AFFINE: ("clients keep their endpoint", "clients keep no endpoint"),
    KEEP_SOURCE: ("the endpoint sees the client", "the endpoint need not see the client"),
}


class Names(msgspec.Struct, frozen=True):
    """What is known by more than a number: ports of the switch, and sets of endpoints."""

    ports: PortNames
    sets: Mapping[int, str] = {}


def notes(field: Field, value: int, mask: int, names: Names) -> list[str]:
    """Bits of a register by what they mean; empty if it is none, or if some have no meaning."""
    found: list[str] = []
    for register in REGISTERS:
        own = register.mask & mask
        if register.bits.field is field and own:
            offset = register.bits.offset
            note = _note(register, (value & own) >> offset, own >> offset, names)
            if note is None:
                return []
            found.append(note)
            mask &= ~own
    return found if not mask else []


def _note(register: Register, value: int, mask: int, names: Names) -> str | None:
    """Some bits of a register; None if it makes no sense to look at these alone."""
    whole = mask == (1 << register.bits.bits) - 1
    if register is NATTED:
        return f"natted: {natted(value)}" if whole else ", ".join(_single(value, mask))
    if register is SLOT:
        return _slots(value, mask ^ (1 << register.bits.bits) - 1)
    return _whole(register, value, names) if whole else None


def _whole(register: Register, value: int, names: Names) -> str:
    if register is OUT_PORT:
        return f"{register.name} {names.ports.get(value, value)}"
    if register in (SOURCE, DESTINATION) and value in _SIDES:
        return f"{register.name} {_SIDES[value]}"
    if register in _YES_AND_NO:
        return _YES_AND_NO[register][0 if value else 1]
    if register is INDEX:
        return f"endpoint number {value}"
    if register is COUNT:
        return f"one of {value} endpoints"
    if register is REMEMBERED:
        return f"remembered endpoint {value:#x}" if value else "no endpoint remembered"
    if register.bits.bits == 1:
        return register.name if value else f"not {register.name}"
    return f"{register.name} {value}"


def natted(bits: int) -> str:
    """What services do to a connection, in whole."""
    return " and ".join(text for bit, text in _NATTED.items() if bits & bit) or "for no service"


def _single(value: int, mask: int) -> Iterator[str]:
    for bit, text in _NATTED.items():
        if mask & bit:
            yield text if value & bit else f"not {text}"


def _slots(value: int, wild: int) -> str | None:
    if wild & (wild + 1):
        return None
    return f"slots {value} to {value | wild}" if wild else f"slot {value}"


def set_of_endpoints(one: Term | SetField, other: Term | SetField, names: Names) -> str:
    """The set of endpoints that both halves of its id name together; empty if they do not."""
    if (one.field, other.field) != (_HIGH, _LOW) or one.mask is not None or other.mask is not None:
        return ""
    number = one.value << SERVICE_LOW.bits.bits | other.value
    if number in names.sets:
        return f"for the endpoints of {names.sets[number]}"
    return f"for the set of endpoints {number:#x}"
