"""Links, addresses and neighbours as netlink messages, and as what the kernel reports.

The first half makes messages (see `netlink`), the second reads dumps. Numbers are those of
linux/if_link.h, if_addr.h and neighbour.h; `routing` has the routes.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

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
    split,
)

Address = IPv4Address | IPv6Address

_IFINFO = struct.Struct("=BxHiII")
_ANY = _IFINFO.pack(0, 0, 0, 0, 0)
_IFADDR = struct.Struct("=BBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWNEIGH, _GETNEIGH = 28, 30

_IFF_UP = 0x1
_IFF_NOARP = 0x80
_IFF_LOWER_UP = 0x10000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD = 26, 27, 28
_IFLA_INET6_ADDR_GEN_MODE = 8
ADDRESSES_FROM_MAC = 0
"""A link makes its link-local address of its MAC (IN6_ADDR_GEN_MODE_EUI64)."""
NO_ADDRESSES = 1
"""A link makes itself no IPv6 address (IN6_ADDR_GEN_MODE_NONE)."""
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_INFO_PEER = 1

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02

_NUD_PERMANENT = 0x80
_NDA_DST, _NDA_LLADDR = 1, 2


ENDPOINTS = int.from_bytes(b"ovsp")
"""Link group of the host sides of all pods' pairs."""

_CONDEMNED = int.from_bytes(b"ovsn")
"""Link group of those that are about to be deleted together."""


def mac_bytes(mac: str) -> bytes:
    """The six bytes of a MAC."""
    return bytes.fromhex(mac.replace(":", ""))


def _mac_text(data: bytes) -> str:
    return data.hex(":")


def family(address: Address) -> int:
    """The number of the address's family."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


@dataclass(frozen=True)
class Veth:
    """A pod's pair: the host side here, its peer directly in the pod's namespace."""

    port: str
    host_mac: str
    ifname: str
    pod_mac: str
    netns: int
    mtu: int


def create_veth(veth: Veth) -> list[Message]:
    """Make the pair with names, MACs and MTU, the peer in its namespace, the host side up.

    The host side is a switch port and nothing else: it gets no IPv6 address and answers no ARP.
    With the userspace datapath the node's own network stack sees what arrives there too, and
    would answer for the node's addresses, past every flow; see `packetfilter` for the rest of it.
    """
    peer = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + attribute_text(_IFLA_IFNAME, veth.ifname)
        + attribute(_IFLA_ADDRESS, mac_bytes(veth.pod_mac))
        + attribute_u32(_IFLA_MTU, veth.mtu)
        + attribute_u32(_IFLA_NET_NS_FD, veth.netns)
    )
    info = attribute_text(_INFO_KIND, "veth") + attribute(
        _INFO_DATA, attribute(_VETH_INFO_PEER, peer)
    )
    body = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + attribute_text(_IFLA_IFNAME, veth.port)
        + attribute(_IFLA_ADDRESS, mac_bytes(veth.host_mac))
        + attribute_u32(_IFLA_MTU, veth.mtu)
        + attribute_u32(_IFLA_GROUP, ENDPOINTS)
        + attribute(_IFLA_LINKINFO, info)
    )
    name = attribute_text(_IFLA_IFNAME, veth.port)
    silent = _IFINFO.pack(0, 0, 0, 0, 0) + name + _address_mode(NO_ADDRESSES)
    flags = _IFF_UP | _IFF_NOARP
    start = _IFINFO.pack(0, 0, 0, flags, flags) + name
    return [
        Message(_NEWLINK, CREATE | EXCLUSIVE, body, f"create veth {veth.port} - {veth.ifname}"),
        Message(_SETLINK, 0, silent, f"keep IPv6 off {veth.port}"),
        Message(_SETLINK, 0, start, f"bring {veth.port} up"),
    ]


def _address_mode(mode: int) -> bytes:
    ipv6 = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([mode]))
    return attribute(_IFLA_AF_SPEC, attribute(socket.AF_INET6, ipv6))


def set_address_mode(index: int, mode: int) -> Message:
    """How the link makes its IPv6 link-local address, to be said before it is brought up.

    A kernel without IPv6 does not know of it.
    """
    body = _IFINFO.pack(0, 0, index, 0, 0) + _address_mode(mode)
    unknown = frozenset({errno.EAFNOSUPPORT})
    return Message(_SETLINK, 0, body, f"set the address mode of link {index}", unknown)


def delete_link(name: str) -> Message:
    """Delete a link; of a veth pair both ends go. One that is gone already is no error."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute_text(_IFLA_IFNAME, name)
    return Message(_DELLINK, 0, body, f"delete link {name}", frozenset({errno.ENODEV}))


def delete_links(names: Sequence[str]) -> list[Message]:
    """Delete many links at once, which takes as long as deleting one (16 ms).

    The kernel deletes all links of a group in one go; put them in one first.
    """
    gone = frozenset({errno.ENODEV})
    group = attribute_u32(_IFLA_GROUP, _CONDEMNED)
    condemn = [
        Message(
            _SETLINK, 0, _ANY + attribute_text(_IFLA_IFNAME, name) + group, f"condemn {name}", gone
        )
        for name in names
    ]
    return [*condemn, delete_group(_CONDEMNED, ", ".join(names))]


