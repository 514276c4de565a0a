"""Who reaches whom: packets carried through the compiled flows of two nodes, against the rules.

The rules are written here anew, from what the network promises, in terms of addresses alone.
"""

from ipaddress import IPv4Address, ip_address, ip_network
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.controller.belief import Port
from ovsnet.controller.network import Network
from ovsnet.flows.fields import Field
from ovsnet.flows.simulator import (
    Connections,
    Packet,
    Switch,
    Trace,
    advertisement,
    arp,
    echo,
    icmp,
    solicitation,
    tcp,
    udp,
)
from ovsnet.flows.terms import mac
from ovsnet.model import Node, Phase, Pod
from ovsnet.names import (
    GATEWAY_OFPORT,
    REFUSER_MAC,
    ROUTER_MAC,
    TUNNEL_KEY,
    TUNNEL_OFPORT,
    TUNNEL_REPLY_KEY,
    Table,
    host_mac,
    link_local,
    pod_mac,
    port_name,
)

NODES = [
    Node(
        f"node-{i}",
        pod_cidrs=(ip_network(f"10.244.{i}.0/24"), ip_network(f"fd00:10:244:{i}::/64")),
        addresses=(ip_address(f"172.18.0.{i}"),),
    )
    for i in (1, 2, 3)
]


class Place(NamedTuple):
    """A pod: its node's number, its port and its addresses."""

    node: int
    port: int
    mac: str
    v4: str
    v6: str


PODS = {
    f"pod-{n}{k}": Place(
        n, 10 + k, pod_mac(IPv4Address(f"10.244.{n}.{k + 5}")), f"10.244.{n}.{k + 5}",
        f"fd00:10:244:{n}::{k + 5:x}",
    )
    for n in (1, 2)
    for k in (1, 2)
}  # fmt: skip
HOSTS = {
    1: ("10.244.1.1", "fd00:10:244:1::1"),
    2: ("10.244.2.1", "fd00:10:244:2::1"),
}


def switches() -> dict[int, Switch]:
    network = Network(id)
    network.set_nodes(NODES)
    pods = [
        Pod("shop", name, f"uid-{name}", node=f"node-{p.node}", phase=Phase.RUNNING)
        for name, p in PODS.items()
    ]
    network.set_pods(pods)
    made = {}
    for number in (1, 2):
        here = {name: p for name, p in PODS.items() if p.node == number}
        network.set_ports(
            f"node-{number}",
            [
                Port(p.port, port_name("shop", name, f"uid-{name}"), host_mac(IPv4Address(p.v4)))
                for name, p in here.items()
            ],
        )
        flows = network.ledger(f"node-{number}").flows.values()
        made[number] = Switch(flows, [GATEWAY_OFPORT, TUNNEL_OFPORT, 99, *range(10, 13)])
    return made


SWITCHES = switches()


class Arrival(NamedTuple):
    """Where a packet came out: a pod's name, `host-N`, `node-N` for one beyond, and the packet."""

    at: str
    packet: Packet


def carried(node: int, packet: Packet) -> list[Arrival]:
    """Where a packet that enters a node's switch comes out, through the other one if need be."""
    arrivals = []
    for out in SWITCHES[node].trace(packet).deliveries:
        if out.port == GATEWAY_OFPORT:
            arrivals.append(Arrival(f"host-{node}", out.packet))
        elif out.port == TUNNEL_OFPORT:
            target = out.packet[Field.TUN_DST] & 0xFF
            if target not in SWITCHES:
                arrivals.append(Arrival(f"node-{target}", out.packet))
                continue
            key = out.packet[Field.TUN_ID]
            assert key in (TUNNEL_KEY, TUNNEL_REPLY_KEY)
            inner = out.packet.replace(dict.fromkeys((Field.REG0, Field.REG1), 0)).untracked()
            came = inner.through_tunnel(
                TUNNEL_OFPORT, key, f"172.18.0.{node}", f"172.18.0.{target}"
            )
            arrivals += carried(target, came)
        else:
            (name,) = (n for n, p in PODS.items() if (p.node, p.port) == (node, out.port))
            arrivals.append(Arrival(name, out.packet))
    return arrivals


