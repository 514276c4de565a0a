"""Names that two sides must compute alike: port names, MAC addresses, datapath ids, tables.

The agent and the controller never talk about a pod. The agent names the pod's port and gives it
a MAC by the rules here; OpenFlow's PortStatus carries both to the controller, which computes the
same from the API's objects. A change of a rule here is a change of the protocol between them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

BRIDGE = "br-int"
"""The integration bridge, one per node, to which every pod is attached."""

GATEWAY_PORT = "ovsnet-gw0"
"""Internal port of the bridge through which a node and its pods reach each other."""

TUNNEL_PORT = "ovsnet-tun0"
"""The one flow-based tunnel port of a node."""

RESERVED_PORTS = frozenset({BRIDGE, GATEWAY_PORT, TUNNEL_PORT})
"""Ports of the bridge that belong to the network itself and never to a pod."""

_LAST_PORT = 65535

IFNAMSIZ = 15
"""Most characters that Linux allows in an interface name (IFNAMSIZ less its NUL)."""

PORT_NAME_VARIANTS = 4
"""How many names a pod's port may have; see `port_name`."""

ROUTER_MAC = "0e:58:a9:fe:01:01"
"""MAC of the virtual router that every pod and every node's gateway port sends to."""

ROUTER_IPV4 = IPv4Address("169.254.1.1")
"""Next hop of a node's own routes to pods; only ever seen in its neighbour table."""

ROUTER_IPV6 = IPv6Address("fe80::c58:a9ff:fefe:101")
"""The same for IPv6: the link-local address that belongs to `ROUTER_MAC`."""

GATEWAY_OFPORT = 1
"""OpenFlow port number that the agent requests for `GATEWAY_PORT`."""

TUNNEL_OFPORT = 2
"""OpenFlow port number that the agent requests for `TUNNEL_PORT`."""

TUNNEL_UDP_PORTS = {"vxlan": 4789, "geneve": 6081}
"""The UDP port of each sort of tunnel, as IANA has registered them (RFC 7348, RFC 8926)."""

POLICY_ZONE = 0xFFF0
"""Connection tracking zone of all traffic, as policies see it; the zones are high, so that they
meet no other user of zones.
"""

SERVICE_ZONE = 0xFFF1
"""Connection tracking zone that translates services' addresses."""

SOURCE_ZONE = 0xFFF2
"""Connection tracking zone that translates the sources of some services' connections."""

CONTROLLER_HOST = "ovsnet-controller"
"""The host name in every controller's certificate, whatever address it is reached at."""

AUDIENCE = "ovsnet-controller"
"""For whom the token is made by which an agent proves to a controller who it is."""

AUTHORITY = "ovsnet-ca"
"""Name of the Secret that keeps the certificate authorities, and of the ConfigMap for everybody."""

AUTHORITY_KEY = "ca.crt"
"""Key of that ConfigMap under which the certificates to be trusted are."""

REFUSER_MAC = "0e:58:a9:fe:01:02"
"""Source MAC of packets that the pod network hands to its node to be refused: the node answers
them with a TCP reset or "port unreachable".
"""

TUNNEL_KEY = 1
"""Virtual network identifier of packets in the direction in which their connections began."""

TUNNEL_REPLY_KEY = 2
"""Virtual network identifier of replies, as the node that sends them sees it."""

GATEWAY_OFFSET = 1
"""Host offset of the gateway's address in each of a node's pod ranges."""

SERVICE_OFFSET = 2
"""Host offset of the service address in each of a node's pod ranges. No interface has it: services'
connections seem to come from there whose true source would not lead the answers back through the
switch.
"""

NODE_PORT_OFFSET = -1
"""Host offset of the node port address in each of a node's pod ranges: the last one. No interface
has it: the node sends there what comes for its node ports. It is another one than the service
address, or an answer to that could be taken for a call of a node port.
"""

