"""Two nodes whose trackers take one exchange of packets for two come to agree on who began it."""

from ipaddress import ip_address

import pytest
from msgspec.structs import replace
from policy_carriage import Carriage
from policy_objects import node, peer, pod, policy, port, rule

from ovsnet.flows.agreement import lower
from ovsnet.flows.fields import Field
from ovsnet.flows.simulator import Packet, udp
from ovsnet.model import NetworkPolicy, Node, Protocol
from ovsnet.names import ROUTER_MAC, TUNNEL_KEY, TUNNEL_REPLY_KEY, pod_mac
from ovsnet.policy.world import World

A, B = "10.244.1.4", "10.244.2.3"
PORT = 7946
NODES = [node(1), node(2)]
PODS = [pod("shop/a", "app=a", node=1, host=4), pod("shop/b", "app=b", node=2, host=3)]
DENY_INGRESS = [policy("shop/p", ingress=[])]
DENY_EGRESS = [policy("shop/p", egress=[])]
ONLY_A_CALLS = [
    policy("shop/p", ingress=[rule([peer("app=a")], [port(PORT, protocol=Protocol.UDP)])])
]


def scene(
    policies: list[NetworkPolicy], before: Carriage | None = None, nodes: list[Node] = NODES
) -> Carriage:
    carriage = Carriage.of(World.of([], PODS, nodes, policies))
    if before is not None:
        carriage.trackers = before.trackers
    return carriage


def from_a() -> Packet:
    return udp(A, B, PORT, PORT).on(10, pod_mac(ip_address(A)), ROUTER_MAC)


def from_b() -> Packet:
    return udp(B, A, PORT, PORT).on(10, pod_mac(ip_address(B)), ROUTER_MAC)


def crossing(carriage: Carriage) -> list[Packet | None]:
    """Both send before either has heard of the other; what arrives."""
    left = [
        ("node-1", carriage.leaves("node-1", from_a())),
        ("node-2", carriage.leaves("node-2", from_b())),
    ]
    assert all(packet is not None for _, packet in left)
    return [carriage.leaves(*carriage.tunnelled(here, packet)) for here, packet in left if packet]


def sends(carriage: Carriage, pod: str) -> bool:
    here, packet = ("node-1", from_a()) if pod == "a" else ("node-2", from_b())
    left = carriage.leaves(here, packet)
    return left is not None and carriage.leaves(*carriage.tunnelled(here, left)) is not None


def began(carriage: Carriage) -> dict[str, set[int]]:
    """Who began the connections that each node knows."""
    return {n: {c.original.source for c in t.all} for n, t in carriage.trackers.items()}


def test_packets_that_cross_arrive_and_both_nodes_take_the_lower_nodes_pod_for_the_caller() -> None:
    carriage = scene([])
    assert all(crossing(carriage))
    caller = {int(ip_address(A))}
    assert began(carriage) == {"node-1": caller, "node-2": caller}
    assert sends(carriage, "a")
    assert sends(carriage, "b")
    assert began(carriage) == {"node-1": caller, "node-2": caller}


def known_by(*addresses: str) -> list[Node]:
    """Node 1 as it is, and node 2 with these underlay addresses."""
    return [NODES[0], replace(NODES[1], addresses=tuple(map(ip_address, addresses)))]


@pytest.mark.parametrize("addresses", [("172.18.0.2",), ("fd00:172:18::", "172.18.0.2")])
def test_where_both_nodes_have_ipv4_it_says_which_is_lower(addresses: tuple[str, ...]) -> None:
    carriage = scene([], nodes=known_by(*addresses))
    assert all(crossing(carriage))
    caller = {int(ip_address(A))}
    assert began(carriage) == {"node-1": caller, "node-2": caller}


def test_a_node_without_ipv4_is_not_lower_than_all() -> None:
    carriage = scene([], nodes=known_by("fd00:172:18::2"))
    assert all(crossing(carriage))
    caller = {int(ip_address(A))}
    assert began(carriage) == {"node-1": caller, "node-2": caller}


def test_nodes_with_ipv6_alone_agree_by_it() -> None:
    alone = [replace(n, addresses=n.addresses[1:]) for n in NODES]
    carriage = scene([], nodes=alone)
    assert all(crossing(carriage))
    caller = {int(ip_address(A))}
    assert began(carriage) == {"node-1": caller, "node-2": caller}


@pytest.mark.parametrize("deny", [DENY_INGRESS, DENY_EGRESS])
def test_what_crossed_is_ended_by_a_policy_of_either_direction(deny: list[NetworkPolicy]) -> None:
    before = scene([])
    crossing(before)
    after = scene(deny, before)
    for _ in range(3):
        assert not sends(after, "a")
        assert not sends(after, "b")


def test_what_crossed_goes_on_where_one_of_the_two_may_call() -> None:
    before = scene([])
    crossing(before)
    after = scene(ONLY_A_CALLS, before)
    for _ in range(3):
        assert sends(after, "a")
        assert sends(after, "b")


def test_a_reply_to_a_connection_that_was_forgotten_makes_no_entry_in_the_wrong_direction() -> None:
    carriage = scene([])
    assert sends(carriage, "a")
    carriage.trackers["node-1"] = carriage.trackers["node-1"].without(lambda _: True)
    assert sends(carriage, "b")
    assert began(carriage)["node-1"] == set()
    assert sends(carriage, "a")
    assert began(carriage)["node-1"] == {int(ip_address(A))}


def test_a_packet_says_which_way_it_goes() -> None:
    carriage = scene([])
    first = carriage.leaves("node-1", from_a())
    assert first is not None
    assert first[Field.TUN_ID] == TUNNEL_KEY
    carriage.leaves(*carriage.tunnelled("node-1", first))
    answer = carriage.leaves("node-2", from_b())
    assert answer is not None
    assert answer[Field.TUN_ID] == TUNNEL_REPLY_KEY


@pytest.mark.parametrize("value", [0, 1, 5, 200, 255])
def test_lower_numbers_are_matched_once_each(value: int) -> None:
    found = [n for v, m in lower(value, 8) for n in range(256) if n & m == v]
    assert sorted(found) == list(range(value))
