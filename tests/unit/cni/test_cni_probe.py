"""Questions and answers of the probe; os-ken's packet library is the independent reader."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st
from os_ken.lib.packet import arp, ethernet, icmpv6, ipv6, packet

from ovsnet.cni import probe
from ovsnet.names import ROUTER_MAC, pod_mac

MAC = bytes.fromhex("0a580a000005")
ROUTER = bytes.fromhex(ROUTER_MAC.replace(":", ""))
V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)


@given(V4, V4)
def test_the_arp_request(source: IPv4Address, target: IPv4Address):
    read = packet.Packet(probe.arp_request(MAC, source, target))
    eth, asked = read.get_protocol(ethernet.ethernet), read.get_protocol(arp.arp)
    assert (eth.dst, eth.src) == ("ff:ff:ff:ff:ff:ff", pod_mac(IPv4Address("10.0.0.5")))
    assert (asked.opcode, asked.src_ip, asked.dst_ip) == (1, str(source), str(target))
    assert asked.src_mac == eth.src


def arp_answer(mac: str, ip: str, opcode: int = 2) -> bytes:
    made = packet.Packet()
    made.add_protocol(ethernet.ethernet(pod_mac(5), mac, 0x0806))
    made.add_protocol(arp.arp(opcode=opcode, src_mac=mac, src_ip=ip, dst_ip="10.0.0.5"))
    made.serialize()
    return bytes(made.data)


def test_which_arp_answers_count():
    target = IPv4Address("10.0.0.1")
    assert probe.is_arp_reply(arp_answer(ROUTER_MAC, "10.0.0.1"), target)
    # The node's own stack, another pod that lies, another address, a question, a torn frame.
    assert not probe.is_arp_reply(arp_answer("0e:58:0a:00:00:05", "10.0.0.1"), target)
    assert not probe.is_arp_reply(arp_answer(ROUTER_MAC, "10.0.0.2"), target)
    assert not probe.is_arp_reply(arp_answer(ROUTER_MAC, "10.0.0.1", opcode=1), target)
    assert not probe.is_arp_reply(arp_answer(ROUTER_MAC, "10.0.0.1")[:40], target)


@given(V6, V6)
def test_the_neighbour_solicitation(source: IPv6Address, target: IPv6Address):
    frame = probe.neighbour_solicitation(MAC, source, target)
    read = packet.Packet(frame)
    ip, asked = read.get_protocol(ipv6.ipv6), read.get_protocol(icmpv6.icmpv6)
    assert (IPv6Address(ip.src), ip.hop_limit) == (source, 255)
    assert asked.type_ == icmpv6.ND_NEIGHBOR_SOLICIT
    assert IPv6Address(asked.data.dst) == target
    again = icmpv6.icmpv6(asked.type_, asked.code, 0, asked.data)
    assert again.serialize(bytearray(), ip)[2:4] == frame[56:58]


def advertisement(mac: str, target: str) -> bytes:
    made = packet.Packet()
    made.add_protocol(ethernet.ethernet(pod_mac(5), mac, 0x86DD))
    made.add_protocol(ipv6.ipv6(src=target, dst="fd00::5", nxt=58))
    option = icmpv6.nd_option_tla(hw_src=mac)
    data = icmpv6.nd_neighbor(res=6, dst=target, option=option)
    made.add_protocol(icmpv6.icmpv6(icmpv6.ND_NEIGHBOR_ADVERT, 0, 0, data))
    made.serialize()
    return bytes(made.data)


def test_which_advertisements_count():
    target = IPv6Address("fd00::1")
    assert probe.is_advertisement(advertisement(ROUTER_MAC, "fd00::1"), target)
    assert not probe.is_advertisement(advertisement(ROUTER_MAC, "fd00::2"), target)
    assert not probe.is_advertisement(advertisement("0e:58:0a:00:00:05", "fd00::1"), target)
    assert not probe.is_advertisement(probe.neighbour_solicitation(ROUTER, target, target), target)


@given(st.binary(max_size=120))
def test_anything_else_is_no_answer(frame: bytes):
    assert not probe.is_arp_reply(frame, IPv4Address("10.0.0.1"))
    assert not probe.is_advertisement(frame, IPv6Address("fd00::1"))


def test_questions_come_quickly_then_slowly():
    intervals = list(islice(probe.quickly_then_slowly(), 200))
    assert intervals == sorted(intervals)
    assert (intervals[0], intervals[-1]) == (0.002, 0.025)
