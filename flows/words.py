"""Flows in plain words, for people who read a dump: which packets, what becomes of them, whose.

Pure functions of flow values. What has no words of its own is shown as ovs-ofctl writes it, so
nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address

import msgspec

from ovsnet.flows.fields import CtState, EthType, Field, Form, IpProto
from ovsnet.flows.flow import (
    Action,
    Conjunction,
    Ct,
    DecTtl,
    Flow,
    Goto,
    Group,
    InPort,
    Learn,
    Match,
    Move,
    Nat,
    NatKind,
    Output,
    OutputField,
    OwnerKind,
    Resubmit,
    SetField,
    Subfield,
    Term,
    whole,
)
from ovsnet.flows.registers import DESTINATION, OUT_PORT, REGISTERS, SOURCE, Register, Side
from ovsnet.flows.terms import ct_state
from ovsnet.flows.text import PortNames, print_actions, print_match
from ovsnet.flows.text.names import PORTS
from ovsnet.names import (
    GATEWAY_OFPORT,
    GATEWAY_PORT,
    ROUTER_MAC,
    TUNNEL_OFPORT,
    TUNNEL_PORT,
    Table,
)

_PROTOCOLS = {
    IpProto.ICMP: "ICMP",
    IpProto.TCP: "TCP",
    IpProto.UDP: "UDP",
    IpProto.ICMPV6: "ICMPv6",
    IpProto.SCTP: "SCTP",
}
_NEIGHBOUR_MESSAGES = {
    133: "router solicitations",
    134: "router advertisements",
    135: "neighbour solicitations",
    136: "neighbour advertisements",
    137: "redirects",
}
_ORIGINAL = frozenset(f for f in Field if Field.CT_NW_SRC <= f <= Field.CT_TP_DST)
_ORIGINAL_PORTS = (Field.CT_TP_SRC, Field.CT_TP_DST)
_KNOWN = ct_state(CtState.TRK, CtState.INV)
_ARP_MESSAGES = {1: "ARP requests", 2: "ARP replies"}
_FIELDS = {
    Field.CT_NW_SRC: "of a connection that began at",
    Field.CT_IPV6_SRC: "of a connection that began at",
    Field.CT_NW_DST: "of a connection to",
    Field.CT_IPV6_DST: "of a connection to",
    Field.CT_TP_SRC: "from its port",
    Field.CT_TP_DST: "to its port",
    Field.ETH_SRC: "source MAC",
    Field.ETH_DST: "destination MAC",
    Field.IPV4_SRC: "source",
    Field.IPV4_DST: "destination",
    Field.IPV6_SRC: "source",
    Field.IPV6_DST: "destination",
    Field.TCP_SRC: "source port",
    Field.TCP_DST: "destination port",
    Field.UDP_SRC: "source port",
    Field.UDP_DST: "destination port",
    Field.SCTP_SRC: "source port",
    Field.SCTP_DST: "destination port",
    Field.TUN_SRC: "tunnelled by the node at",
    Field.TUN_IPV6_SRC: "tunnelled by the node at",
    Field.TUN_DST: "tunnelled to the node at",
    Field.TUN_IPV6_DST: "tunnelled to the node at",
    Field.TUN_ID: "overlay network",
    Field.ARP_OP: "ARP operation",
    Field.ARP_SPA: "sender's address",
    Field.ARP_TPA: "address asked for",
    Field.ARP_SHA: "sender's MAC",
    Field.ARP_THA: "asker's MAC",
    Field.ND_TARGET: "address asked for",
    Field.ND_SLL: "sender's MAC option",
    Field.ND_TLL: "target's MAC option",
    Field.ICMPV6_TYPE: "ICMPv6 type",
    Field.ICMPV6_CODE: "ICMPv6 code",
    Field.ICMP_TYPE: "ICMP type",
    Field.ICMP_CODE: "ICMP code",
}
_STATES = {
    CtState.NEW: "new",
    CtState.EST: "established",
    CtState.REL: "related",
    CtState.RPL: "reply direction",
    CtState.INV: "invalid",
    CtState.SNAT: "source translated",
    CtState.DNAT: "destination translated",
}
_ANY_WAY_OUT = "may leave by the port that it came in by"
_SIDES = {int(side): side.name.lower() for side in Side}
_OWNERS = {
    OwnerKind.NODE: "the node itself",
    OwnerKind.POD: "a pod",
    OwnerKind.PEER: "another node",
    OwnerKind.POLICY: "a network policy",
    OwnerKind.SERVICE: "a service",
    OwnerKind.STAMP: "the stamp",
}


class Words(msgspec.Struct, frozen=True):
    """A flow's reading: which packets it is for, and what becomes of them."""

    packets: str
    outcome: str


