"""The node's own leg in the pod network: addresses, routes, rules and neighbours of `ovsnet-gw0`.

The node reaches every pod and every service through one next hop, the virtual router, whose MAC is
fixed: so there is one route per range of pods or services and no neighbour discovery. The source
address of what the node sends there is its gateway address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from ovsnet import names
from ovsnet.cni import links, netns, routing, wayback
from ovsnet.cni.netlink import Message, Netlink
from ovsnet.cni.ranges import Addresses, collapsed

_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}


class RouteTaken(Exception):  # noqa: N818  a state of the node, not a programming error
    """A range is the network of another device of the node, which a route would take from it."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        super().__init__(
            f"{network}, of cluster_cidrs, services or external, is the network of another device"
            " of this node, which a route into the pod network would cut off"
        )


@dataclass(frozen=True)
class Gateway:
    """What the gateway port must have. `cluster` are the pods' ranges, `services` the services'."""

    addresses: Addresses
    cluster: tuple[IPv4Network | IPv6Network, ...]
    services: tuple[IPv4Network | IPv6Network, ...]
    mtu: int

    def _ways(self) -> dict[int, tuple[links.Address, links.Address]]:
        """The router and the node's own address, of each IP version that the node has."""
        both = ((names.ROUTER_IPV4, self.addresses.ipv4), (names.ROUTER_IPV6, self.addresses.ipv6))
        return {router.version: (router, own) for router, own in both if own is not None}

    def wanted_addresses(self) -> frozenset[tuple[links.Address, int]]:
        """The addresses with their prefix lengths."""
        return frozenset((own, own.max_prefixlen) for _, own in self._ways().values())

    def wanted_routes(self, index: int) -> frozenset[routing.Route]:
        """One route per range of pods or services, and one for all that goes back to its clients;
        of the IP versions that the node has.
        """
        ways = self._ways()
        return frozenset(
            routing.Route(net.network_address, net.prefixlen, index, *ways[net.version])
            for net in collapsed((*self.cluster, *self.services))
            if net.version in ways
        ) | frozenset(wayback.route(index, router) for router, _ in ways.values())

    def wanted_rules(self) -> frozenset[routing.Rule]:
        """What sends answers back to clients through the switch; see `wayback`."""
        return frozenset(wayback.rules(self._ways()))

    def wanted_neighbours(self, index: int) -> frozenset[links.Neighbour]:
        """The virtual router's MAC, for good."""
        return frozenset(
            links.Neighbour(index, router, names.ROUTER_MAC) for router, _ in self._ways().values()
        )


@dataclass(frozen=True)
class Present:
    """What the gateway port has."""

    link: links.Link
    addresses: frozenset[tuple[links.Address, int]]
    routes: frozenset[routing.Route]
    neighbours: frozenset[links.Neighbour]
    rules: frozenset[routing.Rule]
    connected: frozenset[IPv4Network | IPv6Network] = frozenset()
    """The networks of the node's other devices."""


def read(netlink: Netlink) -> Present | None:
    """The gateway port as it is, or None if there is none yet."""
    for link in links.links(netlink):
        if link.name == names.GATEWAY_PORT:
            index = link.index
            break
    else:
        return None
    routes = tuple(routing.routes(netlink, (routing.MAIN_TABLE, wayback.TABLE)))
    return Present(
        link,
        frozenset(
            (a.address, a.prefix)
            for a in links.addresses(netlink)
            if a.index == index and not a.address.is_link_local
        ),
        frozenset(r for r in routes if r.index == index and r.gateway is not None),
        frozenset(n for n in links.permanent_neighbours(netlink) if n.index == index),
        frozenset(routing.rules(netlink, wayback.TABLE)),
        frozenset(
            ip_network((r.destination, r.prefix))
            for r in routes
            if r.table == routing.MAIN_TABLE and r.index != index and r.gateway is None
        ),
    )


def reconcile(desired: Gateway, present: Present) -> list[Message]:
    """The messages that make the port what it must be; none if it is.

    Addresses and routes of another range that the node had before go.

    Raises:
        RouteTaken: a new route would take the place of another device's.
    """
    link, index = present.link, present.link.index
    mac = desired.addresses.pod_mac
    addresses, routes = desired.wanted_addresses(), desired.wanted_routes(index)
    rules = desired.wanted_rules()
    for route in _ordered(routes - present.routes):
        network = ip_network((route.destination, route.prefix))
        if route.table == routing.MAIN_TABLE and network in present.connected:
            raise RouteTaken(network)
    messages: list[Message] = []
    if (link.mac, link.mtu, link.up) != (mac, desired.mtu, True):
        messages.append(links.configure_link(index, mac, desired.mtu))
    messages += [routing.delete_rule(r) for r in _ordered(present.rules - rules)]
    messages += [routing.delete_route(r) for r in _ordered(present.routes - routes)]
    messages += [links.delete_address(index, *a) for a in _ordered(present.addresses - addresses)]
    messages += [links.add_address(index, *a) for a in _ordered(addresses - present.addresses)]
    messages += [
        links.permanent_neighbour(index, n.address, n.mac)
        for n in _ordered(desired.wanted_neighbours(index) - present.neighbours)
    ]
    messages += [routing.replace_route(r) for r in _ordered(routes - present.routes)]
    # Last, when there is a route for what they send into the table.
    messages += [routing.add_rule(r) for r in _ordered(rules - present.rules)]
    return messages


def _ordered(values: Iterable[object]) -> list:  # type: ignore[type-arg]
    return sorted(values, key=str)


def settings(desired: Gateway) -> dict[str, str]:
    """Kernel settings that the node needs to forward for its pods.

    rp_filter: clients of services come by the gateway port with addresses that the node would
    answer elsewhere. The higher one of a device's value and that of `all` counts, so 2 (loose)
    makes up for an `all` of 1, which 0 would not.

    accept_local: the ICMP messages by which the node refuses what it or somebody beyond it has sent
    come back from the switch with the node's own address. The packet filter drops all others.
    """
    port = names.GATEWAY_PORT
    wanted = {
        f"ipv4/conf/{port}/send_redirects": "0",
        f"ipv6/conf/{port}/accept_ra": "0",
        f"ipv6/conf/{port}/accept_dad": "0",
    }
    if desired.addresses.ipv4 is not None:
        wanted[f"ipv4/conf/{port}/rp_filter"] = "2"
        wanted[f"ipv4/conf/{port}/accept_local"] = "1"
        wanted[_FORWARDING[4]] = "1"
    if desired.addresses.ipv6 is not None:
        wanted[_FORWARDING[6]] = "1"
    return wanted


Note = Callable[[str, str, str], None]
"""Is told of a setting before it is changed: its name, its value, and the one that it gets."""


def apply_settings(wanted: dict[str, str], note: Note) -> list[str]:
    """Write the settings that differ; returns their names. `note` is not told of those of the
    gateway's port, which end with it.

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
                changed += _keep_accepting_advertisements(note)
            if names.GATEWAY_PORT not in name:
                note(name, present, value)
            netns.write_sysctl(name, value)
            changed.append(name)
    return changed


def _keep_accepting_advertisements(note: Note) -> list[str]:
    changed = []
    with Netlink() as netlink:
        devices = [link.name for link in links.links(netlink)]
    for device in devices:
        name = f"ipv6/conf/{device}/accept_ra"
        try:
            if device != names.GATEWAY_PORT and netns.read_sysctl(name) == "1":
                note(name, "1", "2")
                netns.write_sysctl(name, "2")
                changed.append(name)
        except OSError:
            # Gone meanwhile, or a link without IPv6.
            continue
    return changed