FIRST_POD_OFFSET = SERVICE_OFFSET + 1
"""The lowest host offset that a pod may have."""

PortRange: TypeAlias = tuple[int, int]
"""A first and a last port."""

NODE_PORTS: PortRange = (30000, 32767)
"""First and last port that Kubernetes keeps for node ports unless it is told otherwise."""


def port_range(text: str) -> PortRange:
    """A range as it is written in options: FIRST-LAST, as in 30000-32767.

    Raises:
        ValueError: it is none.
    """
    first, separator, last = text.partition("-")
    numeric = all(part.isascii() and part.isdecimal() for part in (first, last))
    if not separator or not numeric or not 1 <= int(first) <= int(last) <= _LAST_PORT:
        raise ValueError(f"{text!r}; expected FIRST-LAST, as in 30000-32767")
    return int(first), int(last)


def port_range_text(ports: PortRange) -> str:
    """A range as `port_range` reads it."""
    return f"{ports[0]}-{ports[1]}"


HEALTHY_PORT = 9097
"""TCP port of the gateway's address where the agent answers health checks of services that have
an endpoint on the node (`healthCheckNodePort`).
"""

UNHEALTHY_PORT = 9098
"""The same for services that have none there."""


class Table(IntEnum):
    """The tables of `br-int`, in the order in which packets pass them.

    Their numbers follow the order and are written nowhere else. The agent writes their names to
    the switch's OVSDB, so that `ovs-ofctl --names` prints and accepts them.
    """

    purpose: str

    def __new__(cls, purpose: str) -> Table:
        """Number the tables from 0 in the order of their definition."""
        number = len(cls.__members__)
        table = int.__new__(cls, number)
        table._value_ = number
        table.purpose = purpose
        return table

    CLASSIFY = "where the packet came from: a pod, the tunnel or the node; unknown ports end here"
    SPOOF_GUARD = "nobody speaks with addresses that are not theirs"
    NEIGHBOUR = "answers ARP and neighbour discovery for the gateway"
    NODE_PORT = "whether the packet is for the node itself, whose node ports are services"
    SERVICE = "finds the service that the packet's destination belongs to"
    SERVICE_STATE = "connections that have an endpoint go on to it; all others get one"
    AFFINITY = "which endpoint a client had last; the switch itself writes here, and forgets"
    STICKY = "gives a client the endpoint that it had, if there still is one"
    BALANCE = "how many endpoints a service has for this node; refuses where there is none"
    SPREAD = "turns a hash of the connection into the number of one of so many endpoints"
    ENDPOINT = "translates the destination to the chosen endpoint"
    SOURCE_NAT = "translates the source where the answers would go astray otherwise"
    CONNTRACK = "sends the packet through the connection tracker"
    CONNTRACK_STATE = "drops invalid packets; all others know their connection from here on"
    EGRESS_ISOLATION = "NetworkPolicy: whether a policy isolates the pod that began the connection"
    EGRESS_POLICY = "NetworkPolicy: the connections that an isolated pod may begin"
    EGRESS_DEFAULT = "drops the connections that isolated pods began and no policy allows"
    INGRESS_ISOLATION = "NetworkPolicy: whether a policy isolates the pod that was called"
    INGRESS_POLICY = "NetworkPolicy: the connections that an isolated pod takes"
    INGRESS_DEFAULT = "drops the connections to isolated pods that no policy allows"
    COMMIT = "commits new connections, which both policies have admitted by now"
    ANSWER = "answers of services: undoes the translation of the source"
    ANSWER_SERVICE = "answers of services: undoes the translation of the destination"
    ROUTE = "chooses the way out: a local pod, another node, the node itself"
    OUTPUT = "sends the packet out of the chosen port"
    STAMP = "no packet comes here: its one flow carries the digest of all the others"

    @property
    def text(self) -> str:
        """The name as the switch and its operators know it."""
        return self.name.lower()