def words(flow: Flow, ports: PortNames | None = None) -> Words:
    """A flow in words. `ports` has the names of ports that are known by more than a number."""
    named = {GATEWAY_OFPORT: GATEWAY_PORT, TUNNEL_OFPORT: TUNNEL_PORT} | dict(ports or {})
    if flow.table is Table.STAMP:
        return Words("no packet", "bears the digest of all other flows as its cookie")
    return Words(packets_words(flow.match, named), outcome_words(flow.actions, named))


def owner_words(flow: Flow, owners: Mapping[int, str]) -> str:
    """The object that a flow exists for: its name if the controller told it, else its sort."""
    if flow.table is Table.STAMP:
        return "the stamp of the controller"
    if flow.cookie in owners:
        return owners[flow.cookie]
    try:
        return _OWNERS[OwnerKind(flow.cookie >> 56)]
    except ValueError:
        return "nobody that ovsnet knows"


def packets_words(match: Match, ports: PortNames) -> str:
    """Which packets a match is for."""
    exact = {term.field: term.value for term in match if term.mask is None}
    subject, said = _subject(exact)
    if any(term.field in _ORIGINAL for term in match):
        # That the tracker knows the connection goes without saying where its ends are told.
        match = tuple(term for term in match if term != _KNOWN)
    rest = [_condition(term, ports) for term in match if term.field not in said]
    return ", ".join([subject, *rest])


def outcome_words(actions: Iterable[Action], ports: PortNames) -> str:
    """What becomes of a packet."""
    return "; ".join(_action(action, ports) for action in actions) or "dropped"


def _subject(exact: Mapping[Field, int]) -> tuple[str, set[Field]]:
    """The sort of packets, and the fields that it says already."""
    ether = exact.get(Field.ETH_TYPE)
    protocol = exact.get(Field.IP_PROTO)
    if ether == EthType.ARP:
        operation = exact.get(Field.ARP_OP, 0)
        if operation in _ARP_MESSAGES:
            return _ARP_MESSAGES[operation], {Field.ETH_TYPE, Field.ARP_OP}
        return "ARP packets", {Field.ETH_TYPE}
    if ether not in (EthType.IPV4, EthType.IPV6):
        return "all packets", set()
    family = "IPv4" if ether == EthType.IPV4 else "IPv6"
    kind = exact.get(Field.ICMPV6_TYPE, -1)
    if protocol == IpProto.ICMPV6 and kind in _NEIGHBOUR_MESSAGES:
        said = {Field.ETH_TYPE, Field.IP_PROTO, Field.ICMPV6_TYPE}
        return _NEIGHBOUR_MESSAGES[kind], said
    if protocol in _PROTOCOLS:
        name = _PROTOCOLS[IpProto(protocol)]
        over = "" if name.startswith("ICMP") else f" over {family}"
        return f"{name}{over}", {Field.ETH_TYPE, Field.IP_PROTO}
    return f"{family} packets", {Field.ETH_TYPE}


def _condition(term: Term, ports: PortNames) -> str:
    field, value, mask = term.field, term.value, term.mask
    if field is Field.IN_PORT:
        where = _port(value, ports) if mask is None else f"ports {_value(field, value, mask)}"
        return f"in by {where}"
    if field is Field.CT_STATE:
        return _connection(value, field.full if mask is None else mask)
    if field is Field.CT_NW_PROTO and mask is None and value in _PROTOCOLS:
        return f"of a connection by {_PROTOCOLS[IpProto(value)]}"
    if field is Field.CONJ_ID:
        return f"every clause of conjunction {_value(field, value, mask)} holds"
    noted = _notes(field, value, field.full if mask is None else mask, ports)
    if noted:
        return ", ".join(noted)
    if field in _FIELDS:
        return _named(_FIELDS[field], term)
    if mask is not None:
        return f"{field.text}={_value(field, value, mask)}"
    return print_match((term,), ports)


def _named(name: str, term: Term) -> str:
    """A condition on a field that has a name."""
    field, value, mask = term.field, term.value, term.mask
    if field in _ORIGINAL_PORTS and mask is not None and _is_prefix(field, mask):
        return f"{name}s {value} to {value | field.full ^ mask}"
    text = _value(field, value, mask)
    if text.startswith("in ") and name.endswith((" at", " to")):
        text = f"an address {text}"
    return f"{name} {text}"


