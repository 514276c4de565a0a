"""Addresses of services and of endpoints: those that packets can be sent to from every node."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from ovsnet.api.members import shown
from ovsnet.api.objects import parsed
from ovsnet.model import Fault, IPAddress

FAMILIES: Final = {"IPv4": 4, "IPv6": 6}
"""IP versions by the API's words for them."""

_SPECIAL: Final = tuple(
    (network.version, int(network.netmask), int(network.network_address), kind)
    for network, kind in (
        (ip_network("0.0.0.0/8"), "an unspecified address"),
        (ip_network("127.0.0.0/8"), "a loopback address"),
        (ip_network("169.254.0.0/16"), "a link-local address"),
        (ip_network("224.0.0.0/4"), "a multicast address"),
        (ip_network("255.255.255.255"), "the broadcast address"),
        (ip_network("::"), "an unspecified address"),
        (ip_network("::1"), "a loopback address"),
        (ip_network("::ffff:0:0/96"), "an IPv4-mapped address"),
        (ip_network("fe80::/10"), "a link-local address"),
        (ip_network("ff00::/8"), "a multicast address"),
    )
)
"""Version, mask and bits of the networks that other hosts have no way to (RFC 6890)."""


@functools.lru_cache(maxsize=65536)
def destination(text: str) -> IPAddress | str:
    """An address that every node can send packets to, or in words why it is none.

    Lists of endpoints bring up to a million of them. An EndpointSlice that changes brings all but
    one of them again, and one pod may stand in the slices of many services.
    """
    found = parsed(text)
    if found is None:
        return f"{shown(text)}: expected an IPv4 or IPv6 address"
    version, number = found.version, int(found)
    for other, mask, bits, kind in _SPECIAL:
        if version == other and number & mask == bits:
            return f"{shown(text)}: {kind}; expected one that every node can reach"
    return found


def destinations(
    texts: Iterable[tuple[str, str]], families: tuple[int, ...], faults: list[Fault]
) -> list[tuple[str, IPAddress]]:
    """The addresses that can be used, of `families` if there are any, each with its field."""
    found: list[tuple[str, IPAddress]] = []
    for field, text in texts:
        value = destination(text)
        if isinstance(value, str):
            faults.append(Fault(field, value))
        elif families and value.version not in families:
            expected = " or ".join(name for name, n in FAMILIES.items() if n in families)
            faults.append(Fault(field, f"{value}: expected {expected}, as in spec.ipFamilies"))
        else:
            found.append((field, value))
    return found


def each_once(found: Iterable[tuple[str, IPAddress]]) -> tuple[IPAddress, ...]:
    """The addresses without their fields, and without those that stand there again."""
    return tuple(dict.fromkeys(value for _, value in found))