def sent(pod: Place, packet: Packet, eth_src: str | None = None) -> list[Arrival]:
    return carried(pod.node, packet.on(pod.port, eth_src or pod.mac, ROUTER_MAC))


def owner_of(address: str) -> str | None:
    """What an address of the pod network belongs to by the rules; None: to nobody there."""
    for name, place in PODS.items():
        if address in (place.v4, place.v6):
            return name
    for number, addresses in HOSTS.items():
        if address in addresses:
            return f"host-{number}"
    return None


def expected_at(sender: Place, destination: str) -> str | None:
    """Where an honest packet must come out, or None if nowhere."""
    where = ip_address(destination)
    unroutable = where.is_multicast or where.is_link_local or destination == "255.255.255.255"
    if unroutable and destination != "169.254.169.254":
        return None
    for number, node in enumerate(NODES, 1):
        if any(where in network for network in node.pod_cidrs if network.version == where.version):
            return owner_of(destination) if number in SWITCHES else f"node-{number}"
    return f"host-{sender.node}"


DESTINATIONS4 = [
    *(p.v4 for p in PODS.values()),
    *(addresses[0] for addresses in HOSTS.values()),
    *("10.244.1.200", "10.244.2.200", "10.244.3.9", "10.244.9.9", "172.18.0.1", "172.18.0.2"),
    *("203.0.113.7", "224.0.0.1", "255.255.255.255", "169.254.169.254"),
]
DESTINATIONS6 = [
    *(p.v6 for p in PODS.values()),
    *(addresses[1] for addresses in HOSTS.values()),
    *("fd00:10:244:1::c8", "fd00:10:244:2::c8", "fd00:10:244:3::9", "2001:db8::7"),
    *("ff02::1", "fe80::1"),
]
OTHERS4 = ["10.244.1.1", "10.244.1.99", "10.244.2.99", "172.18.0.1", "0.0.0.0", "203.0.113.7"]
OTHERS6 = ["fd00:10:244:1::1", "fd00:10:244:1::63", "2001:db8::7", "::", "fe80::1"]


@st.composite
def packets(draw: st.DrawFn) -> tuple[str, str, str, str, Packet]:
    """A pod, the MAC and address that it claims, the destination, and the packet."""
    name = draw(st.sampled_from(sorted(PODS)))
    pod = PODS[name]
    v6 = draw(st.booleans())
    own, others = (pod.v6, OTHERS6) if v6 else (pod.v4, OTHERS4)
    neighbours = [p.v6 if v6 else p.v4 for p in PODS.values()]
    claimed = draw(st.sampled_from([own, own, own, *others, *neighbours]))
    claimed_mac = draw(
        st.sampled_from([pod.mac] * 5 + [p.mac for p in PODS.values()] + [ROUTER_MAC])
    )
    to = draw(st.sampled_from(DESTINATIONS6 if v6 else DESTINATIONS4))
    kind = draw(st.sampled_from(["tcp", "udp", "echo"]))
    if kind == "echo":
        packet = echo(claimed, to)
    elif kind == "tcp":
        packet = tcp(claimed, to, 40000, 80)
    else:
        packet = udp(claimed, to, draw(st.sampled_from([40000, 68, 53])), 53)
    return name, claimed_mac, claimed, to, packet


@settings(max_examples=1500, deadline=None)
@given(packets())
def test_honest_packets_reach_exactly_whom_they_are_for_and_others_nobody(
    case: tuple[str, str, str, str, Packet],
) -> None:
    name, claimed_mac, claimed, to, packet = case
    pod = PODS[name]
    arrivals = sent(pod, packet, claimed_mac)
    honest = claimed in (pod.v4, pod.v6) and claimed_mac == pod.mac
    expected = expected_at(pod, to) if honest else None
    # To itself a pod speaks on its own loopback; no switch sends a packet back where it came from.
    if expected == name:
        expected = None
    assert [a.at for a in arrivals] == ([] if expected is None else [expected])
    for at, packet_out in arrivals:
        if at in PODS:
            assert packet_out[Field.ETH_DST] == mac(PODS[at].mac)
            assert packet_out[Field.ETH_SRC] == mac(ROUTER_MAC)
            hops = 1 if PODS[at].node == pod.node else 2
            assert packet_out[Field.IP_TTL] == 64 - hops


