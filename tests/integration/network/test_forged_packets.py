"""What an attacker in a pod sends, and who does not get it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

import frames
import pytest
from places import wait_for
from scene import ALL_NODES, ALL_NODES_MAC, LARGE, NEIGHBOURS, Scene
from wire import datagram, mark

from ovsnet.names import (
    NODE_PORT_OFFSET,
    REFUSER_MAC,
    ROUTER_MAC,
    SERVICE_OFFSET,
    host_mac,
    link_local,
    pod_mac,
)

Forge = Callable[[Scene, bytes], list[bytes]]


def ip_frame(
    scene: Scene,
    source: object,
    target: object,
    token: bytes,
    source_mac: str = "",
    target_mac: str = ROUTER_MAC,
    **kw: int,
) -> bytes:
    return datagram(source_mac or scene.attacker.mac, target_mac, source, target, token, **kw)


def spoofed_mac(scene: Scene, token: bytes) -> list[bytes]:
    a1, b1, a2 = scene.pods["a1"], scene.pods["b1"], scene.pods["a2"]
    gateway = pod_mac(scene.places["node1"].ipv4)
    return [
        ip_frame(scene, a1.address(v), target.address(v), token, source_mac=wrong)
        for v in (4, 6)
        for target in (b1, a2)
        for wrong in (b1.mac, gateway, ROUTER_MAC, "02:00:00:00:00:01", frames.BROADCAST)
    ]


def spoofed_source(scene: Scene, token: bytes) -> list[bytes]:
    """The pod beside, a pod of another node, the gateways, the nodes, the outside, nobody; and the
    service and node port addresses, the first of which policies let call the node's pods.
    """
    claimed = [
        scene.pods["b1"],
        scene.pods["a2"],
        scene.places["node1"],
        scene.places["node2"],
        scene.lab.underlay("node1"),
        scene.lab.underlay("node2"),
        scene.lab.control,
        scene.lab.outside,
    ]
    pairs = [(c.address(v), v) for c in claimed for v in (4, 6)]
    pairs += [(a, 4) for a in ("10.244.0.200", "0.0.0.0", "127.0.0.1", "169.254.169.254")]
    pairs += [(a, 4) for a in ("224.0.0.1", "255.255.255.255", "8.8.8.8")]
    pairs += [(a, 6) for a in ("::", "::1", "ff02::1", "2001:db8::1", "fd00:10:244::c8")]
    pairs += [(str(link_local(scene.attacker.mac)), 6), ("fe80::1", 6)]
    pairs += [
        (str(network[offset]), network.version)
        for name in ("node1", "node2")
        for network in scene.lab.pod_ranges(name)
        for offset in (SERVICE_OFFSET, NODE_PORT_OFFSET)
    ]
    # The victim's own address, too: a packet that seems to come from itself.
    return [
        ip_frame(scene, source, scene.places[name].address(version), token)
        for source, version in pairs
        for name in NEIGHBOURS
    ]


def spoofed_arp(scene: Scene, token: bytes) -> list[bytes]:
    """Requests, replies and gratuitous ones, whose body says other than the truth."""
    a1, b1 = scene.pods["a1"], scene.pods["b1"]
    gateway = scene.places["node1"].ipv4
    bodies = [
        frames.arp(operation, sender_mac, sender, target, token)
        for operation in (1, 2)
        for sender_mac, sender in ((a1.mac, gateway), (a1.mac, b1.ipv4), (b1.mac, a1.ipv4),
                                   (b1.mac, b1.ipv4), (ROUTER_MAC, gateway), (a1.mac, "0.0.0.0"))
        for target in (b1.ipv4, gateway, sender)
    ]  # fmt: skip
    return [
        frames.ethernet(target_mac, source_mac, frames.ARP, body)
        for body in bodies
        for target_mac in (frames.BROADCAST, b1.mac, pod_mac(gateway), ROUTER_MAC)
        for source_mac in (a1.mac, b1.mac)
    ]


def honest_arp_about_others(scene: Scene, token: bytes) -> list[bytes]:
    """A true gratuitous ARP, a true reply, a question for another pod: nobody's business."""
    a1, b1 = scene.pods["a1"], scene.pods["b1"]
    bodies = [
        frames.arp(1, a1.mac, a1.ipv4, a1.ipv4, token),
        frames.arp(2, a1.mac, a1.ipv4, a1.ipv4, token),
        frames.arp(2, a1.mac, a1.ipv4, b1.ipv4, token, b1.mac),
        frames.arp(1, a1.mac, a1.ipv4, b1.ipv4, token),
    ]
    return [
        frames.ethernet(target, a1.mac, frames.ARP, body)
        for body in bodies
        for target in (frames.BROADCAST, b1.mac)
    ]


