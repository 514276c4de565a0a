"""What actions do to packets, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from ovsnet.flows.balance import SLOTS
from ovsnet.flows.conditions import address_words, packets_words, port_words, value_words
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
    whole,
)
from ovsnet.flows.notes import Names, natted, notes, set_of_endpoints
from ovsnet.flows.registers import BY_NODE, MARKS, NATTED, REGISTERS
from ovsnet.flows.service import settled
from ovsnet.flows.text import print_actions
from ovsnet.flows.vocabulary import FIELDS, ZONES

_ANY_WAY_OUT = "may leave by the port that it came in by"
_SETTLED = {settled(bits): natted(bits) for bits in range(1 << MARKS.bits)}


def outcome_words(actions: Iterable[Action], names: Names) -> str:
    """What becomes of a packet."""
    return "; ".join(_phrases(tuple(actions), names)) or "dropped"


def _phrases(actions: tuple[Action, ...], names: Names) -> Iterator[str]:
    """One for each action, but for those that only together mean something."""
    while actions:
        count, phrase = _together(actions, names)
        yield phrase or _action(actions[0], names)
        actions = actions[count:]


def _together(actions: tuple[Action, ...], names: Names) -> tuple[int, str]:
    """How many of the first actions mean something together, and what; else one, and nothing."""
    for done, what in _SETTLED.items():
        if actions[: len(done)] == done:
            return len(done), f"noted: {what}, all else about services forgotten"
    match actions:
        case (SetField() as one, SetField() as other, *_):
            if chosen := set_of_endpoints(one, other, names):
                return 2, f"noted: {chosen}"
    return 1, ""


def _action(action: Action, names: Names) -> str:  # noqa: PLR0911, PLR0912  one form each
    match action:
        case SetField():
            return _set(action, names)
        case Move():
            return _moved(action)
        case HashSource(target, of):
            return f"{_part(target)} becomes one of {of} by the source address"
        case Output(port):
            return f"sent out of {port_words(port, names.ports)}"
        case OutputField(source):
            return f"sent out of the port in {_part(source)}"
        case InPort():
            return "sent back where it came from"
        case DecTtl():
            return "TTL less one"
        case Goto(table):
            return f"on to {table.text}"
        case Resubmit(table):
            return f"looked up in {table.text} as well"
        case Group(number):
            return _grouped(number)
        case Conjunction(number, clause, of):
            return f"clause {clause} of {of} of conjunction {number} holds"
        case Ct():
            return _tracked(action, names)
        case Learn():
            return _learnt(action, names)


def _moved(action: Move) -> str:
    if (action.source, action.target) == (NATTED.bits, MARKS):
        return "marked with what services do to it"
    return f"{_part(action.target)} becomes the {_part(action.source)}"


def _grouped(number: int) -> str:
    slots = SLOTS.get(number)
    chosen = f"one of {slots} slots by a hash" if slots else "handed on"
    return f"{chosen} (group {number})"


def _set(action: SetField, names: Names) -> str:
    field, value, mask = action.field, action.value, action.mask
    noted = notes(field, value, field.full if mask is None else mask, names)
    if noted:
        return f"noted: {', '.join(noted)}"
    if field in (Field.TUN_DST, Field.TUN_IPV6_DST):
        return f"tunnelled to the node at {address_words(field, value, mask)}"
    if field is Field.IN_PORT:
        return f"taken as in by {port_words(value, names.ports)}" if value else _ANY_WAY_OUT
    if (field, mask) == (BY_NODE.field, 1 << BY_NODE.offset):
        return "marked as answered by the node" if value else "marked as answered straight"
    if field in FIELDS and mask is None:
        return f"{FIELDS[field]} becomes {value_words(field, value, mask)}"
    return print_actions((action,), names.ports)


def _part(part: Subfield) -> str:
    for register in REGISTERS:
        if register.bits == part:
            return register.name
    name = _field(part.field)
    if part.bits == part.field.bits:
        return name
    return f"{name}[{part.offset}..{part.offset + part.bits - 1}]"


def _field(field: Field) -> str:
    return FIELDS.get(field, field.text)


def _tracked(action: Ct, names: Names) -> str:
    zone = f"({ZONES.get(action.zone) or f'zone {action.zone}'})"
    said = [f"connection committed {zone}" if action.commit else f"tracked {zone}"]
    if action.force:
        said.append("in this direction, whatever was known of it")
    if action.nat is not None:
        said.append(_translated(action.nat))
    if action.then:
        said.append(f"and {outcome_words(action.then, names)}")
    if action.table is not None:
        said.append(f"then on to {action.table.text}")
    return ", ".join(said)


def _learnt(action: Learn, names: Names) -> str:
    packets = packets_words(action.where, names)
    if action.same:
        packets += f", of the same {' and '.join(_field(f) for f in action.same)}"
    target = action.target
    mask = None if target == whole(target.field) else (1 << target.bits) - 1 << target.offset
    written = _set(SetField(target.field, action.value << target.offset, mask), names)
    until = f", forgotten after {action.idle} s without one" if action.idle else ""
    return f"learnt in {action.table.text}: {packets}: {written}{until}"


def _translated(nat: Nat) -> str:
    if nat.kind is NatKind.RESTORE:
        return "translated as the connection was"
    if nat.address is None:
        return f"{nat.kind.name.lower()} translated"
    address = IPv4Address(nat.address) if nat.bits == 32 else IPv6Address(nat.address)
    port = "" if nat.port is None else f" port {nat.port}"
    return f"{nat.kind.name.lower()} translated to {address}{port}"