@pytest.mark.parametrize("name", sorted(PODS))
def test_the_gateway_answers_arp_to_the_pod_alone(name: str) -> None:
    pod = PODS[name]
    gateway = HOSTS[pod.node][0]
    (answer,) = sent_back(pod, arp(1, pod.mac, pod.v4, gateway))
    assert answer[Field.ARP_OP] == 2
    assert answer[Field.ARP_SHA] == answer[Field.ETH_SRC] == mac(ROUTER_MAC)
    assert answer[Field.ARP_SPA] == int(ip_address(gateway))
    assert answer[Field.ARP_THA] == answer[Field.ETH_DST] == mac(pod.mac)
    assert answer[Field.ARP_TPA] == int(ip_address(pod.v4))


def sent_back(pod: Place, packet: Packet) -> list[Packet]:
    found = SWITCHES[pod.node].trace(packet.on(pod.port, pod.mac, "ff:ff:ff:ff:ff:ff"))
    assert all(out.port == pod.port for out in found.deliveries)
    return [out.packet for out in found.deliveries]


@pytest.mark.parametrize("name", sorted(PODS))
@pytest.mark.parametrize("from_link_local", [False, True])
def test_the_gateway_answers_solicitations_to_the_pod_alone(
    name: str, from_link_local: bool
) -> None:
    pod = PODS[name]
    gateway = HOSTS[pod.node][1]
    source = str(link_local(pod.mac)) if from_link_local else pod.v6
    (answer,) = sent_back(pod, solicitation(source, "ff02::1:ff00:1", gateway, pod.mac))
    assert answer[Field.ICMPV6_TYPE] == 136
    assert answer[Field.ND_TARGET] == answer[Field.IPV6_SRC] == int(ip_address(gateway))
    assert answer[Field.IPV6_DST] == int(ip_address(source))
    assert answer[Field.ETH_SRC] == mac(ROUTER_MAC)
    assert answer[Field.ETH_DST] == mac(pod.mac)


WEB, OTHER = PODS["pod-11"], PODS["pod-12"]


@pytest.mark.parametrize(
    "packet",
    [
        arp(1, OTHER.mac, WEB.v4, "10.244.1.1"),
        arp(1, WEB.mac, OTHER.v4, "10.244.1.1"),
        arp(1, WEB.mac, "0.0.0.0", "10.244.1.1"),
        arp(1, WEB.mac, WEB.v4, OTHER.v4),
        arp(2, WEB.mac, WEB.v4, OTHER.v4),
        arp(2, WEB.mac, "10.244.1.1", OTHER.v4),
        solicitation(OTHER.v6, "ff02::1:ff00:1", "fd00:10:244:1::1", WEB.mac),
        solicitation(WEB.v6, "ff02::1:ff00:1", "fd00:10:244:1::1", OTHER.mac),
        solicitation(WEB.v6, OTHER.v6, OTHER.v6, WEB.mac),
        advertisement(WEB.v6, OTHER.v6, WEB.v6, WEB.mac),
        advertisement(WEB.v6, OTHER.v6, "fd00:10:244:1::1", WEB.mac),
        icmp(WEB.v6, OTHER.v6, 133),
        icmp(WEB.v6, OTHER.v6, 134),
        icmp(WEB.v6, OTHER.v6, 137),
        udp(WEB.v4, OTHER.v4, 67, 68),
        udp(WEB.v6, OTHER.v6, 547, 546),
    ],
    ids=str,
)
def test_what_pods_must_not_say_is_dropped_before_anything_else_sees_it(packet: Packet) -> None:
    assert sent(WEB, packet) == []
    trace = SWITCHES[1].trace(packet.on(WEB.port, WEB.mac, ROUTER_MAC))
    assert max(tables_passed(trace)) <= Table.NEIGHBOUR


