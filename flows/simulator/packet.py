"""Packets as frozen values: what Open vSwitch extracts from a packet, and its metadata.

A field that a packet does not have is zero, as in Open vSwitch. The functions at the end make the
usual packets; `Packet.on` and `Packet.through_tunnel` say how they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

import msgspec

from ovsnet.flows.fields import EthType, Field, IpProto
from ovsnet.flows.flow import Term, match
from ovsnet.flows.terms import mac
from ovsnet.flows.text import print_match
from ovsnet.model import IPAddress

F = Field
FIRST_FRAGMENT = 1
_LATER = 2
_NOTHING = (0,) * len(Field)
_TRANSPORT = frozenset(
    {
        *(F.TCP_SRC, F.TCP_DST, F.UDP_SRC, F.UDP_DST, F.SCTP_SRC, F.SCTP_DST),
        *(F.ICMP_TYPE, F.ICMP_CODE, F.ICMPV6_TYPE, F.ICMPV6_CODE),
    }
)
_CONNTRACK = range(F.CT_STATE, F.CT_TP_DST + 1)
_CT_VALID = 0x0F
_CT_TRACKED = 0x20
_CT_INVALID = 0x10

SYN, RST, ACK = 0x02, 0x04, 0x10
"""Flags of TCP (RFC 9293, section 3.1)."""


class Packet(msgspec.Struct, frozen=True):
    """A packet and its metadata.

    `values` has one integer per member of `Field`, in their order. `quoted` is the packet that an
    ICMP error is about.
    """

    values: tuple[int, ...] = _NOTHING
    quoted: Packet | None = None

    def __getitem__(self, field: Field) -> int:
        return self.values[field]

    def __str__(self) -> str:
        return print_match(match(*(Term(f, v) for f, v in self.fields.items())))

    @property
    def fields(self) -> dict[Field, int]:
        """The fields that are not zero."""
        return {field: value for field in Field if (value := self.values[field])}

    def replace(self, changes: Mapping[Field, int]) -> Packet:
        """The packet with other values in these fields.

        Raises:
            ValueError: a value does not fit its field.
        """
        values = list(self.values)
        for field, value in changes.items():
            if not 0 <= value <= field.full:
                raise ValueError(f"{field.text}={value}: expected {field.bits} bits")
            values[field] = value
        return Packet(tuple(values), self.quoted)

    def write(self, field: Field, value: int, mask: int | None = None) -> Packet:
        """The packet with these bits of a field written, if it has the field at all.

        Writing to a field that the packet does not have does nothing (ovs-actions(7),
        Inconsistencies).
        """
        if not self.has(field):
            return self
        if mask is not None:
            value = self.values[field] & ~mask | value & mask
        return self._with(field, value)

    @property
    def matchable(self) -> tuple[int, ...]:
        """The values that flows are matched against.

        Those of a first fragment have no ports and no ICMP type, so that all fragments of a packet
        meet the same flows (fragment handling "normal", which is the default).
        """
        if self.values[F.IP_FRAG] != FIRST_FRAGMENT:
            return self.values
        return tuple(0 if f in _TRANSPORT else v for f, v in enumerate(self.values))

    def _with(self, field: Field, value: int) -> Packet:
        values = self.values
        return Packet((*values[:field], value, *values[field + 1 :]), self.quoted)

    def untracked(self) -> Packet:
        """The packet without anything that the connection tracker said of it."""
        first, last = _CONNTRACK.start, _CONNTRACK.stop
        if not any(self.values[first:last]):
            return self
        empty = (0,) * (last - first)
        return Packet((*self.values[:first], *empty, *self.values[last:]), self.quoted)

    def on(self, port: int, source: str = "", destination: str = "") -> Packet:
        """The packet as it comes in by a port, with these MAC addresses."""
        changes = {F.IN_PORT: port}
        if source:
            changes[F.ETH_SRC] = mac(source)
        if destination:
            changes[F.ETH_DST] = mac(destination)
        return self.replace(changes)

    def through_tunnel(self, port: int, key: int, source: str, destination: str) -> Packet:
        """The packet as it comes in by a tunnel port, between these outer addresses."""
        outer = ip_address(source)
        fields = (F.TUN_SRC, F.TUN_DST) if outer.version == 4 else (F.TUN_IPV6_SRC, F.TUN_IPV6_DST)
        ends = (int(outer), int(ip_address(destination)))
        return self.replace(
            {F.IN_PORT: port, F.TUN_ID: key, **dict(zip(fields, ends, strict=True))}
        )

    def has(self, field: Field) -> bool:
        """Whether a packet of this kind has the field at all (ovs-fields(7), prerequisites)."""
        needs = _NEEDS.get(field)
        if needs is None:
            return True
        values = self.values
        ether = values[F.ETH_TYPE]
        if ether not in needs.ether_types:
            return False
        if needs.protocol is None:
            return field not in _CT_TUPLE or self._is_ct_valid
        if values[F.IP_PROTO] != needs.protocol or values[F.IP_FRAG] & _LATER:
            return False
        return not needs.icmpv6_types or (
            values[F.ICMPV6_TYPE] in needs.icmpv6_types and values[F.ICMPV6_CODE] == 0
        )

    @property
    def _is_ct_valid(self) -> bool:
        state = self.values[F.CT_STATE]
        tracked = state & (_CT_TRACKED | _CT_INVALID) == _CT_TRACKED
        return bool(state & _CT_VALID) or tracked


class _Needs(msgspec.Struct, frozen=True):
    ether_types: tuple[int, ...]
    protocol: int | None = None
    icmpv6_types: tuple[int, ...] = ()


_ANY_IP = (EthType.IPV4, EthType.IPV6)
_CT_TUPLE = frozenset(
    {
        *(F.CT_NW_SRC, F.CT_NW_DST, F.CT_IPV6_SRC, F.CT_IPV6_DST),
        *(F.CT_NW_PROTO, F.CT_TP_SRC, F.CT_TP_DST),
    }
)
_NEEDS = {
    **dict.fromkeys((F.CT_NW_SRC, F.CT_NW_DST), _Needs((EthType.IPV4,))),
    **dict.fromkeys((F.CT_IPV6_SRC, F.CT_IPV6_DST), _Needs((EthType.IPV6,))),
    **dict.fromkeys((F.CT_NW_PROTO, F.CT_TP_SRC, F.CT_TP_DST), _Needs(_ANY_IP)),
    **dict.fromkeys((F.IP_PROTO, F.IP_TTL, F.IP_FRAG), _Needs(_ANY_IP)),
    **dict.fromkeys((F.IPV4_SRC, F.IPV4_DST), _Needs((EthType.IPV4,))),
    **dict.fromkeys((F.IPV6_SRC, F.IPV6_DST), _Needs((EthType.IPV6,))),
    **dict.fromkeys((F.TCP_SRC, F.TCP_DST, F.TCP_FLAGS), _Needs(_ANY_IP, IpProto.TCP)),
    **dict.fromkeys((F.UDP_SRC, F.UDP_DST), _Needs(_ANY_IP, IpProto.UDP)),
    **dict.fromkeys((F.SCTP_SRC, F.SCTP_DST), _Needs(_ANY_IP, IpProto.SCTP)),
    **dict.fromkeys((F.ICMP_TYPE, F.ICMP_CODE), _Needs((EthType.IPV4,), IpProto.ICMP)),
    **dict.fromkeys((F.ICMPV6_TYPE, F.ICMPV6_CODE), _Needs((EthType.IPV6,), IpProto.ICMPV6)),
    **dict.fromkeys(
        (F.ARP_OP, F.ARP_SPA, F.ARP_TPA, F.ARP_SHA, F.ARP_THA), _Needs((EthType.ARP, 0x8035))
    ),
    F.ND_TARGET: _Needs((EthType.IPV6,), IpProto.ICMPV6, (135, 136)),
    F.ND_SLL: _Needs((EthType.IPV6,), IpProto.ICMPV6, (135,)),
    F.ND_TLL: _Needs((EthType.IPV6,), IpProto.ICMPV6, (136,)),
}


def ip(source: str, destination: str, protocol: int, *, ttl: int = 64) -> Packet:
    """A packet of any IP protocol, of the addresses' family."""
    ends: tuple[IPAddress, IPAddress] = (ip_address(source), ip_address(destination))
    if ends[0].version != ends[1].version:
        raise ValueError(f"{source} and {destination}: expected addresses of one family")
    if ends[0].version == 4:
        kind, fields = EthType.IPV4, (F.IPV4_SRC, F.IPV4_DST)
    else:
        kind, fields = EthType.IPV6, (F.IPV6_SRC, F.IPV6_DST)
    return Packet().replace(
        {
            F.ETH_TYPE: kind,
            F.IP_PROTO: protocol,
            F.IP_TTL: ttl,
            fields[0]: int(ends[0]),
            fields[1]: int(ends[1]),
        }
    )


