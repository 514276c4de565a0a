"""Addresses and routes of one device as another one is to have them too, with all that they have.

What the kernel reports is kept as attributes and given back with the device, the table and the
metric exchanged. Numbers are those of linux/if_addr.h and linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from ovsnet.cni.netlink import (
    CREATE,
    REPLACE,
    Message,
    Netlink,
    attribute,
    attribute_u32,
    attributes,
)

APPEND = 0x800
"""Beside routes to the same destination, not in the place of one."""

_IFADDR = struct.Struct("=BBBBI")
_LIFETIMES = struct.Struct("=IIII")
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 4, 6, 8
_F_TEMPORARY, _F_NODAD, _F_DADFAILED, _F_DEPRECATED, _F_TENTATIVE = 0x01, 0x02, 0x08, 0x20, 0x40
_F_NOPREFIXROUTE = 0x200
_FOR_EVER = 0xFFFFFFFF

_RTMSG = struct.Struct("=8BI")
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_RTN_UNICAST = 1
_RTM_F_CLONED = 0x200
_ONLINK = 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_CACHEINFO, _RTA_TABLE = 1, 4, 5, 6, 12, 15
_RTA_VIA = 18
_EXCHANGED = frozenset({_RTA_OIF, _RTA_PRIORITY, _RTA_CACHEINFO, _RTA_TABLE})


@dataclass(frozen=True)
class Held:
    """An address as a device has it."""

    family: int
    local: bytes
    address: bytes
    """The same, or that of the other end."""
    broadcast: bytes
    prefix: int
    scope: int
    deprecated: bool
    """Not to be chosen as a source."""
    copied: bool
    """It came without a route to its network, as the copies here do."""

    @property
    def text(self) -> str:
        """The address as ip-address(8) has it."""
        return f"{ip_address(self.local)}/{self.prefix}"

    @property
    def link_local(self) -> bool:
        """Every device makes itself such an address."""
        return self.family == socket.AF_INET6 and ip_address(self.local).is_link_local


def _held(body: bytes) -> tuple[int, Held] | None:
    """An address with the index of its device; None for one that is not used, or not for long."""
    family, prefix, flags, scope, index = _IFADDR.unpack_from(body)
    a = attributes(body, _IFADDR.size)
    address = a.get(_IFA_ADDRESS, b"")
    flags = _number(a[_IFA_FLAGS]) if _IFA_FLAGS in a else flags
    failed = _F_DADFAILED | (_F_TEMPORARY if family == socket.AF_INET6 else 0)
    if not address or flags & failed or (flags & _F_TENTATIVE and family == socket.AF_INET6):
        return None
    return index, Held(
        family,
        a.get(_IFA_LOCAL, address),
        address,
        a.get(_IFA_BROADCAST, b""),
        prefix,
        scope,
        bool(flags & _F_DEPRECATED),
        bool(flags & _F_NOPREFIXROUTE),
    )


def held(netlink: Netlink, index: int) -> tuple[Held, ...]:
    """The addresses of a device in the kernel's order, in which the first of a network is the one
    that is sent from.
    """
    found = map(_held, netlink.dump(_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0), "list addresses"))
    return tuple(one[1] for one in found if one is not None and one[0] == index)


def copy_address(index: int, held: Held) -> Message:
    """Put an address on a device without its own route, and without asking whether it is free."""
    lifetimes = _LIFETIMES.pack(0 if held.deprecated else _FOR_EVER, _FOR_EVER, 0, 0)
    body = (
        _IFADDR.pack(held.family, held.prefix, 0, held.scope, index)
        + attribute(_IFA_LOCAL, held.local)
        + attribute(_IFA_ADDRESS, held.address)
        + (attribute(_IFA_BROADCAST, held.broadcast) if held.broadcast else b"")
        + attribute_u32(_IFA_FLAGS, _F_NODAD | _F_NOPREFIXROUTE)
        + attribute(_IFA_CACHEINFO, lifetimes)
    )
    return Message(_NEWADDR, CREATE | REPLACE, body, f"copy address {held.text} to {index}")


def drop_address(index: int, held: Held) -> Message:
    """Take an address off a device. One that is gone already is no error."""
    body = (
        _IFADDR.pack(held.family, held.prefix, 0, held.scope, index)
        + attribute(_IFA_LOCAL, held.local)
        + attribute(_IFA_ADDRESS, held.address)
    )
    gone = frozenset({errno.EADDRNOTAVAIL})
    return Message(_DELADDR, 0, body, f"drop address {held.text} of {index}", gone)


@dataclass(frozen=True)
class Way:
    """What a route says, but for device, table and metric."""

    family: int
    prefix: int
    source_prefix: int
    service: int
    """Type of service that it is for, 0: all."""
    protocol: int
    scope: int
    onlink: bool
    attributes: tuple[tuple[int, bytes], ...]

    @property
    def destination(self) -> bytes:
        """Its network's address; empty for everything."""
        return dict(self.attributes).get(_RTA_DST, b"")

    @property
    def direct(self) -> bool:
        """There is no gateway in between."""
        kinds = dict(self.attributes)
        return _RTA_GATEWAY not in kinds and _RTA_VIA not in kinds

    @property
    def link_local(self) -> bool:
        """Every device has such a route by itself."""
        ours = self.family == socket.AF_INET6 and self.destination
        return bool(ours) and ip_address(self.destination).is_link_local

    @property
    def text(self) -> str:
        """Where it leads to, in the words of ip-route(8)."""
        if not self.prefix:
            return "default" if self.family == socket.AF_INET else "default (IPv6)"
        return f"{ip_address(self.destination)}/{self.prefix}"