_POD_SIDE = 0x0A58
_HOST_SIDE = 0x0E58
_PREFIX_LENGTH = 6
_HASH_LENGTH = 8
_HASH_OCTETS = PORT_NAME_VARIANTS * _HASH_LENGTH * 5 // 8
_NOT_IN_A_PORT_NAME = re.compile(r"[^a-z0-9-]")


def port_name(namespace: str, name: str, uid: str, variant: int = 0) -> str:
    """Name of the host side of a pod's veth: a readable prefix, `-`, 8 characters of hash.

    The hash has 40 bits. Should the names of two pods of one node collide all the same, the
    controller refuses the port, and the agent's next attempt uses the next `variant`
    (0 to `PORT_NAME_VARIANTS` - 1), which has other bits of the hash.
    """
    return port_names(namespace, name, uid)[variant]


def port_names(namespace: str, name: str, uid: str) -> tuple[str, ...]:
    """Every name that a pod's port may have, most likely first."""
    # The 0 stood for the variant once; the ports of running pods are named with it.
    identity = "\0".join((namespace, name, uid, "0")).encode()
    octets = hashlib.sha256(identity).digest()[:_HASH_OCTETS]
    digest = base64.b32encode(octets).decode().lower()
    prefix = _NOT_IN_A_PORT_NAME.sub("-", name.lower())[:_PREFIX_LENGTH].rstrip("-")
    return tuple(
        f"{prefix}-{digest[start : start + _HASH_LENGTH]}"
        for start in range(0, len(digest), _HASH_LENGTH)
    )


def _mac(prefix: int, low: int) -> str:
    return ":".join(f"{b:02x}" for b in (prefix << 32 | low).to_bytes(6, "big"))


def pod_mac(ipv4: IPv4Address | int) -> str:
    """MAC of the pod's own side: `0a:58` and the IPv4 address.

    In an IPv6-only cluster the host offset stands where the IPv4 address would.
    """
    return _mac(_POD_SIDE, int(ipv4))


def host_mac(ipv4: IPv4Address | int) -> str:
    """MAC of the host side of a pod's veth: `0e:58` and the IPv4 address (or host offset)."""
    return _mac(_HOST_SIDE, int(ipv4))


def address_of_host_mac(mac: str) -> IPv4Address | None:
    """The IPv4 address that a host-side MAC carries, or None if it is no such MAC.

    In an IPv6-only cluster the value is the host offset, in the dress of an address.
    """
    parts = mac.split(":")
    if len(parts) != 6:
        return None
    value = int("".join(parts), 16)
    if value >> 32 != _HOST_SIDE:
        return None
    return IPv4Address(value & 0xFFFFFFFF)


def ipv6_for(ipv4: IPv4Address, range4: IPv4Network, range6: IPv6Network) -> IPv6Address:
    """The pod's IPv6 address: the host offset of its IPv4 address, in the node's IPv6 range."""
    return range6[int(ipv4) - int(range4.network_address)]


def link_local(mac: str) -> IPv6Address:
    """The link-local address that a MAC yields by modified EUI-64 (RFC 4291, appendix A)."""
    octets = bytes(int(p, 16) for p in mac.split(":"))
    eui = bytes([octets[0] ^ 0x02]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + eui)


def datapath_id(node: str) -> int:
    """The 64-bit datapath id of a node's bridge: a hash of the node's name, never zero."""
    return int.from_bytes(hashlib.sha256(node.encode()).digest()[:8], "big") or 1


_NODE_URI = "urn:ovsnet:node:"


def node_uri(node: str) -> str:
    """What names a node in its certificate: the one alternative name of its subject, a URI."""
    return f"{_NODE_URI}{node}"


def node_of_uri(uri: str) -> str | None:
    """The node that a certificate's URI names, or None if it names none."""
    return uri.removeprefix(_NODE_URI) or None if uri.startswith(_NODE_URI) else None