def neighbour_discovery(scene: Scene, token: bytes) -> list[bytes]:
    """Solicitations and advertisements, true and false, for others than the gateway."""
    a1, b1 = scene.pods["a1"], scene.pods["b1"]
    gateway = scene.places["node1"].ipv6
    own = link_local(a1.mac)
    packets = [
        make(source, target, about, claimed, token)
        for make in (frames.solicitation, frames.advertisement)
        for source in (a1.ipv6, own, b1.ipv6, gateway, IPv6Address("::"))
        for target in (b1.ipv6, IPv6Address(ALL_NODES), link_local(b1.mac), gateway)
        for about, claimed in ((gateway, a1.mac), (gateway, b1.mac), (b1.ipv6, a1.mac),
                               (a1.ipv6, a1.mac), (b1.ipv6, b1.mac))
        # A true question for the gateway is answered, and is no forgery.
        if not (make is frames.solicitation and about == gateway and claimed == a1.mac
                and source in (a1.ipv6, own))
    ]  # fmt: skip
    return [
        frames.ethernet(target_mac, a1.mac, frames.IPV6, packet)
        for packet in packets
        for target_mac in (ALL_NODES_MAC, b1.mac, ROUTER_MAC)
    ]


def rogue_router(scene: Scene, token: bytes) -> list[bytes]:
    """Router advertisements and redirects (CVE-2020-10749)."""
    a1, b1 = scene.pods["a1"], scene.pods["b1"]
    own = link_local(a1.mac)
    router = link_local(ROUTER_MAC)
    packets = [
        packet
        for source in (own, router, a1.ipv6)
        for target in (IPv6Address(ALL_NODES), b1.ipv6, link_local(b1.mac))
        for packet in (
            frames.router_advertisement(source, target, a1.mac, token),
            frames.redirect(source, target, own, scene.pods["a2"].ipv6, token),
        )
    ]
    return [
        frames.ethernet(target_mac, a1.mac, frames.IPV6, packet)
        for packet in packets
        for target_mac in (ALL_NODES_MAC, b1.mac, ROUTER_MAC)
    ]


def dhcp_offers(scene: Scene, token: bytes) -> list[bytes]:
    a1, b1, a2 = scene.pods["a1"], scene.pods["b1"], scene.pods["a2"]
    return [
        ip_frame(scene, a1.address(version), target, token, target_mac=target_mac, sport=sport,
                 dport=dport)
        for version, sport, dport, everybody in (
            (4, 67, 68, "255.255.255.255"), (6, 547, 546, ALL_NODES))
        for target in (b1.address(version), a2.address(version), everybody)
        for target_mac in (ROUTER_MAC, frames.BROADCAST, b1.mac)
    ]  # fmt: skip


def to_everybody(scene: Scene, token: bytes) -> list[bytes]:
    """Broadcast and multicast, by address, by MAC, and by both."""
    a1, b1 = scene.pods["a1"], scene.pods["b1"]
    others = scene.lab.pod_ranges("node2")[0].broadcast_address
    targets = (
        *((4, a) for a in ("255.255.255.255", str(others), "224.0.0.1", "239.1.2.3")),
        *((6, a) for a in (ALL_NODES, "ff05::2", "ff0e::1", "fe80::1", str(link_local(b1.mac)))),
    )
    return [
        ip_frame(scene, a1.address(version), target, token, target_mac=target_mac)
        for version, target in targets
        for target_mac in (ROUTER_MAC, frames.BROADCAST, ALL_NODES_MAC, "01:00:5e:00:00:01")
    ]


