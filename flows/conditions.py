"""What matches look for, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from ovsnet.flows.fields import CtState, EthType, Field, Form, IpProto
from ovsnet.flows.flow import Match, Term
from ovsnet.flows.notes import Names, natted, notes, set_of_endpoints
from ovsnet.flows.registers import MARKS
from ovsnet.flows.terms import ct_state
from ovsnet.flows.text import PortNames, print_match
from ovsnet.flows.text.names import FRAGMENTS as BY_WORD
from ovsnet.flows.text.names import PORTS
from ovsnet.flows.vocabulary import (
    ARP_MESSAGES,
    FIELDS,
    FRAGMENTS,
    NEIGHBOUR_MESSAGES,
    PROTOCOLS,
    STATES,
    TCP_FLAGS,
)
from ovsnet.names import ROUTER_MAC

_ORIGINAL = frozenset(f for f in Field if Field.CT_NW_SRC <= f <= Field.CT_TP_DST)
_ORIGINAL_PORTS = (Field.CT_TP_SRC, Field.CT_TP_DST)
_KNOWN = ct_state(CtState.TRK, CtState.INV)
_FRAGMENTS = {BY_WORD[word]: text for word, text in FRAGMENTS.items()}
_ALL_MARKS = (1 << MARKS.bits) - 1


def packets_words(match: Match, names: Names) -> str:
    """Which packets a match is for."""
    exact = {term.field: term.value for term in match if term.mask is None}
    subject, said = _subject(exact)
    if any(term.field in _ORIGINAL for term in match):
        # That the tracker knows the connection goes without saying where its ends are told.
        match = tuple(term for term in match if term != _KNOWN)
    rest = _conditions([term for term in match if term.field not in said], names)
    return ", ".join([subject, *rest])


def _conditions(terms: list[Term], names: Names) -> Iterator[str]:
    while terms:
        chosen = set_of_endpoints(terms[0], terms[1], names) if len(terms) > 1 else ""
        yield chosen or _condition(terms[0], names)
        terms = terms[2 if chosen else 1 :]


def _subject(exact: Mapping[Field, int]) -> tuple[str, set[Field]]:
    """The sort of packets, and the fields that it says already."""
    ether = exact.get(Field.ETH_TYPE)
    protocol = exact.get(Field.IP_PROTO)
    if ether == EthType.ARP:
        operation = exact.get(Field.ARP_OP, 0)
        if operation in ARP_MESSAGES:
            return ARP_MESSAGES[operation], {Field.ETH_TYPE, Field.ARP_OP}
        return "ARP packets", {Field.ETH_TYPE}
    if ether not in (EthType.IPV4, EthType.IPV6):
        return "all packets", set()
    family = "IPv4" if ether == EthType.IPV4 else "IPv6"
    kind = exact.get(Field.ICMPV6_TYPE, -1)
    if protocol == IpProto.ICMPV6 and kind in NEIGHBOUR_MESSAGES:
        said = {Field.ETH_TYPE, Field.IP_PROTO, Field.ICMPV6_TYPE}
        return NEIGHBOUR_MESSAGES[kind], said
    if protocol in PROTOCOLS:
        name = PROTOCOLS[IpProto(protocol)]
        over = "" if name.startswith("ICMP") else f" over {family}"
        return f"{name}{over}", {Field.ETH_TYPE, Field.IP_PROTO}
    return f"{family} packets", {Field.ETH_TYPE}


def _condition(term: Term, names: Names) -> str:
    mask = term.field.full if term.mask is None else term.mask
    noted = notes(term.field, term.value, mask, names)
    return ", ".join(noted) or _special(term, mask, names) or _plain(term, names)


def _special(term: Term, mask: int, names: Names) -> str:
    """A condition on a field that has words of its own; empty if it has none."""
    field, value = term.field, term.value
    shown = value_words(field, value, term.mask)
    match field:
        case Field.IN_PORT:
            where = f"ports {shown}" if term.mask else port_words(value, names.ports)
            return f"in by {where}"
        case Field.CT_STATE:
            return _connection(value, mask)
        case Field.IP_FRAG:
            return _FRAGMENTS.get((value, term.mask), "")
        case Field.CT_NW_PROTO if term.mask is None and value in PROTOCOLS:
            return f"of a connection by {PROTOCOLS[IpProto(value)]}"
        case Field.CONJ_ID:
            return f"every clause of conjunction {shown} holds"
        case Field.CT_MARK if mask == _ALL_MARKS:
            return f"connection marked: {natted(value)}"
        case Field.TCP_FLAGS:
            return _flags(value, mask)
    return ""


def _plain(term: Term, names: Names) -> str:
    field = term.field
    if field in FIELDS:
        return _named(FIELDS[field], term)
    if term.mask is not None:
        return f"{field.text}={value_words(field, term.value, term.mask)}"
    return print_match((term,), names.ports)


def _named(name: str, term: Term) -> str:
    """A condition on a field that has a name."""
    field, value, mask = term.field, term.value, term.mask
    if field in _ORIGINAL_PORTS and mask is not None and _is_prefix(field, mask):
        return f"{name}s {value} to {value | field.full ^ mask}"
    text = value_words(field, value, mask)
    if text.startswith("in ") and name.endswith((" at", " to")):
        text = f"an address {text}"
    return f"{name} {text}"


def _connection(value: int, mask: int) -> str:
    """What the connection tracker says. That a packet was tracked goes without saying."""
    yes = [text for bit, text in STATES.items() if value & mask & bit]
    no = [f"not {text}" for bit, text in STATES.items() if mask & ~value & bit]
    if mask & ~value & CtState.TRK:
        no.append("not tracked")
    return f"connection {' and '.join(yes + no) or 'of any state'}"


def _flags(value: int, mask: int) -> str:
    """Flags of TCP; empty if they are none that have names, or not all that matter have."""
    if (value if mask == Field.TCP_FLAGS.full else mask) & ~sum(TCP_FLAGS):
        return ""
    yes = [text for bit, text in TCP_FLAGS.items() if value & bit]
    if mask == Field.TCP_FLAGS.full:
        return f"with no flag but {' and '.join(yes)}" if yes else "with no flag"
    no = [text for bit, text in TCP_FLAGS.items() if mask & ~value & bit]
    return ", ".join([*(f"with flag {text}" for text in yes), *(f"without {text}" for text in no)])


def value_words(field: Field, value: int, mask: int | None) -> str:
    """A value without its field's name."""
    if field.form is Form.MAC and mask is None:
        text = value.to_bytes(6, "big").hex(":")
        return "the router's" if text == ROUTER_MAC else text
    if field.form in (Form.IPV4, Form.IPV6):
        return address_words(field, value, mask)
    if mask is not None:
        return f"{value:#x}/{mask:#x}"
    return f"{value:#x}" if field is Field.CT_MARK else f"{value}"


def address_words(field: Field, value: int, mask: int | None) -> str:
    """An address, or a network as "in" it."""
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


def port_words(number: int, ports: PortNames) -> str:
    """A port of the switch."""
    return f"port {ports.get(number) or PORTS.get(number, number)}"
