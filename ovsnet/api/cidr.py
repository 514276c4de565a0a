"""Networks as specs name them: in CIDR notation, host bits allowed."""

from __future__ import annotations

import functools
import re
from ipaddress import IPv6Network, ip_network
from typing import Final

from ovsnet.api.members import shown
from ovsnet.model import Fault, IPNetwork

_CIDR: Final = re.compile(r"[^%/]+/(?:0|[1-9][0-9]{0,2})")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def cidr(text: object, path: str, faults: list[Fault]) -> IPNetwork | None:
    """A network, or None and a fault. One of IPv4 must be in its own notation, not in IPv6's."""
    network = _parsed(text) if isinstance(text, str) else None
    if network is None:
        expected = "expected CIDR notation, such as 10.1.2.0/24 or fd00:1::/64"
        faults.append(Fault(path, f"{shown(text)}: {expected}"))
    elif isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        faults.append(Fault(path, f"{shown(text)}: expected an IPv4 network in its own notation"))
        return None
    return network


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> IPNetwork | None:
    """A network; the API allows host bits, and does not look at them (Go's net.ParseCIDR).

    Numbers with leading zeros, which it reads as decimal and others as octal, are refused.
    """
    if _CIDR.fullmatch(text) is None:
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
