"""Routes and routing rules as netlink messages, and as what the kernel reports.

Numbers are those of linux/rtnetlink.h and fib_rules.h. A rule here is one for packets that the node
itself sends; see ip-rule(8).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from ovsnet.cni.links import Address, family
from ovsnet.cni.netlink import (
    CREATE,
    EXCLUSIVE,
    REPLACE,
    Message,
    Netlink,
    attribute,
    attribute_text,
    attribute_u32,
    attributes,
)

MAIN_TABLE = 254
"""The routing table that is looked up where no rule says otherwise."""

_RTMSG = struct.Struct("=8BI")
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_RT_TABLE_UNSPEC = 0
_RTPROT_STATIC = 4
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 7, 15

_FIB_RULE = struct.Struct("=8BI")
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_FR_ACT_TO_TBL = 1
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK = 3, 6, 10, 15, 16
_VERSIONS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}

_OWN = "lo"
"""The device that the node's own packets come from, in the eyes of rules."""


@dataclass(frozen=True)
class Route:
    """A unicast route."""

    destination: Address
    prefix: int
    index: int
    gateway: Address | None = None
    source: Address | None = None
    table: int = MAIN_TABLE

    @property
    def text(self) -> str:
        """The route in the words of ip-route(8)."""
        via = f" via {self.gateway}" if self.gateway else ""
        src = f" src {self.source}" if self.source else ""
        table = f" table {self.table}" if self.table != MAIN_TABLE else ""
        return f"{self.destination}/{self.prefix}{via} dev {self.index}{src}{table}"


def _route_body(route: Route) -> bytes:
    scope = _SCOPE_UNIVERSE if route.gateway else _SCOPE_LINK
    body = _RTMSG.pack(
        family(route.destination),
        route.prefix,
        0,
        0,
        # A table's number does not fit in here; the attribute has it.
        _RT_TABLE_UNSPEC,
        _RTPROT_STATIC,
        scope,
        _RTN_UNICAST,
        _RTNH_F_ONLINK if route.gateway else 0,
    ) + attribute_u32(_RTA_TABLE, route.table)
    if route.prefix:
        body += attribute(_RTA_DST, route.destination.packed)
    body += attribute_u32(_RTA_OIF, route.index)
    if route.gateway:
        body += attribute(_RTA_GATEWAY, route.gateway.packed)
    if route.source:
        body += attribute(_RTA_PREFSRC, route.source.packed)
    return body


def replace_route(route: Route) -> Message:
    """Add a route, or put it in the place of one to the same destination.

    A gateway is taken to be on the link, whatever addresses the link has.
    """
    return Message(_NEWROUTE, CREATE | REPLACE, _route_body(route), f"add route {route.text}")


def delete_route(route: Route) -> Message:
    """Delete a route. One that is gone already is no error."""
    gone = frozenset({errno.ESRCH})
    return Message(_DELROUTE, 0, _route_body(route), f"delete route {route.text}", gone)


def routes(netlink: Netlink, tables: Collection[int] = (MAIN_TABLE,)) -> Iterator[Route]:
    """The unicast routes of these tables with one next hop, both families."""
    for body in netlink.dump(_GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list routes"):
        number, prefix, _, _, _, _, _, kind, _ = _RTMSG.unpack_from(body)
        a = attributes(body, _RTMSG.size)
        table = _number(a.get(_RTA_TABLE, b""))
        if table not in tables or kind != _RTN_UNICAST or _RTA_OIF not in a:
            continue
        zero = bytes(4 if number == socket.AF_INET else 16)
        gateway, source = a.get(_RTA_GATEWAY), a.get(_RTA_PREFSRC)
        yield Route(
            ip_address(a.get(_RTA_DST, zero)),
            prefix,
            _number(a[_RTA_OIF]),
            ip_address(gateway) if gateway else None,
            ip_address(source) if source else None,
            table,
        )


@dataclass(frozen=True)
class Rule:
    """Packets of one IP version whose mark has this value in the bits of `mask`, and that come from
    `device` (empty: from anywhere), look up a table.
    """

    version: int
    priority: int
    mark: int
    mask: int
    table: int
    device: str = _OWN

    @property
    def text(self) -> str:
        """The rule in the words of ip-rule(8)."""
        mark = f" fwmark {self.mark:#x}/{self.mask:#x}" if self.mask else ""
        device = f" iif {self.device}" if self.device else ""
        return f"IPv{self.version} {self.priority}:{mark}{device} lookup {self.table}"


def _rule_body(rule: Rule) -> bytes:
    number = socket.AF_INET if rule.version == 4 else socket.AF_INET6
    body = _FIB_RULE.pack(number, 0, 0, 0, _RT_TABLE_UNSPEC, 0, 0, _FR_ACT_TO_TBL, 0)
    body += attribute_u32(_FRA_PRIORITY, rule.priority) + attribute_u32(_FRA_TABLE, rule.table)
    if rule.mask:
        body += attribute_u32(_FRA_FWMARK, rule.mark) + attribute_u32(_FRA_FWMASK, rule.mask)
    if rule.device:
        body += attribute_text(_FRA_IIFNAME, rule.device)
    return body


def add_rule(rule: Rule) -> Message:
    """Add a rule. One that is there already is no error."""
    there = frozenset({errno.EEXIST})
    return Message(_NEWRULE, CREATE | EXCLUSIVE, _rule_body(rule), f"add rule {rule.text}", there)


def delete_rule(rule: Rule) -> Message:
    """Delete a rule. One that is gone already is no error."""
    gone = frozenset({errno.ENOENT})
    return Message(_DELRULE, 0, _rule_body(rule), f"delete rule {rule.text}", gone)


def rules(netlink: Netlink, table: int) -> Iterator[Rule]:
    """The rules that look up this table, both families."""
    for body in netlink.dump(_GETRULE, _FIB_RULE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list rules"):
        number, *_ = _FIB_RULE.unpack_from(body)
        a = attributes(body, _FIB_RULE.size)
        if _number(a.get(_FRA_TABLE, b"")) != table or number not in _VERSIONS:
            continue
        yield Rule(
            _VERSIONS[number],
            _number(a.get(_FRA_PRIORITY, b"")),
            _number(a.get(_FRA_FWMARK, b"")),
            _number(a.get(_FRA_FWMASK, b"")),
            table,
            a.get(_FRA_IIFNAME, b"").rstrip(b"\0").decode(),
        )


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")
