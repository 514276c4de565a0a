"""The node's own leg in the pod network: addresses, routes and neighbours of `ovsnet-gw0`.

The node reaches every pod through one next hop, the virtual router, whose MAC is fixed: so there
is one route per pod range of the cluster and no neighbour discovery. The source address of what
the node sends there is its gateway address.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from ovsnet import names
from ovsnet.cni import links, netns
from ovsnet.cni.netlink import Message, Netlink
from ovsnet.cni.ranges import Addresses

_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_LINK_LOCAL_PREFIX = 64


@dataclass(frozen=True)
class Gateway:
    """What the gateway port must have."""

    addresses: Addresses
    cluster: tuple[IPv4Network | IPv6Network, ...]
    mtu: int

    def wanted_addresses(self) -> frozenset[tuple[links.Address, int]]:
        """The addresses with their prefix lengths."""
        both = ((self.addresses.ipv4, 32), (self.addresses.ipv6, 128))
        return frozenset((a, length) for a, length in both if a is not None)

    def wanted_routes(self, index: int) -> frozenset[links.Route]:
        """One route per pod range of the cluster, of the families that the node has."""
        ways: dict[int, tuple[links.Address, links.Address | None]] = {
            4: (names.ROUTER_IPV4, self.addresses.ipv4),
            6: (names.ROUTER_IPV6, self.addresses.ipv6),
        }
        return frozenset(
            links.Route(net.network_address, net.prefixlen, index, *ways[net.version])
            for net in self.cluster
            if ways[net.version][1] is not None
        )

    def wanted_neighbours(self, index: int) -> frozenset[links.Neighbour]:
        """The virtual router's MAC, for good."""
        both = ((names.ROUTER_IPV4, self.addresses.ipv4), (names.ROUTER_IPV6, self.addresses.ipv6))
        return frozenset(
            links.Neighbour(index, router, names.ROUTER_MAC)
            for router, own in both
            if own is not None
        )


@dataclass(frozen=True)
class Present:
    """What the gateway port has."""

    link: links.Link
    addresses: frozenset[tuple[links.Address, int]]
    routes: frozenset[links.Route]
    neighbours: frozenset[links.Neighbour]


def read(netlink: Netlink) -> Present | None:
    """The gateway port as it is, or None if there is none yet."""
    for link in links.links(netlink):
        if link.name == names.GATEWAY_PORT:
            index = link.index
            break
    else:
        return None
    return Present(
        link,
        frozenset(
            (a.address, a.prefix)
            for a in links.addresses(netlink)
            if a.index == index and not a.address.is_link_local
        ),
        frozenset(r for r in links.routes(netlink) if r.index == index and r.gateway is not None),
        frozenset(n for n in links.permanent_neighbours(netlink) if n.index == index),
    )


def reconcile(desired: Gateway, present: Present) -> list[Message]:
    """The messages that make the port what it must be; none if it is.

    Addresses and routes of another range that the node had before go.
    """
    link, index = present.link, present.link.index
    mac = desired.addresses.pod_mac
    addresses, routes = desired.wanted_addresses(), desired.wanted_routes(index)
    messages: list[Message] = []
    if (link.mac, link.mtu, link.up) != (mac, desired.mtu, True):
        messages.append(links.configure_link(index, mac, desired.mtu))
    messages += [links.delete_route(r) for r in _ordered(present.routes - routes)]
    messages += [links.delete_address(index, *a) for a in _ordered(present.addresses - addresses)]
    messages += [links.add_address(index, *a) for a in _ordered(addresses - present.addresses)]
    messages += [
        links.permanent_neighbour(index, n.address, n.mac)
        for n in _ordered(desired.wanted_neighbours(index) - present.neighbours)
    ]
    messages += [links.replace_route(r) for r in _ordered(routes - present.routes)]
    return messages


def _ordered(values: Iterable[object]) -> list:  # type: ignore[type-arg]
    return sorted(values, key=str)


def settings(desired: Gateway) -> dict[str, str]:
    """Kernel settings that the node needs to forward for its pods."""
    port = names.GATEWAY_PORT
    wanted = {
        f"ipv4/conf/{port}/send_redirects": "0",
        f"ipv6/conf/{port}/accept_ra": "0",
        f"ipv6/conf/{port}/accept_dad": "0",
    }
    if desired.addresses.ipv4 is not None:
        wanted[_FORWARDING[4]] = "1"
    if desired.addresses.ipv6 is not None:
        wanted[_FORWARDING[6]] = "1"
    return wanted


def apply_settings(wanted: dict[str, str]) -> list[str]:
    """Write the settings that differ; returns their names.

    Where the kernel takes router advertisements only as long as it does not forward (accept_ra=1),
    they are kept on, or turning forwarding on would cost the node its own default route.

    Raises:
        OSError: one cannot be written.
    """
    changed = []
    for name, value in wanted.items():
        try:
            present = netns.read_sysctl(name)
        except FileNotFoundError:
            if name.startswith("ipv6/") and "forwarding" not in name:
                continue
            raise
        if present != value:
            if name == _FORWARDING[6]:
                changed += _keep_accepting_advertisements()
            netns.write_sysctl(name, value)
            changed.append(name)
    return changed


def _keep_accepting_advertisements() -> list[str]:
    changed = []
    with Netlink() as netlink:
        devices = [link.name for link in links.links(netlink)]
    for device in devices:
        name = f"ipv6/conf/{device}/accept_ra"
        try:
            if device != names.GATEWAY_PORT and netns.read_sysctl(name) == "1":
                netns.write_sysctl(name, "2")
                changed.append(name)
        except OSError:
            # Gone meanwhile, or a link without IPv6.
            continue
    return changed