def _connection(value: int, mask: int) -> str:
    """What the connection tracker says. That a packet was tracked goes without saying."""
    yes = [text for bit, text in _STATES.items() if value & mask & bit]
    no = [f"not {text}" for bit, text in _STATES.items() if mask & ~value & bit]
    if mask & ~value & CtState.TRK:
        no.append("not tracked")
    return f"connection {' and '.join(yes + no) or 'of any state'}"


def _notes(field: Field, value: int, mask: int, ports: PortNames) -> list[str]:
    """A register's bits by what they mean; empty if the field is none, or bits have no meaning."""
    found = []
    for register in REGISTERS:
        bits = register.bits
        own = ((1 << bits.bits) - 1) << bits.offset
        if bits.field is field and mask & own == own:
            found.append(_note(register, (value & own) >> bits.offset, ports))
            mask &= ~own
    return found if not mask else []


def _note(register: Register, value: int, ports: PortNames) -> str:
    if register is OUT_PORT:
        return f"{register.name} {ports.get(value, value)}"
    if register in (SOURCE, DESTINATION) and value in _SIDES:
        return f"{register.name} {_SIDES[value]}"
    if register.bits.bits == 1:
        return register.name if value else f"not {register.name}"
    return f"{register.name} {value}"


def _value(field: Field, value: int, mask: int | None) -> str:
    """A value without the field's name."""
    if field.form is Form.MAC and mask is None:
        text = value.to_bytes(6, "big").hex(":")
        return "the router's" if text == ROUTER_MAC else text
    if field.form in (Form.IPV4, Form.IPV6):
        return _address(field, value, mask)
    return f"{value}" if mask is None else f"{value:#x}/{mask:#x}"


def _address(field: Field, value: int, mask: int | None) -> str:
    make: Callable[[int], IPv4Address | IPv6Address]
    make = IPv4Address if field.bits == 32 else IPv6Address
    if mask is None:
        return str(make(value))
    if _is_prefix(field, mask):
        return f"in {make(value)}/{mask.bit_count()}"
    return f"{make(value)}/{make(mask)}"


def _is_prefix(field: Field, mask: int) -> bool:
    """Whether a mask has all bits above its lowest one."""
    wild = field.full ^ mask
    return wild & (wild + 1) == 0


def _port(number: int, ports: PortNames) -> str:
    return f"port {ports.get(number) or PORTS.get(number, number)}"


def _action(action: Action, ports: PortNames) -> str:  # noqa: PLR0911  one form each
    match action:
        case SetField():
            return _set(action, ports)
        case Move(source, target):
            return f"{_part(target)} becomes the {_part(source)}"
        case Output(port):
            return f"sent out of {_port(port, ports)}"
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
            return f"handed to group {number}"
        case Conjunction(number, clause, of):
            return f"clause {clause} of {of} of conjunction {number} holds"
        case Ct():
            return _tracked(action, ports)
        case Learn():
            return _learnt(action, ports)


def _set(action: SetField, ports: PortNames) -> str:
    field, value, mask = action.field, action.value, action.mask
    noted = _notes(field, value, field.full if mask is None else mask, ports)
    if noted:
        return f"noted: {', '.join(noted)}"
    if field in (Field.TUN_DST, Field.TUN_IPV6_DST):
        return f"tunnelled to the node at {_address(field, value, mask)}"
    if field is Field.IN_PORT:
        return f"taken as in by {_port(value, ports)}" if value else _ANY_WAY_OUT
    if field in _FIELDS and mask is None:
        return f"{_FIELDS[field]} becomes {_value(field, value, mask)}"
    return print_actions((action,), ports)


def _part(part: Subfield) -> str:
    for register in REGISTERS:
        if register.bits == part:
            return register.name
    name = _field(part.field)
    if part.bits == part.field.bits:
        return name
    return f"{name}[{part.offset}..{part.offset + part.bits - 1}]"


def _field(field: Field) -> str:
    return _FIELDS.get(field, field.text)


def _tracked(action: Ct, ports: PortNames) -> str:
    zone = f"(zone {action.zone})"
    said = [f"connection committed {zone}" if action.commit else f"tracked {zone}"]
    if action.force:
        said.append("in this direction, whatever was known of it")
    if action.nat is not None:
        said.append(_translated(action.nat))
    if action.then:
        said.append(f"with {outcome_words(action.then, ports)}")
    if action.table is not None:
        said.append(f"then on to {action.table.text}")
    return ", ".join(said)


def _learnt(action: Learn, ports: PortNames) -> str:
    packets = packets_words(action.where, ports)
    if action.same:
        packets += f", of the same {' and '.join(_field(f) for f in action.same)}"
    target = action.target
    mask = None if target == whole(target.field) else (1 << target.bits) - 1 << target.offset
    written = _set(SetField(target.field, action.value << target.offset, mask), ports)
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
