"""Shorthands for the matches and actions that the pipeline's flows are made of."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from ovsnet.flows.fields import CtState, EthType, Field, IpProto
from ovsnet.flows.flow import Action, Match, SetField, Term, term
from ovsnet.model import IPAddress, IPNetwork

ARP = Term(Field.ETH_TYPE, EthType.ARP)
IPV4 = Term(Field.ETH_TYPE, EthType.IPV4)
IPV6 = Term(Field.ETH_TYPE, EthType.IPV6)
FAMILIES = (IPV4, IPV6)


def mac(text: str) -> int:
    """A MAC address as the integer that flows carry."""
    return int(text.replace(":", ""), 16)


def in_port(number: int) -> Term:
    """The packet came in by this port."""
    return Term(Field.IN_PORT, number)


def icmp(kind: int) -> tuple[Term, Term, Term]:
    """An ICMP message of this type (RFC 792)."""
    return IPV4, Term(Field.IP_PROTO, IpProto.ICMP), Term(Field.ICMP_TYPE, kind)


def icmpv6(kind: int) -> tuple[Term, Term, Term]:
    """An ICMPv6 message of this type (RFC 4443; neighbour discovery: RFC 4861, section 4)."""
    return IPV6, Term(Field.IP_PROTO, IpProto.ICMPV6), Term(Field.ICMPV6_TYPE, kind)


def ct_state(set_bits: int, clear_bits: int = 0) -> Term:
    """These bits of ct_state are set, and those are not."""
    return term(Field.CT_STATE, set_bits, set_bits | clear_bits)


REPLY = ct_state(CtState.TRK | CtState.RPL, CtState.INV)
"""The tracker takes the packet for one that goes back to whoever began the connection."""


def source(where: IPAddress | IPNetwork) -> Match:
    """The packet's source is this address or in this network, of the same family."""
    return _address(where, Field.IPV4_SRC, Field.IPV6_SRC)


def destination(where: IPAddress | IPNetwork) -> Match:
    """The packet's destination is this address or in this network, of the same family."""
    return _address(where, Field.IPV4_DST, Field.IPV6_DST)


def tunnel_source(outer: IPAddress) -> Term:
    """The packet came through the tunnel from the node of this underlay address."""
    return Term(Field.TUN_SRC if outer.version == 4 else Field.TUN_IPV6_SRC, int(outer))


def set_tunnel_destination(outer: IPAddress) -> Action:
    """The packet goes through the tunnel to the node of this underlay address."""
    return SetField(Field.TUN_DST if outer.version == 4 else Field.TUN_IPV6_DST, int(outer))


def _address(where: IPAddress | IPNetwork, field4: Field, field6: Field) -> Match:
    if isinstance(where, IPv4Address | IPv4Network):
        family, field = IPV4, field4
    else:
        family, field = IPV6, field6
    if isinstance(where, IPAddress):
        return family, Term(field, int(where))
    if where.prefixlen == 0:
        return (family,)
    return family, term(field, int(where.network_address), int(where.netmask))