def to_nobody(scene: Scene, token: bytes) -> list[bytes]:
    """Addresses of pod ranges that no pod has, here and on another node: those of services'
    connections among them, and the other node's node port address.
    """
    a1 = scene.attacker
    ranges = [r for name in ("node1", "node2") for r in scene.lab.pod_ranges(name)]
    targets = [r[host] for r in ranges for host in (0, SERVICE_OFFSET, 77, 200)]
    targets += [r[NODE_PORT_OFFSET] for r in scene.lab.pod_ranges("node2")]
    return [ip_frame(scene, a1.address(to.version), to, token) for to in targets]


def bad_tcp(scene: Scene, token: bytes) -> list[bytes]:
    """Segments that begin no connection, and segments whose checksum is wrong."""
    return [
        frames.ethernet(
            ROUTER_MAC,
            scene.attacker.mac,
            frames.IPV4 if version == 4 else frames.IPV6,
            frames.ip(source, target, frames.TCP,
                      frames.tcp(source, target, token, flags, sport=41000 + flags, wrong=wrong)),
        )
        for version in (4, 6)
        for source in (scene.attacker.address(version),)
        for target in (scene.pods["b1"].address(version), scene.pods["a2"].address(version))
        for flags, wrong in ((frames.SYN | frames.ACK, 0), (frames.SYN | frames.FIN, 0),
                             (frames.SYN | frames.RST, 0), (0, 0), (frames.SYN, 1))
    ]  # fmt: skip


def errors_about_nothing(scene: Scene, token: bytes) -> list[bytes]:
    """ICMP errors about connections that there are not, by which routes could be changed."""
    packets = []
    for version in (4, 6):
        a1, b1, a2 = (scene.pods[name].address(version) for name in ("a1", "b1", "a2"))
        for victim, other in ((b1, a2), (a2, b1)):
            inner = frames.ip(victim, other, frames.UDP, frames.udp(victim, other, token, 1, 2))
            kinds = ((3, 1), (3, 4), (5, 1), (11, 0)) if version == 4 else ((1, 0), (2, 0), (3, 0))
            for kind, code in kinds:
                error = frames.icmp(a1, victim, kind, code, bytes(4) + inner)
                protocol = frames.ICMP if version == 4 else frames.ICMPV6
                ethertype = frames.IPV4 if version == 4 else frames.IPV6
                packet = frames.ip(a1, victim, protocol, error)
                packets.append(frames.ethernet(ROUTER_MAC, scene.attacker.mac, ethertype, packet))
    return packets


def other_protocols(scene: Scene, token: bytes) -> list[bytes]:
    """What is neither IP nor ARP: LLDP, RARP, MPLS, spanning tree and more."""
    kinds = (0x88CC, 0x8035, 0x8847, 0x88A8, 0x0842, 0x9000, 0x0027)
    return [
        frames.ethernet(target, scene.attacker.mac, kind, token + bytes(46))
        for kind in kinds
        for target in (scene.pods["b1"].mac, frames.BROADCAST, "01:80:c2:00:00:00")
    ]


def tagged(scene: Scene, token: bytes) -> list[bytes]:
    """True packets, but in a VLAN: another one, none (a priority), and one within another."""
    tags = [bytes.fromhex(tag) for tag in ("81000001", "81000000", "8100e000", "8100000181000002")]
    return [
        whole[:12] + tag + whole[12:]
        for tag in tags
        for name in NEIGHBOURS
        for version in (4, 6)
        for whole in (scene.honest(scene.places[name].address(version), token, version),)
    ]


