"""What a compromised node sends, or whoever passes for a node, and who does not get it."""

from __future__ import annotations

import socket

import datapath
import frames
import pytest
from places import Place
from scene import ALL_NODES, ALL_NODES_MAC, Scene
from wire import datagram, mark

from ovsnet.names import ROUTER_MAC, TUNNEL_KEY, TUNNEL_REPLY_KEY, link_local, pod_mac


def wrap(scene: Scene, sender: Place, inner: bytes, network: int = TUNNEL_KEY) -> None:
    """Send a tunnel's packet to node1, as whoever has the sender's address can."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            packet = frames.wrapped(datapath.TUNNEL, network, inner)
            sock.sendto(packet, (scene.lab.underlay("node1").address(4), datapath.TUNNEL_PORT))

    sender.within(send)


def through_the_tunnel(
    scene: Scene, source: object, target: object, token: bytes, **kw: int
) -> bytes:
    """What a node would send by the tunnel: a datagram between routers."""
    return datagram(ROUTER_MAC, ROUTER_MAC, source, target, token, **kw)


def expect_only(scene: Scene, token: bytes, sender: Place, places: set[str]) -> None:
    """Follow up with an honest tunnel packet of node3; then the marked one is at these places."""
    for version in (4, 6):
        last = mark()
        target = scene.pods["b1"].address(version)
        honest = through_the_tunnel(scene, scene.pods["a3"].address(version), target, last)
        wrap(scene, scene.lab.underlay("node3"), honest)
        scene.taps.wait([last], ["b1"])
    # What a switch passes on comes behind what it has passed on before.
    scene.everything_has_arrived()
    assert scene.taps.where(token) == places


@pytest.mark.parametrize("version", [4, 6])
def test_a_node_may_speak_for_its_own_pods(scene: Scene, version: int) -> None:
    token = mark()
    a3, a1 = scene.pods["a3"].address(version), scene.pods["a1"].address(version)
    node3 = scene.lab.underlay("node3")
    wrap(scene, node3, through_the_tunnel(scene, a3, a1, token))
    scene.taps.wait([token], ["a1"])
    expect_only(scene, token, node3, {"a1"})


@pytest.mark.parametrize("version", [4, 6])
def test_a_compromised_node_cannot_speak_for_others(scene: Scene, version: int) -> None:
    """Not for a third node's pods, nor for the victim's neighbours, nodes or the world."""
    token = mark()
    node3 = scene.lab.underlay("node3")
    for claimed in (
        *(scene.pods[name].address(version) for name in ("a2", "b1", "a1")),
        *(scene.places[name].address(version) for name in ("node1", "node2", "outside")),
        scene.lab.underlay("node3").address(version),
        scene.lab.underlay("node1").address(version),
        "169.254.1.1" if version == 4 else "fe80::1",
    ):
        for target in ("a1", "b1", "node1"):
            address = scene.places[target].address(version)
            wrap(scene, node3, through_the_tunnel(scene, claimed, address, token))
    expect_only(scene, token, node3, set())


@pytest.mark.parametrize("version", [4, 6])
def test_nobody_but_a_node_can_use_the_tunnel(scene: Scene, version: int) -> None:
    """Whoever is on the underlay and no node: here, the host that the controller runs on."""
    token = mark()
    control = scene.lab.control
    for claimed in ("a3", "a2", "b1"):
        source = scene.places[claimed].address(version)
        target = scene.pods["a1"].address(version)
        wrap(scene, control, through_the_tunnel(scene, source, target, token))
    expect_only(scene, token, control, set())


def test_another_network_identifier_is_refused(scene: Scene) -> None:
    token = mark()
    node3 = scene.lab.underlay("node3")
    inner = through_the_tunnel(scene, scene.pods["a3"].ipv4, scene.pods["a1"].ipv4, token)
    for network in (0, TUNNEL_REPLY_KEY + 1, (1 << 24) - 1):
        wrap(scene, node3, inner, network)
    expect_only(scene, token, node3, set())


def test_a_node_is_no_relay_between_others(scene: Scene) -> None:
    """Not from one node to another, and not what is neither for its pods nor for itself."""
    token = mark()
    node3 = scene.lab.underlay("node3")
    for version in (4, 6):
        a3 = scene.pods["a3"].address(version)
        for target in (scene.pods["a2"], scene.pods["a3"], scene.places["node2"]):
            inner = through_the_tunnel(scene, a3, target.address(version), token)
            wrap(scene, node3, inner)
    expect_only(scene, token, node3, set())


def test_nothing_but_ip_comes_through_the_tunnel(scene: Scene) -> None:
    token = mark()
    node3, a3, a1 = scene.lab.underlay("node3"), scene.pods["a3"], scene.pods["a1"]
    own = link_local(a3.mac)
    everybody = frames.BROADCAST
    for inner in (
        frames.ethernet(everybody, a3.mac, frames.ARP,
                        frames.arp(1, a3.mac, a3.ipv4, a1.ipv4, token)),
        frames.ethernet(a1.mac, a3.mac, frames.ARP, frames.arp(2, a3.mac, a3.ipv4, a1.ipv4, token)),
        frames.ethernet(everybody, a3.mac, frames.ARP,
                        frames.arp(1, a3.mac, a3.ipv4, scene.places["node1"].ipv4, token)),
        *(frames.ethernet(ALL_NODES_MAC, ROUTER_MAC, frames.IPV6, packet)
          for source in (own, a3.ipv6)
          for packet in (
              frames.router_advertisement(source, ALL_NODES, a3.mac, token),
              frames.router_advertisement(source, a1.ipv6, a3.mac, token),
              frames.advertisement(source, a1.ipv6, scene.places["node1"].ipv6, a3.mac, token),
              frames.solicitation(source, a1.ipv6, a1.ipv6, a3.mac, token))),
        through_the_tunnel(scene, a3.ipv4, "224.0.0.1", token),
        through_the_tunnel(scene, a3.ipv4, "255.255.255.255", token),
        through_the_tunnel(scene, a3.ipv6, ALL_NODES, token),
        through_the_tunnel(scene, a3.ipv4, a1.ipv4, token, sport=67, dport=68),
        through_the_tunnel(scene, a3.ipv4, "10.244.0.200", token),
    ):  # fmt: skip
        wrap(scene, node3, inner)
    expect_only(scene, token, node3, set())


@pytest.mark.parametrize("version", [4, 6])
def test_another_nodes_pods_do_not_come_through_the_host(scene: Scene, version: int) -> None:
    """A packet that enters by the node's gateway port with the address of another node's pod."""
    gateway = scene.places["node1"]
    own_mac = pod_mac(gateway.ipv4)
    target = scene.pods["a1"].address(version)
    forged, honest = mark(), mark()
    for claimed in ("a2", "a3", "node2"):
        source = scene.places[claimed].address(version)
        scene.taps.send("node1", datagram(own_mac, ROUTER_MAC, source, target, forged))
    source = gateway.address(version)
    scene.taps.send("node1", datagram(own_mac, ROUTER_MAC, source, target, honest))
    scene.taps.wait([honest], ["a1"])
    assert scene.taps.where(forged) == set()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("claimed", ["a1", "b1", "a3"])
def test_a_pod_cannot_pass_for_its_node_at_another_nodes_tunnel(
    scene: Scene, claimed: str, version: int
) -> None:
    """A pod wraps a packet itself and sends it to a node. The masquerade gives it the address of
    the pod's own node, which the other node would believe.
    """
    token, harmless, port = mark(), mark(), datapath.TUNNEL_PORT
    source, target = scene.pods[claimed].address(version), scene.pods["a2"].address(version)
    inner = through_the_tunnel(scene, source, target, token)
    for outer in (4, 6):
        address = scene.lab.underlay("node2").address(outer)
        for network in (TUNNEL_KEY, 0):
            wrapped = frames.wrapped(datapath.TUNNEL, network, inner)
            scene.taps.send("a1", scene.honest(address, wrapped, outer, dport=port))
        # To the next port it would get as far as the node.
        scene.taps.send("a1", scene.honest(address, harmless, outer, dport=port + 1))
    scene.taps.wait([harmless], ["fabric of node2"])
    scene.everything_has_arrived()
    assert scene.taps.where(token) <= {"node1", "a1"}
