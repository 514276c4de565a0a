"""The way back for clients who reach a program of the node through a service.

Where a service keeps the client's address (`externalTrafficPolicy: Local`) and its endpoint is in
the node's own network, the switch hands the packet to the node by the gateway port, with the source
that it had. The answer would go straight to the client, who knows the service's address alone and
not the one that answers. So the packet filter marks the tracked connection when it comes in, and
its answers with the same bit; a routing rule sends what is so marked back into the switch, which
undoes the translation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from ovsnet.cni.links import Address
from ovsnet.cni.routing import Route, Rule

MARK = 0x1000
"""The bit in the marks of packets and of tracked connections. Those from 0x2000 to 0x8000 are
portmap's and kube-proxy's.
"""

TABLE = int.from_bytes(b"ov")
"""Number of the routing table that knows only the way into the switch."""

PRIORITY = 97
"""Of the rules: before those by which nodes with several uplinks choose one by the source."""

_EVERYTHING: dict[int, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}


def rules(versions: Iterable[int]) -> Iterator[Rule]:
    """One rule for each IP version."""
    return (Rule(version, PRIORITY, MARK, MARK, TABLE) for version in versions)


def route(index: int, router: Address) -> Route:
    """What the table has for the router's IP version."""
    return Route(_EVERYTHING[router.version], 0, index, router, table=TABLE)