def overlapping_fragments(scene: Scene, token: bytes) -> list[bytes]:
    """A second fragment that writes over what the first one said (RFC 1858)."""
    source, target = scene.attacker.ipv4, scene.pods["b1"].ipv4
    whole = frames.udp(source, target, token * 120)
    packets = [
        frames.ip(source, target, frames.UDP, whole[:LARGE], identity=77,
                  fragment=frames.MORE_FRAGMENTS),
        frames.ip(source, target, frames.UDP, whole[LARGE - 16 :], identity=77,
                  fragment=(LARGE - 16) // 8),
    ]  # fmt: skip
    return [frames.ethernet(ROUTER_MAC, scene.attacker.mac, frames.IPV4, p) for p in packets]


def a_fragment_alone(scene: Scene, token: bytes) -> list[bytes]:
    """Later fragments of a datagram whose beginning never comes."""
    source = scene.attacker.ipv4
    return [
        frames.ethernet(
            ROUTER_MAC,
            scene.attacker.mac,
            frames.IPV4,
            frames.ip(source, scene.places[name].ipv4, frames.UDP, token * 2, identity=78,
                      fragment=offset),
        )
        for name in ("b1", "a2", "node1")
        for offset in (1, 2, 185)
    ]  # fmt: skip


def past_the_switch(scene: Scene, token: bytes) -> list[bytes]:
    """To the MAC of the veth's other end, where the node's own kernel would take it."""
    a1, b1 = scene.pods["a1"], scene.pods["b1"]
    node = scene.lab.underlay("node1")
    return [
        ip_frame(scene, source.address(version), target.address(version), token,
                 target_mac=host_mac(a1.ipv4))
        for version in (4, 6)
        for source in (b1, scene.pods["a2"], scene.lab.outside)
        for target in (node, scene.places["node1"], scene.pods["a3"], scene.lab.outside)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "forge",
    [
        spoofed_mac,
        spoofed_source,
        spoofed_arp,
        honest_arp_about_others,
        neighbour_discovery,
        rogue_router,
        dhcp_offers,
        to_everybody,
        to_nobody,
        bad_tcp,
        errors_about_nothing,
        other_protocols,
        pytest.param(tagged, marks=pytest.mark.xfail(strict=True, reason="no flow looks at tags")),
        overlapping_fragments,
        a_fragment_alone,
        past_the_switch,
    ],
)
def test_nobody_gets(scene: Scene, forge: Forge) -> None:
    token = mark()
    packets = forge(scene, token)
    assert packets
    scene.send(*packets)
    assert scene.taps.where(token) - {"a1"} == set()


def test_the_attacks_have_changed_nothing_at_the_victims(scene: Scene) -> None:
    """After all of the above every pod still knows the router by its true address."""
    for pod in scene.pods.values():
        for version in (4, 6):
            other = scene.pods["b2" if pod.node != "node2" else "a1"]
            pod.run("ping", "-n", "-c", "1", "-W", "2", other.address(version))
        lines = pod.run("ip", "neighbour", "show").stdout.splitlines()
        assert len(lines) >= 2
        assert all(ROUTER_MAC in line for line in lines), lines
        routes = pod.run("ip", "-6", "route", "show", "proto", "ra").stdout
        assert routes == ""


@pytest.mark.parametrize("version", [4, 6])
def test_a_pods_question_for_the_gateway_is_answered(scene: Scene, version: int) -> None:
    """The honest twin of the forged ARP and neighbour discovery."""
    a1, gateway = scene.attacker, scene.places["node1"].address(version)
    if version == 4:
        frame = frames.ethernet(
            frames.BROADCAST, a1.mac, frames.ARP, frames.arp(1, a1.mac, a1.ipv4, gateway)
        )
        answer = frames.arp(2, ROUTER_MAC, gateway, a1.ipv4, target_mac=a1.mac)
    else:
        packet = frames.solicitation(a1.ipv6, gateway, gateway, a1.mac, b"")
        frame = frames.ethernet(ROUTER_MAC, a1.mac, frames.IPV6, packet)
        # As the question, but for its kind and the ends of it.
        body = packet[40 + 4 :]
        told = frames.icmp(gateway, a1.ipv6, 136, 0, body)
        told = frames.ip(gateway, a1.ipv6, frames.ICMPV6, told, ttl=255)
        answer = frames.ethernet(a1.mac, ROUTER_MAC, frames.IPV6, told)
    scene.send(frame)
    wait_for(lambda: scene.taps.read() or scene.taps["a1"].has(answer), "the router's answer", 5)
    assert scene.taps.where(answer) == {"a1"}


@pytest.mark.parametrize("version", [4, 6])
def test_a_node_port_that_is_no_services_is_refused_by_the_node_alone(
    scene: Scene, version: int
) -> None:
    """A pod asks its node's node port address. The node gets the packet with the source MAC that
    tells it to refuse it, and the pod the refusal, which quotes the packet.
    """
    (target,) = (
        network[NODE_PORT_OFFSET]
        for network in scene.lab.pod_ranges("node1")
        if network.version == version
    )
    token = mark()
    packet = ip_frame(scene, scene.attacker.address(version), target, token)
    # Linux sends each host only so many errors a second.
    scene.taps.wait([token], ["a1", "node1"], lambda: scene.taps.send("a1", packet))
    assert scene.taps.where(token) == {"a1", "node1"}
    gateway = pod_mac(scene.places["node1"].ipv4)
    for arrived in scene.taps["node1"].has(token):
        assert arrived[:12] == frames.mac(gateway) + frames.mac(REFUSER_MAC)
    refusal = {4: (14 + 20, bytes([3, 3])), 6: (14 + 40, bytes([1, 4]))}
    start, port_unreachable = refusal[version]
    for answer in scene.taps["a1"].has(token):
        assert answer[:12] == frames.mac(scene.attacker.mac) + frames.mac(ROUTER_MAC)
        assert answer[start : start + 2] == port_unreachable


@pytest.mark.parametrize("name", ["b1", "a2", "node1", "outside"])
@pytest.mark.parametrize("version", [4, 6])
def test_honest_packets_of_the_same_make_arrive(scene: Scene, name: str, version: int) -> None:
    """ICMP, UDP, the first segment of a connection; each at its target and nowhere else."""
    source, target = scene.attacker.address(version), scene.places[name].address(version)
    kind = frames.IPV4 if version == 4 else frames.IPV6
    icmp = frames.ICMP if version == 4 else frames.ICMPV6
    for number, protocol in enumerate((icmp, frames.UDP, frames.TCP)):
        token = mark()
        body = {
            icmp: frames.echo(source, target, token),
            frames.UDP: frames.udp(source, target, token, 42000),
            frames.TCP: frames.tcp(source, target, token, frames.SYN, 42000 + number, 81),
        }[protocol]
        packet = frames.ip(source, target, protocol, body)
        scene.taps.send("a1", frames.ethernet(ROUTER_MAC, scene.attacker.mac, kind, packet))
        places = {name} if name != "outside" else {"outside", "node1"}
        scene.taps.wait([token], places)
        # The target may answer with the mark in it.
        assert scene.taps.where(token) - {"a1"} == places


@pytest.mark.parametrize("name", ["b1", "a2", "node1"])
def test_honest_fragments_and_options_arrive(scene: Scene, name: str) -> None:
    source, target = scene.attacker.ipv4, scene.places[name].ipv4
    first, second, optional = mark(), mark(), mark()
    whole = frames.udp(source, target, first.ljust(LARGE - 8) + second)
    options = bytes([1, 1, 1, 0])
    packets = [
        frames.ip(source, target, frames.UDP, whole[:LARGE], identity=5,
                  fragment=frames.MORE_FRAGMENTS),
        frames.ip(source, target, frames.UDP, whole[LARGE:], identity=5,
                  fragment=LARGE // 8),
        frames.ip(source, target, frames.UDP, frames.udp(source, target, optional),
                  options=options),
    ]  # fmt: skip
    for packet in packets:
        scene.taps.send("a1", frames.ethernet(ROUTER_MAC, scene.attacker.mac, frames.IPV4, packet))
    for token in (first, second, optional):
        scene.taps.wait([token], [name])
        assert scene.taps.where(token) - {"a1"} == {name}


@pytest.mark.parametrize("name", ["b1", "a2"])
def test_protocol_zero_changes_nothing_for_the_packets_after_it(scene: Scene, name: str) -> None:
    """CVE-2023-1668: a packet of IP protocol 0 once left a cached flow that rewrote nothing."""
    source, target = scene.attacker.ipv4, scene.places[name].ipv4
    for _ in range(3):
        zero = frames.ip(source, target, 0, bytes(32))
        scene.send(frames.ethernet(ROUTER_MAC, scene.attacker.mac, frames.IPV4, zero))
        scene.taps.forget()
        token = mark()
        scene.taps.send("a1", scene.honest(target, token))
        scene.taps.wait([token], [name])
        (arrived,) = scene.taps[name].has(token)
        assert arrived[:12] == frames.mac(scene.pods[name].mac) + frames.mac(ROUTER_MAC)
        hops = 1 if name == "b1" else 2
        assert arrived[22] == 64 - hops