def tcp(
    source: str,
    destination: str,
    source_port: int,
    destination_port: int,
    *,
    flags: int = SYN,
    ttl: int = 64,
) -> Packet:
    """A TCP segment, over IPv4 or IPv6; the first of a connection unless `flags` say otherwise."""
    ports = {F.TCP_SRC: source_port, F.TCP_DST: destination_port, F.TCP_FLAGS: flags}
    return ip(source, destination, IpProto.TCP, ttl=ttl).replace(ports)


def udp(
    source: str, destination: str, source_port: int, destination_port: int, *, ttl: int = 64
) -> Packet:
    """A UDP datagram, over IPv4 or IPv6."""
    ports = {F.UDP_SRC: source_port, F.UDP_DST: destination_port}
    return ip(source, destination, IpProto.UDP, ttl=ttl).replace(ports)


def icmp(
    source: str,
    destination: str,
    kind: int,
    code: int = 0,
    *,
    ttl: int = 64,
    quoted: Packet | None = None,
) -> Packet:
    """An ICMP or ICMPv6 message; an error says in `quoted` which packet it is about."""
    if ip_address(source).version == 4:
        made = ip(source, destination, IpProto.ICMP, ttl=ttl)
        return Packet(made.replace({F.ICMP_TYPE: kind, F.ICMP_CODE: code}).values, quoted)
    made = ip(source, destination, IpProto.ICMPV6, ttl=ttl)
    return Packet(made.replace({F.ICMPV6_TYPE: kind, F.ICMPV6_CODE: code}).values, quoted)