@pytest.mark.parametrize(
    ("outer", "key", "inner", "passes"),
    [
        ("172.18.0.2", TUNNEL_KEY, "10.244.2.6", True),
        ("172.18.0.2", TUNNEL_KEY, "fd00:10:244:2::6", True),
        ("172.18.0.2", TUNNEL_KEY, "10.244.3.6", False),
        ("172.18.0.2", TUNNEL_KEY, "10.244.1.7", False),
        ("172.18.0.2", TUNNEL_KEY, "203.0.113.7", False),
        ("172.18.0.3", TUNNEL_KEY, "10.244.2.6", False),
        ("172.18.0.3", TUNNEL_KEY, "10.244.3.6", True),
        ("172.18.0.9", TUNNEL_KEY, "10.244.2.6", False),
        ("172.18.0.2", TUNNEL_REPLY_KEY, "10.244.2.6", True),
        ("172.18.0.2", TUNNEL_REPLY_KEY + 1, "10.244.2.6", False),
        ("172.18.0.2", 0, "10.244.2.6", False),
    ],
)
def test_a_node_speaks_for_its_own_pods_only(
    outer: str, key: int, inner: str, passes: bool
) -> None:
    to = WEB.v6 if ":" in inner else WEB.v4
    packet = tcp(inner, to, 40000, 80).through_tunnel(TUNNEL_OFPORT, key, outer, "172.18.0.1")
    assert [a.at for a in carried(1, packet)] == (["pod-11"] if passes else [])


@pytest.mark.parametrize(
    ("to", "at"),
    [
        (WEB.v4, ["pod-11"]),
        ("10.244.1.1", ["host-1"]),
        ("10.244.1.200", []),
        ("10.244.3.9", []),
        ("10.244.9.9", []),
        ("172.18.0.1", []),
        ("203.0.113.7", []),
    ],
)
def test_no_node_is_another_ones_way_to_the_world(to: str, at: list[str]) -> None:
    packet = tcp("10.244.2.6", to, 40000, 80).through_tunnel(
        TUNNEL_OFPORT, TUNNEL_KEY, "172.18.0.2", "172.18.0.1"
    )
    assert [a.at for a in carried(1, packet)] == at


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        ("10.244.1.1", True),
        ("172.18.0.1", True),
        ("203.0.113.7", True),
        (OTHER.v4, True),
        ("10.244.2.6", False),
        ("10.244.3.9", False),
    ],
)
def test_through_the_host_comes_anything_but_other_nodes_pods(source: str, passes: bool) -> None:
    packet = tcp(source, WEB.v4, 40000, 80).on(GATEWAY_OFPORT, pod_mac(1), ROUTER_MAC)
    assert [a.at for a in carried(1, packet)] == (["pod-11"] if passes else [])


@pytest.mark.parametrize("to", ["203.0.113.7", "10.244.1.200", "10.244.9.9"])
def test_what_came_from_the_host_goes_back_to_it_to_be_refused_alone(to: str) -> None:
    packet = tcp("10.244.1.1", to, 40000, 80).on(GATEWAY_OFPORT, pod_mac(1), ROUTER_MAC)
    macs = [(a.at, a.packet[Field.ETH_SRC]) for a in carried(1, packet)]
    # Where a pod might be there is nobody to speak for it, and nothing is said.
    assert macs == ([] if to == "10.244.1.200" else [("host-1", mac(REFUSER_MAC))])


def test_an_unknown_port_is_dropped_at_once() -> None:
    trace = SWITCHES[1].trace(tcp(WEB.v4, OTHER.v4, 40000, 80).on(99, WEB.mac, ROUTER_MAC))
    assert trace.deliveries == ()
    assert len(trace.passes[0].steps) == 1


def test_a_reply_comes_back_past_policy_and_without_its_connection_is_dropped() -> None:
    switch = SWITCHES[1]
    first = switch.trace(tcp(WEB.v4, OTHER.v4, 40000, 80).on(WEB.port, WEB.mac, ROUTER_MAC))
    assert [d.port for d in first.deliveries] == [OTHER.port]
    reply = tcp(OTHER.v4, WEB.v4, 80, 40000, flags=0x12).on(OTHER.port, OTHER.mac, ROUTER_MAC)
    back = switch.trace(reply, first.tracker)
    assert [d.port for d in back.deliveries] == [WEB.port]
    assert Table.INGRESS_DEFAULT not in tables_passed(back)
    assert switch.trace(reply, Connections()).deliveries == ()


def tables_passed(trace: Trace) -> set[Table]:
    return {step.table for one in trace.passes for step in one.steps}
