"""The device that carries the overlay, and the MTU that is left for pods."""

from __future__ import annotations

from ovsnet.cni import links, routing
from ovsnet.cni.netlink import Netlink

OVERHEAD_IPV4 = 50
"""Bytes that VXLAN adds over IPv4: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20 (RFC 7348). Geneve's
header has 8, too, without options (RFC 8926), and no flow sets one.
"""
OVERHEAD_IPV6 = 70
"""The same over IPv6, whose header has 40 bytes."""
LEAST_MTU = {4: 576, 6: 1280}


class UnderlayError(Exception):
    """The underlay cannot be found or is too narrow; the text says what to configure."""


def find(netlink: Netlink, device: str) -> tuple[links.Link, bool]:
    """The underlay's link, and True if it has an IPv4 address to send from.

    `device` names it; if empty it is the device of the default route, IPv4's first.

    Raises:
        UnderlayError: there is none.
    """
    all_links = {link.index: link for link in links.links(netlink)}
    if device:
        found = [link for link in all_links.values() if link.name == device]
        if not found:
            raise UnderlayError(f"underlay: the node has no device {device!r}")
        link = found[0]
    else:
        defaults = [r for r in routing.routes(netlink) if r.prefix == 0 and r.index in all_links]
        if not defaults:
            raise UnderlayError(
                "underlay: the node has no default route to tell its device by; name the device"
                " in the option `underlay`"
            )
        link = all_links[min(defaults, key=lambda r: r.destination.version).index]
    has_ipv4 = any(
        a.address.version == 4 for a in links.addresses(netlink) if a.index == link.index
    )
    return link, has_ipv4


def pod_mtu(underlay_mtu: int, *, over_ipv4: bool, tunnel: bool, with_ipv6: bool) -> int:
    """The MTU of pods' interfaces.

    Raises:
        UnderlayError: the underlay is too narrow for the pods' address families.
    """
    overhead = (OVERHEAD_IPV4 if over_ipv4 else OVERHEAD_IPV6) if tunnel else 0
    mtu = underlay_mtu - overhead
    least = LEAST_MTU[6 if with_ipv6 else 4]
    if mtu < least:
        raise UnderlayError(
            f"underlay: its MTU {underlay_mtu} leaves {mtu} for pods; at least {least} is needed"
        )
    return mtu
