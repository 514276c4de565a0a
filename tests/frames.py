"""Ethernet frames byte by byte, honest and otherwise, with checksums as they must be.

RFC 791 (IPv4), 8200 (IPv6), 768 (UDP), 9293 (TCP), 792 and 4443 (ICMP), 826 (ARP), 4861 (ND),
7348 (VXLAN), 8926 (Geneve).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
BROADCAST = "ff:ff:ff:ff:ff:ff"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MORE_FRAGMENTS = 0x2000


class Ends(NamedTuple):
    """Who speaks to whom in a packet; the ports of a protocol without ports are 0."""

    protocol: int
    source: IPv4Address | IPv6Address
    source_port: int
    target: IPv4Address | IPv6Address
    target_port: int

    @property
    def reversed(self) -> Ends:
        """Those of the answer."""
        protocol, source, source_port, target, target_port = self
        return Ends(protocol, target, target_port, source, source_port)


def ends(frame: bytes) -> Ends | None:
    """The ends of the IP packet in a frame, None if there is none. No IPv6 extension headers."""
    kind, packet = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == IPV4 and len(packet) >= 20:
        protocol, source, target = packet[9], packet[12:16], packet[16:20]
        payload = packet[4 * (packet[0] & 15) :]
    elif kind == IPV6 and len(packet) >= 40:
        protocol, source, target = packet[6], packet[8:24], packet[24:40]
        payload = packet[40:]
    else:
        return None
    ports = (0, 0)
    if protocol in (TCP, UDP, SCTP) and len(payload) >= 4:
        ports = struct.unpack_from("!HH", payload)
    return Ends(protocol, ip_address(source), ports[0], ip_address(target), ports[1])


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def packed(address: object) -> bytes:
    return ip_address(str(address)).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pseudo(source: object, target: object, protocol: int, length: int) -> bytes:
    if ip_address(str(source)).version == 4:
        return packed(source) + packed(target) + struct.pack("!BBH", 0, protocol, length)
    return packed(source) + packed(target) + struct.pack("!I3xB", length, protocol)


def ethernet(target: str, source: str, kind: int, payload: bytes) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", kind) + payload


def ip(
    source: object,
    target: object,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    identity: int = 0,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """A packet of the family of its addresses; `fragment` is IPv4's flags and offset."""
    if ip_address(str(source)).version == 6:
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl)
        return header + packed(source) + packed(target) + payload
    words = 5 + len(options) // 4
    length = 4 * words + len(payload)
    head = struct.pack("!BBHHHBB", 0x40 | words, 0, length, identity, fragment, ttl, protocol)
    tail = packed(source) + packed(target) + options
    return head + struct.pack("!H", checksum(head + b"\0\0" + tail)) + tail + payload


def udp(
    source: object,
    target: object,
    payload: bytes,
    sport: int = 40000,
    dport: int = 9,
    wrong: int = 0,
) -> bytes:
    """A datagram; its checksum is off by `wrong`."""
    length = 8 + len(payload)
    header = struct.pack("!HHH", sport, dport, length)
    data = _pseudo(source, target, UDP, length) + header + b"\0\0" + payload
    return header + struct.pack("!H", ((checksum(data) or 0xFFFF) + wrong) & 0xFFFF) + payload


def tcp(
    source: object,
    target: object,
    payload: bytes,
    flags: int,
    sport: int = 40001,
    dport: int = 80,
    wrong: int = 0,
) -> bytes:
    """A segment; its checksum is off by `wrong`."""
    header = struct.pack("!HHIIBBH", sport, dport, 1000, 2000, 5 << 4, flags, 512)
    data = _pseudo(source, target, TCP, 20 + len(payload)) + header + b"\0\0\0\0" + payload
    return header + struct.pack("!HH", (checksum(data) + wrong) & 0xFFFF, 0) + payload


def icmp(source: object, target: object, kind: int, code: int, body: bytes) -> bytes:
    """A message of the family of its addresses, with its checksum."""
    header = struct.pack("!BB", kind, code)
    prefix = b""
    if ip_address(str(source)).version == 6:
        prefix = _pseudo(source, target, ICMPV6, 4 + len(body))
    return header + struct.pack("!H", checksum(prefix + header + b"\0\0" + body)) + body


def echo(source: object, target: object, payload: bytes) -> bytes:
    """An echo request."""
    kind = 8 if ip_address(str(source)).version == 4 else 128
    return icmp(source, target, kind, 0, struct.pack("!HH", 7, 1) + payload)


def arp(
    operation: int,
    sender_mac: str,
    sender: object,
    target: object,
    trailer: bytes = b"",
    target_mac: str = "00:00:00:00:00:00",
) -> bytes:
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + mac(sender_mac) + packed(sender) + mac(target_mac) + packed(target) + trailer


def option(kind: int, body: bytes) -> bytes:
    """An option of neighbour discovery, its length in units of 8 octets."""
    padding = b"\0" * (-(2 + len(body)) % 8)
    return struct.pack("!BB", kind, (2 + len(body) + len(padding)) // 8) + body + padding


SOURCE_MAC, TARGET_MAC, EXPERIMENT = 1, 2, 253


def solicitation(
    source: object, target: object, wanted: object, source_mac: str, mark: bytes
) -> bytes:
    """A packet that asks who has `wanted`."""
    body = bytes(4) + packed(wanted) + option(SOURCE_MAC, mac(source_mac))
    return _discovery(source, target, 135, body, mark)


def advertisement(
    source: object, target: object, claimed: object, target_mac: str, mark: bytes
) -> bytes:
    """A packet that says who has `claimed`: override and solicited are set."""
    body = struct.pack("!I", 0x60000000) + packed(claimed) + option(TARGET_MAC, mac(target_mac))
    return _discovery(source, target, 136, body, mark)


def router_advertisement(source: object, target: object, source_mac: str, mark: bytes) -> bytes:
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + option(SOURCE_MAC, mac(source_mac))
    return _discovery(source, target, 134, body, mark)


def redirect(source: object, target: object, better: object, about: object, mark: bytes) -> bytes:
    return _discovery(source, target, 137, bytes(4) + packed(better) + packed(about), mark)


def _discovery(source: object, target: object, kind: int, body: bytes, mark: bytes) -> bytes:
    message = icmp(source, target, kind, 0, body + option(EXPERIMENT, mark))
    return ip(source, target, ICMPV6, message, ttl=255)


def wrapped(tunnel: str, network: int, inner: bytes) -> bytes:
    """A frame as a tunnel carries it in UDP: `vxlan` or `geneve`, without options."""
    if tunnel == "geneve":
        return struct.pack("!HHI", 0, _TRANSPARENT_BRIDGING, network << 8) + inner
    return struct.pack("!BxxxI", 0x08, network << 8) + inner


_TRANSPARENT_BRIDGING = 0x6558