@dataclass(frozen=True)
class Placed:
    """A route in its place."""

    way: Way
    index: int
    table: int
    metric: int

    def rivals(self, other: Placed) -> bool:
        """True if the kernel takes the two for the same route by different devices."""
        mine, its = self.way, other.way
        return (
            (self.table, self.metric) == (other.table, other.metric)
            and self.index != other.index
            and (mine.family, mine.prefix, mine.source_prefix, mine.service, mine.destination)
            == (its.family, its.prefix, its.source_prefix, its.service, its.destination)
        )


def _placed(body: bytes) -> Placed | None:
    """A route; None for one that is not unicast or has not one single next hop."""
    family, prefix, source, service, _, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
    a = attributes(body, _RTMSG.size)
    if kind != _RTN_UNICAST or flags & _RTM_F_CLONED or _RTA_OIF not in a:
        return None
    kept = tuple(sorted((k, v) for k, v in a.items() if k not in _EXCHANGED))
    return Placed(
        Way(family, prefix, source, service, protocol, scope, bool(flags & _ONLINK), kept),
        _number(a[_RTA_OIF]),
        _number(a.get(_RTA_TABLE, b"")),
        _number(a.get(_RTA_PRIORITY, b"")),
    )


def placed(netlink: Netlink) -> tuple[Placed, ...]:
    """All unicast routes with one next hop, of all tables and both families."""
    bodies = netlink.dump(_GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")
    return tuple(found for found in map(_placed, bodies) if found is not None)


def _body(route: Placed) -> bytes:
    way = route.way
    header = _RTMSG.pack(
        way.family,
        way.prefix,
        way.source_prefix,
        way.service,
        0,
        way.protocol,
        way.scope,
        _RTN_UNICAST,
        _ONLINK if way.onlink else 0,
    )
    placing = attribute_u32(_RTA_OIF, route.index) + attribute_u32(_RTA_TABLE, route.table)
    if route.metric:
        placing += attribute_u32(_RTA_PRIORITY, route.metric)
    return header + placing + b"".join(attribute(k, v) for k, v in way.attributes)


def put_route(route: Placed, flags: int = REPLACE) -> Message:
    """Add a route: in the place of one that the kernel takes for the same, or beside it."""
    words = f"route {route.way.text} dev {route.index} table {route.table}"
    return Message(_NEWROUTE, CREATE | flags, _body(route), f"put {words}", _THERE)


def drop_route(route: Placed) -> Message:
    """Delete a route. One that is gone already is no error."""
    words = f"route {route.way.text} dev {route.index} table {route.table}"
    return Message(_DELROUTE, 0, _body(route), f"drop {words}", _GONE)


_THERE = frozenset({errno.EEXIST})
_GONE = frozenset({errno.ESRCH})


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")
