"""Lines of `ovs-ofctl dump-flows` (and of files for `add-flows`) to flows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from ovsnet.flows.fields import EthType, Field, IpProto
from ovsnet.flows.flow import Flow, Match, Term, match, term
from ovsnet.flows.text.actions import parse_actions
from ovsnet.flows.text.names import FIELDS, PROTOCOLS, TP_DST, TP_SRC
from ovsnet.flows.text.values import (
    DEFAULT_PRIORITY,
    PortNumbers,
    parse_number,
    parse_table,
    parse_value,
)
from ovsnet.names import Table

_ACTIONS = re.compile(r'(?:^|[\s,])actions=((?:[^"]|"[^"]*")*)$')
_PART = re.compile(r'((?:[^,\s"]|"[^"]*")+)[,\s]*')
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_PROPERTY_BITS = {
    "priority": 16,
    "cookie": 64,
    "n_packets": 64,
    "n_bytes": 64,
    "idle_age": 32,
    "hard_age": 32,
}
_FOREIGN = {"idle_timeout", "hard_timeout", "importance"}
_FOREIGN_WORDS = {
    *("send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"),
}


class ParsedFlow(msgspec.Struct, frozen=True):
    """A flow and what a dump says of its use.

    `duration` (since it was added), `idle_age` and `hard_age` are in seconds, None if the line
    does not say. `foreign` has the properties that no flow of ours has, timeouts for one, as they
    stand in the line.
    """

    flow: Flow
    packets: int = 0
    bytes: int = 0
    duration: float | None = None
    idle_age: int | None = None
    hard_age: int | None = None
    foreign: tuple[str, ...] = ()


def parse_flow(line: str, ports: PortNumbers | None = None) -> ParsedFlow:
    """One line of a dump, with or without --names, statistics and cookie.

    Tables may be named or numbered. Ports may be numbered, or named as in `ports`.

    Raises:
        ValueError: something in the line cannot be read, or cannot be expressed as one of our
            flows; the message has that part and what was expected there.
    """
    found = _ACTIONS.search(line)
    if found is None:
        raise ValueError(f"{line.strip()!r}: expected actions=... at the end")
    conditions = _Conditions()
    properties: dict[str, int] = {}
    table, duration = Table.CLASSIFY, None
    foreign = []
    for part in _parts(line[: found.start()]):
        name, equals, value = part.partition("=")
        if not equals and name in _FOREIGN_WORDS:
            foreign.append(part)
        elif not equals:
            conditions.protocol(name)
        elif name in _FOREIGN:
            foreign.append(part)
        elif name == "duration":
            duration = _duration(value)
        elif name == "table":
            table = parse_table(value)
        elif name in _PROPERTY_BITS:
            properties[name] = _property(name, value)
        else:
            conditions.add(name, value)
    known = ports or {}
    flow = Flow(
        table,
        properties.get("priority", DEFAULT_PRIORITY),
        conditions.match(known),
        parse_actions(found[1], known),
        properties.get("cookie", 0),
    )
    return ParsedFlow(
        flow,
        properties.get("n_packets", 0),
        properties.get("n_bytes", 0),
        duration,
        properties.get("idle_age"),
        properties.get("hard_age"),
        tuple(foreign),
    )


def parse_flows(text: str, ports: PortNumbers | None = None) -> Iterator[ParsedFlow]:
    """Every flow of a whole dump; its headings and empty lines are passed over.

    Raises:
        ValueError: as `parse_flow`; the message begins with the line's number.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if "actions=" not in line:
            continue
        try:
            yield parse_flow(line, ports)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error


def parse_match(text: str, ports: PortNumbers | None = None) -> Match:
    """A match alone.

    Raises:
        ValueError: as `parse_flow`.
    """
    conditions = _Conditions()
    for part in _parts(text):
        name, equals, value = part.partition("=")
        if equals:
            conditions.add(name, value)
        else:
            conditions.protocol(name)
    return conditions.match(ports or {})


class _Conditions:
    """The terms of a match while it is read.

    Some names (tp_src, icmp_type, nw_src) mean what the protocol in the same match says, so they
    are understood last.
    """

    def __init__(self) -> None:
        self._named: dict[str, str] = {}
        self._protocol: tuple[int, int | None] | None = None

    def protocol(self, word: str) -> None:
        """Take a shorthand."""
        if word not in PROTOCOLS:
            known = ", ".join(PROTOCOLS)
            raise ValueError(f"{word!r}: expected name=value or one of {known}")
        if self._protocol is not None:
            raise ValueError(f"{word!r}: expected one protocol only")
        self._protocol = PROTOCOLS[word]

    def add(self, name: str, value: str) -> None:
        """Take a name and a value."""
        if name in self._named:
            raise ValueError(f"{name}={value}: {name} stands twice in one match")
        self._named[name] = value

    def match(self, ports: PortNumbers) -> Match:
        """The match, once everything was taken."""
        ether = self._number("dl_type", "eth_type", default=0)
        protocol = self._number("nw_proto", "ip_proto", default=None)
        terms = []
        if self._protocol is not None:
            ether = self._protocol[0]
            terms.append(Term(Field.ETH_TYPE, ether))
            if self._protocol[1] is not None:
                protocol = self._protocol[1]
                terms.append(Term(Field.IP_PROTO, protocol))
        for name, text in self._named.items():
            field = _field(name, ether, protocol)
            try:
                value, mask = parse_value(field, text, ports)
                if mask != 0:
                    terms.append(term(field, value, mask))
            except ValueError as error:
                raise ValueError(f"{name}={text}: {error}") from error
        return match(*terms)

    def _number(self, *names: str, default: int | None) -> int | None:
        for name in names:
            if name in self._named:
                try:
                    return parse_number(self._named[name], 16)
                except ValueError as error:
                    raise ValueError(f"{name}={self._named[name]}: {error}") from error
        return default


def _field(name: str, ether: int | None, protocol: int | None) -> Field:
    """The field that a name means in a match of this Ethernet type and IP protocol."""
    if name in _BY_PROTOCOL and protocol is not None:
        field = _BY_PROTOCOL[name].get(protocol)
        if field is not None:
            return field
    if name in _BY_PROTOCOL:
        raise ValueError(f"{name}: expected a protocol in the same match that has it")
    if ether == EthType.ARP and name in _IN_ARP:
        return _IN_ARP[name]
    if name not in FIELDS:
        raise ValueError(f"{name}: expected the name of a field, of a property or of a protocol")
    return FIELDS[name]


_BY_PROTOCOL: dict[str, dict[int, Field]] = {
    "tp_src": {int(protocol): field for protocol, field in TP_SRC.items()},
    "tp_dst": {int(protocol): field for protocol, field in TP_DST.items()},
    "icmp_type": {p: TP_SRC[p] for p in (IpProto.ICMP, IpProto.ICMPV6)},
    "icmp_code": {p: TP_DST[p] for p in (IpProto.ICMP, IpProto.ICMPV6)},
}
_IN_ARP = {"nw_src": Field.ARP_SPA, "nw_dst": Field.ARP_TPA, "nw_proto": Field.ARP_OP}


def _parts(text: str) -> Iterator[str]:
    at = len(text) - len(text.lstrip())
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            raise ValueError(f"{text[at:]!r}: expected name=value")
        yield found[1]
        at = found.end()


def _property(name: str, text: str) -> int:
    """A property of a flow that is a number."""
    try:
        return parse_number(text, _PROPERTY_BITS[name])
    except ValueError as error:
        raise ValueError(f"{name}={text}: {error}") from error


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"duration={text}: expected seconds such as 1.5s")
    return float(found[1])