def echo(source: str, destination: str, *, reply: bool = False, ttl: int = 64) -> Packet:
    """A ping or its answer (RFC 792, RFC 4443)."""
    kinds = (8, 0) if ip_address(source).version == 4 else (128, 129)
    return icmp(source, destination, kinds[reply], ttl=ttl)


def arp(
    op: int, sender_mac: str, sender: str, target: str, target_mac: str = "00:00:00:00:00:00"
) -> Packet:
    """An ARP packet: a request (op 1) or a reply (op 2) (RFC 826)."""
    return Packet().replace(
        {
            F.ETH_TYPE: EthType.ARP,
            F.ARP_OP: op,
            F.ARP_SHA: mac(sender_mac),
            F.ARP_THA: mac(target_mac),
            F.ARP_SPA: int(ip_address(sender)),
            F.ARP_TPA: int(ip_address(target)),
        }
    )


def solicitation(source: str, destination: str, target: str, link_layer: str) -> Packet:
    """A neighbour solicitation with the sender's link-layer address (RFC 4861, section 4.3)."""
    body = {F.ND_TARGET: int(ip_address(target)), F.ND_SLL: mac(link_layer)}
    return icmp(source, destination, 135, ttl=255).replace(body)


def advertisement(source: str, destination: str, target: str, link_layer: str) -> Packet:
    """A neighbour advertisement with the target's link-layer address (RFC 4861, section 4.4)."""
    body = {F.ND_TARGET: int(ip_address(target)), F.ND_TLL: mac(link_layer)}
    return icmp(source, destination, 136, ttl=255).replace(body)
