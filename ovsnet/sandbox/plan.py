"""Who has which address in a sandbox, and the commands that give it to them. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from ovsnet.sandbox.layout import CONTROL, FABRIC, OUTSIDE, node_names

UNDERLAY4 = IPv4Network("172.18.0.0/24")
UNDERLAY6 = IPv6Network("fd00:172:18::/64")
OUTSIDE4 = IPv4Network("203.0.113.0/24")
OUTSIDE6 = IPv6Network("2001:db8:0:113::/64")
POD_CIDRS = ("10.244.0.0/16", "fd00:10:244::/56")
SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")
EXTERNAL_CIDRS = ("198.51.100.0/24", "2001:db8:0:198::/64")
"""For addresses of load balancers and external ones. No node has them: the router sends what is for
them to one node, as a router does that a load balancer has told to.
"""

API_PORT = 6443
"""Of the API server, on the control host."""

MTU = 1500
"""Bytes of an IP packet that the fabric carries."""

UPLINK = "ovsnet-uplink"
"""The interface that leads from a namespace to the fabric."""

UNDERLAY_BRIDGE = "br-phy"
"""With the userspace datapath: the bridge that contains the uplink and has its addresses."""

MAX_NODES = 64

_FABRIC_BRIDGE = "ovsnet-fabric"
_OUTSIDE_PORT = "ovsnet-outside"
_ROUTER_OFFSET = 1
_CONTROL_OFFSET = 2
_FIRST_NODE_OFFSET = 11
_OUTSIDE_OFFSET = 10


class Host(msgspec.Struct, frozen=True):
    """A namespace on the fabric and its two addresses."""

    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address


class Plan(msgspec.Struct, frozen=True):
    """The hosts of a sandbox."""

    nodes: tuple[Host, ...]
    control: Host
    outside: Host


def plan(nodes: int) -> Plan:
    """The addresses of a sandbox of so many nodes.

    Raises:
        ValueError: there must be at least one node, and `MAX_NODES` at most.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise ValueError(f"a sandbox has 1 to {MAX_NODES} nodes, not {nodes}")
    return Plan(
        nodes=tuple(
            Host(name, UNDERLAY4[offset], UNDERLAY6[offset])
            for offset, name in enumerate(node_names(nodes), _FIRST_NODE_OFFSET)
        ),
        control=Host(CONTROL, UNDERLAY4[_CONTROL_OFFSET], UNDERLAY6[_CONTROL_OFFSET]),
        outside=Host(OUTSIDE, OUTSIDE4[_OUTSIDE_OFFSET], OUTSIDE6[_OUTSIDE_OFFSET]),
    )


def _address(
    interface: str, ipv4: IPv4Address, ipv6: IPv6Address, lengths: tuple[int, int]
) -> list[str]:
    return [
        f"address replace {ipv4}/{lengths[0]} dev {interface}",
        # Without nodad the address could not be used for its first second.
        f"address replace {ipv6}/{lengths[1]} dev {interface} nodad",
    ]


_UNDERLAY_LENGTHS = (UNDERLAY4.prefixlen, UNDERLAY6.prefixlen)
_OUTSIDE_LENGTHS = (OUTSIDE4.prefixlen, OUTSIDE6.prefixlen)


def _veth(port: str, netns: str) -> list[str]:
    return [
        f"link add {port} mtu {MTU} type veth peer name {UPLINK} mtu {MTU} netns {netns}",
    ]


def fabric_port(name: str, prefix: str) -> list[str]:
    """Lines for `ip -batch` in the fabric's namespace: the veth to one host's namespace."""
    port = fabric_port_name(name)
    return [*_veth(port, f"{prefix}-{name}"), f"link set {port} master {_FABRIC_BRIDGE} up"]


def fabric_port_name(name: str) -> str:
    """The fabric's end of the link to a host."""
    return f"ovsnet-{name}"


def fabric_links(hosts: Plan, prefix: str) -> list[str]:
    """Lines for `ip -batch` in the fabric's namespace: bridge, router, a veth to every host.

    The router knows the underlay, the outside and, behind the first node, the external addresses.
    It knows no pod range: a packet that leaves a node with a pod's own address gets no answer, so a
    masquerade that fails cannot go unnoticed.
    """
    lines = [
        f"link add {_FABRIC_BRIDGE} mtu {MTU} type bridge forward_delay 0 mcast_snooping 0",
    ]
    for host in (hosts.control, *hosts.nodes):
        lines += fabric_port(host.name, prefix)
    lines += _veth(_OUTSIDE_PORT, f"{prefix}-{OUTSIDE}")
    lines += _address(
        _FABRIC_BRIDGE, UNDERLAY4[_ROUTER_OFFSET], UNDERLAY6[_ROUTER_OFFSET], _UNDERLAY_LENGTHS
    )
    lines += _address(
        _OUTSIDE_PORT, OUTSIDE4[_ROUTER_OFFSET], OUTSIDE6[_ROUTER_OFFSET], _OUTSIDE_LENGTHS
    )
    lines += [f"link set {_FABRIC_BRIDGE} up", f"link set {_OUTSIDE_PORT} up"]
    balancer = hosts.nodes[0]
    return [
        *lines,
        *(
            f"route replace {cidr} via {via}"
            for cidr, via in zip(EXTERNAL_CIDRS, (balancer.ipv4, balancer.ipv6), strict=True)
        ),
    ]


def _host_links(host: Host, interface: str, networks: tuple[IPv4Network, IPv6Network]) -> list[str]:
    lengths = (networks[0].prefixlen, networks[1].prefixlen)
    return [
        *_address(interface, host.ipv4, host.ipv6, lengths),
        f"link set {interface} up",
        f"route replace default via {networks[0][_ROUTER_OFFSET]}",
        f"route replace default via {networks[1][_ROUTER_OFFSET]}",
    ]


def control_links(hosts: Plan) -> list[str]:
    """Lines for `ip -batch` in the control namespace."""
    return _host_links(hosts.control, UPLINK, (UNDERLAY4, UNDERLAY6))


def outside_links(hosts: Plan) -> list[str]:
    """Lines for `ip -batch` in the outside namespace."""
    return _host_links(hosts.outside, UPLINK, (OUTSIDE4, OUTSIDE6))


def node_links(host: Host, userspace: bool) -> list[str]:
    """Lines for `ip -batch` in a node's namespace, once its underlay bridge is there.

    With the userspace datapath the addresses are the bridge's, because Open vSwitch sends the
    tunnel's packets itself and takes the way through a bridge of its own.
    """
    return _host_links(host, UNDERLAY_BRIDGE if userspace else UPLINK, (UNDERLAY4, UNDERLAY6))


def underlay_bridge(userspace: bool) -> list[str]:
    """Arguments for ovs-vsctl that make a node's underlay bridge; none where there is none."""
    if not userspace:
        return []
    return [
        *("--may-exist", "add-br", UNDERLAY_BRIDGE, "--"),
        *("set", "Bridge", UNDERLAY_BRIDGE, "datapath_type=netdev", "fail_mode=standalone", "--"),
        *("--may-exist", "add-port", UNDERLAY_BRIDGE, UPLINK),
    ]


def namespaces(hosts: Plan) -> tuple[str, ...]:
    """The names of all namespaces that a sandbox starts with."""
    return (FABRIC, CONTROL, OUTSIDE, *(host.name for host in hosts.nodes))


HOST_SETTINGS = {
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}
"""What every namespace of the sandbox has in /proc/sys: addresses usable at once, no surprises."""

ROUTER_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
}
"""What the fabric's router, and a node as Kubernetes demands it, have besides."""
