"""The pod's side of its pair: addresses, routes, neighbours, settings, in its own namespace."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

from ovsnet.cni import links, netns, routing
from ovsnet.cni.netlink import Message, Netlink
from ovsnet.cni.probe import Probe
from ovsnet.cni.ranges import Addresses
from ovsnet.cni.shaping import Limit, limit_sender
from ovsnet.names import ROUTER_MAC

_LOOPBACK_INDEX = 1
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_ANY4, _ANY6 = IPv4Address(0), IPv6Address(0)


def has_interface(namespace: int, ifname: str) -> bool:
    """True if the namespace has an interface of that name.

    Raises:
        NotANamespace: `namespace` is some other file.
    """
    with netns.entered(namespace):
        try:
            socket.if_nametoindex(ifname)
        except OSError:
            return False
        return True


def configure(
    namespace: int,
    ifname: str,
    addresses: Addresses,
    *,
    userspace: bool,
    limit: Limit | None = None,
) -> Probe:
    """Configure the pod's interface, bring it up, and return the probe that asks through it.

    `limit` is that of what the pod sends.

    Raises:
        NetlinkError, OSError: something was refused.
    """
    with netns.entered(namespace):
        index = socket.if_nametoindex(ifname)
        _settings(ifname, with_ipv6=addresses.ipv6 is not None)
        if userspace:
            complete_checksums(ifname)
        with Netlink() as netlink:
            if limit is not None:
                netlink.run([limit_sender(index, limit)])
            netlink.run(_messages(index, addresses))
        return Probe(ifname, addresses)


def _messages(index: int, addresses: Addresses) -> list[Message]:
    messages = [
        links.set_up(_LOOPBACK_INDEX),
        # The link-local address is to be the one that belongs to the MAC: flows expect it. (The
        # sysctl of the same purpose spins in the kernel while others hold its lock for links:
        # with 32 pods at once it took 10 ms of processor time a pod.)
        links.set_address_mode(index, links.ADDRESSES_FROM_MAC),
        links.set_up(index),
    ]
    messages += [links.add_address(index, a, p) for a, p in wanted_addresses(addresses)]
    messages += [
        links.permanent_neighbour(index, n.address, n.mac)
        for n in wanted_neighbours(index, addresses)
    ]
    messages += [routing.replace_route(route) for route in wanted_routes(index, addresses)]
    return messages


def wanted_addresses(addresses: Addresses) -> list[tuple[links.Address, int]]:
    """The addresses, each with its prefix length, that the pod's interface has."""
    both = ((addresses.ipv4, 32), (addresses.ipv6, 128))
    return [(a, length) for a, length in both if a is not None]


def wanted_neighbours(index: int, addresses: Addresses) -> list[links.Neighbour]:
    """The gateways' MAC, for good: a pod never has to ask for it.

    By IPv6 it would get no answer that the kernel believes, as the kernel's datapath cannot make
    one (`flows.node.answer_solicitation`). By IPv4 ovs-vswitchd itself would have to answer, and
    with it pods would lose their gateway whenever it is not there.
    """
    both = (addresses.gateway4, addresses.gateway6)
    return [links.Neighbour(index, g, ROUTER_MAC) for g in both if g is not None]


def wanted_routes(index: int, addresses: Addresses) -> list[routing.Route]:
    """The pod's routes: to the gateway on the link, and to everything else through it."""
    both = ((_ANY4, addresses.gateway4, 32), (_ANY6, addresses.gateway6, 128))
    return [
        route
        for everything, gateway, length in both
        if gateway is not None
        for route in (
            routing.Route(gateway, length, index),
            routing.Route(everything, 0, index, gateway),
        )
    ]


def _settings(ifname: str, *, with_ipv6: bool) -> None:
    """Kernel settings of the interface, before it comes up and acts on them.

    No router advertisement is believed, and addresses work at once: nobody else can have them.
    """
    settings = {"accept_ra": "0", "accept_dad": "0"}
    if with_ipv6:
        settings = {"disable_ipv6": "0"} | settings
    # A kernel without IPv6 has none of these, which matters only to a pod with an IPv6 address.
    with contextlib.nullcontext() if with_ipv6 else contextlib.suppress(FileNotFoundError):
        for name, value in settings.items():
            setting = f"ipv6/conf/{ifname}/{name}"
            # Writing disable_ipv6 spins in the kernel while others hold its lock for links.
            if netns.read_sysctl(setting) != value:
                netns.write_sysctl(setting, value)


def complete_checksums(ifname: str) -> None:
    """Make the sender complete checksums (ethtool --offload … tx off).

    The userspace datapath hands on packets as they are, and connection tracking there calls one
    with an unfinished checksum invalid.
    """
    value = array.array("I", [_ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP16x", ifname.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