def delete_group(group: int, purpose: str) -> Message:
    """Delete all links of a group. That there are none is no error. `purpose` names them."""
    body = _ANY + attribute_u32(_IFLA_GROUP, group)
    return Message(_DELLINK, 0, body, f"delete {purpose}", frozenset({errno.ENODEV}))


def set_up(index: int) -> Message:
    """Bring a link up."""
    return Message(_SETLINK, 0, _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP), f"bring {index} up")


def configure_link(index: int, mac: str, mtu: int) -> Message:
    """Give a link its MAC and MTU and bring it up."""
    body = (
        _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP)
        + attribute(_IFLA_ADDRESS, mac_bytes(mac))
        + attribute_u32(_IFLA_MTU, mtu)
    )
    return Message(_SETLINK, 0, body, f"set MAC {mac} and MTU {mtu} on link {index}")


def add_address(index: int, address: Address, prefix: int) -> Message:
    """Put an address on a link, without duplicate address detection."""
    body = (
        _IFADDR.pack(family(address), prefix, _IFA_F_NODAD, 0, index)
        + attribute(_IFA_LOCAL, address.packed)
        + attribute(_IFA_ADDRESS, address.packed)
    )
    return Message(_NEWADDR, CREATE | REPLACE, body, f"add address {address}/{prefix}")


def delete_address(index: int, address: Address, prefix: int) -> Message:
    """Take an address off a link. One that is gone already is no error."""
    body = _IFADDR.pack(family(address), prefix, 0, 0, index) + attribute(
        _IFA_LOCAL, address.packed
    )
    gone = frozenset({errno.EADDRNOTAVAIL})
    return Message(_DELADDR, 0, body, f"delete address {address}/{prefix}", gone)


def permanent_neighbour(index: int, address: Address, mac: str) -> Message:
    """A neighbour entry that never ages."""
    body = (
        _NDMSG.pack(family(address), index, _NUD_PERMANENT, 0, 0)
        + attribute(_NDA_DST, address.packed)
        + attribute(_NDA_LLADDR, mac_bytes(mac))
    )
    return Message(_NEWNEIGH, CREATE | REPLACE, body, f"add neighbour {address} at {mac}")


@dataclass(frozen=True)
class Link:
    """A link as the kernel reports it."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    kind: str
    carrier: bool = True
    """Something is at the other end; of a tap, the program whose it is."""


def links(netlink: Netlink) -> Iterator[Link]:
    """All links of the namespace."""
    for body in netlink.dump(_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0), "list links"):
        _, _, index, flags, _ = _IFINFO.unpack_from(body)
        a = attributes(body, _IFINFO.size)
        info = attributes(a.get(_IFLA_LINKINFO, b""))
        yield Link(
            index,
            a[_IFLA_IFNAME].rstrip(b"\0").decode(),
            _mac_text(a.get(_IFLA_ADDRESS, b"")),
            int.from_bytes(a.get(_IFLA_MTU, b""), "little"),
            bool(flags & _IFF_UP),
            info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
            bool(flags & _IFF_LOWER_UP),
        )


def named_in(data: bytes) -> frozenset[str]:
    """The names of the links that the kernel tells of, in what it sends to a group's members."""
    return frozenset(
        attributes(body, _IFINFO.size)[_IFLA_IFNAME].rstrip(b"\0").decode()
        for kind, _, _, body in split(data)
        if kind in {_NEWLINK, _DELLINK}
    )


@dataclass(frozen=True)
class LinkAddress:
    """An address on a link."""

    index: int
    address: Address
    prefix: int


def addresses(netlink: Netlink) -> Iterator[LinkAddress]:
    """All addresses of the namespace, both families."""
    for body in netlink.dump(_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0), "list addresses"):
        _, prefix, _, _, index = _IFADDR.unpack_from(body)
        a = attributes(body, _IFADDR.size)
        packed = a.get(_IFA_LOCAL) or a.get(_IFA_ADDRESS)
        if packed:
            yield LinkAddress(index, ip_address(packed), prefix)


@dataclass(frozen=True)
class Neighbour:
    """A permanent neighbour entry."""

    index: int
    address: Address
    mac: str


def permanent_neighbours(netlink: Netlink) -> Iterator[Neighbour]:
    """The permanent neighbour entries of the namespace, both families."""
    for body in netlink.dump(_GETNEIGH, _NDMSG.pack(0, 0, 0, 0, 0), "list neighbours"):
        _, index, state, _, _ = _NDMSG.unpack_from(body)
        a = attributes(body, _NDMSG.size)
        if state & _NUD_PERMANENT and _NDA_LLADDR in a and _NDA_DST in a:
            yield Neighbour(index, ip_address(a[_NDA_DST]), _mac_text(a[_NDA_LLADDR]))
