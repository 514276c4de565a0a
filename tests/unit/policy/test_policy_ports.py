"""Ports, clause by clause of the API's documentation: which protocols and ports a rule means."""

import pytest
from policy_objects import block, namespace, node, peer, pod, policy, port, rule
from policy_reach import ICMP, SCTP, TCP, UDP, reaches

from ovsnet.model import Protocol
from ovsnet.policy.world import World

NODES = (node(1), node(2))
CLIENT = pod("shop/client", "app=client", node=1, host=6)
OLD = pod("shop/old", "app=web", node=2, host=3, ports=["x=99", "http=8080", "dns=53/UDP"])
NEW = pod(
    "shop/new", "app=web", node=2, host=4, ports=["http=80", "http=81/UDP", "dns=5353/UDP", "s=7"]
)
BARE = pod("shop/bare", "app=web", node=2, host=5)
HOST = pod("shop/host", "app=web", node=2, host_network=True, ports=["http=8080"])
PODS = (CLIENT, OLD, NEW, BARE, HOST)
EVERYBODY = [block("0.0.0.0/0"), block("::/0")]


def cluster(*rules, direction="ingress"):
    subject = "app=web" if direction == "ingress" else "app=client"
    one = policy("shop/ports", subject, **{direction: rules})
    return World.of([namespace("shop")], PODS, NODES, [one])


both_directions = pytest.mark.parametrize("direction", ["ingress", "egress"])


@both_directions
@pytest.mark.parametrize(
    ("ports", "allowed", "denied"),
    [
        ([port(80)], [(80, TCP)], [(79, TCP), (81, TCP), (80, UDP), (80, SCTP), (None, ICMP)]),
        ([port(53, protocol=Protocol.UDP)], [(53, UDP)], [(53, TCP), (52, UDP), (53, SCTP)]),
        ([port(9, protocol=Protocol.SCTP)], [(9, SCTP)], [(9, TCP), (9, UDP), (8, SCTP)]),
        (
            [port(8000, 8010)],
            [(8000, TCP), (8005, TCP), (8010, TCP)],
            [(7999, TCP), (8011, TCP), (8005, UDP)],
        ),
        ([port(443, 443)], [(443, TCP)], [(442, TCP), (444, TCP)]),
        ([port(1, 65535)], [(1, TCP), (65535, TCP)], [(1, UDP), (None, ICMP)]),
        ([port(65535)], [(65535, TCP)], [(65534, TCP), (1, TCP)]),
        ([port()], [(1, TCP), (65535, TCP)], [(1, UDP), (1, SCTP), (None, ICMP)]),
        ([port(protocol=Protocol.UDP)], [(1, UDP), (65535, UDP)], [(1, TCP), (None, ICMP)]),
        (
            [port(80), port(53, protocol=Protocol.UDP), port(90, 91)],
            [(80, TCP), (53, UDP), (90, TCP), (91, TCP)],
            [(53, TCP), (80, UDP), (85, TCP), (90, UDP)],
        ),
        (
            None,
            [(1, TCP), (65535, UDP), (80, SCTP), (None, ICMP)],
            [],
        ),
        ([], [], [(1, TCP), (80, UDP), (80, SCTP), (None, ICMP)]),
    ],
)
def test_a_rule_means_the_ports_that_it_names_of_their_protocol(ports, allowed, denied, direction):
    world = cluster(rule(None, ports), direction=direction)
    for number, protocol in allowed:
        assert reaches(world, "shop/client", "shop/bare", number, protocol), (number, protocol)
    for number, protocol in denied:
        assert not reaches(world, "shop/client", "shop/bare", number, protocol), (number, protocol)


@both_directions
def test_a_named_port_means_what_each_destination_declares_under_it(direction):
    world = cluster(rule(None, [port("http")]), direction=direction)
    assert reaches(world, "shop/client", "shop/old", 8080)
    assert not reaches(world, "shop/client", "shop/old", 80)
    assert reaches(world, "shop/client", "shop/new", 80)
    assert not reaches(world, "shop/client", "shop/new", 8080)


@both_directions
def test_a_named_port_means_the_number_declared_for_its_own_protocol(direction):
    world = cluster(rule(None, [port("http", protocol=Protocol.UDP)]), direction=direction)
    assert reaches(world, "shop/client", "shop/new", 81, UDP)
    assert not reaches(world, "shop/client", "shop/new", 81, TCP)
    assert not reaches(world, "shop/client", "shop/new", 80, UDP)
    assert not reaches(world, "shop/client", "shop/old", 8080, UDP)


@both_directions
def test_a_named_port_means_none_where_nobody_declares_it(direction):
    world = cluster(rule(None, [port("http")]), rule(None, [port(9)]), direction=direction)
    for number in (80, 8080):
        assert not reaches(world, "shop/client", "shop/bare", number)
    assert reaches(world, "shop/client", "shop/bare", 9)


def test_a_named_port_never_means_the_ports_of_the_pod_that_sends():
    sender = pod("shop/client", "app=client", host=6, ports=["http=8080"])
    one = policy("shop/ports", "app=client", egress=[rule(EVERYBODY, [port("http")])])
    world = World.of([namespace("shop")], [sender, NEW, BARE], NODES, [one])
    assert not reaches(world, "shop/client", "shop/bare", 8080)
    assert not reaches(world, "shop/client", "shop/new", 8080)
    assert reaches(world, "shop/client", "shop/new", 80)


def test_a_named_port_means_none_at_a_destination_that_is_no_pod_of_the_network():
    world = cluster(rule(EVERYBODY, [port("http"), port(9)]), direction="egress")
    for end in ("outside", "node/node-2", "shop/host"):
        assert not reaches(world, "shop/client", end, 8080)
        assert not reaches(world, "shop/client", end, 80)
        assert reaches(world, "shop/client", end, 9)


def test_of_a_name_that_a_pod_declares_twice_the_first_counts():
    twice = pod("shop/twice", "app=web", node=2, host=6, ports=["http=1/UDP", "http=2", "http=3"])
    one = policy("shop/ports", "app=web", ingress=[rule(None, [port("http")])])
    world = World.of([namespace("shop")], [CLIENT, twice], NODES, [one])
    assert reaches(world, "shop/client", "shop/twice", 2)
    assert not reaches(world, "shop/client", "shop/twice", 3)
    assert not reaches(world, "shop/client", "shop/twice", 1)


def test_a_port_that_is_not_known_is_only_in_all_ports_of_the_protocol():
    assert reaches(cluster(rule(None, [port()])), "shop/client", "shop/old", None)
    assert reaches(cluster(rule()), "shop/client", "shop/old", None)
    for named in (port(80), port(1, 65535), port("http")):
        assert not reaches(cluster(rule(None, [named])), "shop/client", "shop/old", None)


@both_directions
def test_a_rule_allows_only_what_fits_a_peer_and_a_port(direction):
    other = "app=client" if direction == "ingress" else "app=web"
    world = cluster(rule([peer(other)], [port(80)]), direction=direction)
    assert reaches(world, "shop/client", "shop/bare", 80)
    assert not reaches(world, "shop/client", "shop/bare", 81)
    pair = ("outside", "shop/bare") if direction == "ingress" else ("shop/client", "outside")
    assert not reaches(world, *pair, 80)


@both_directions
def test_the_peers_of_one_rule_do_not_go_with_the_ports_of_another(direction):
    other = "app=client" if direction == "ingress" else "app=web"
    world = cluster(
        rule([peer(other)], [port(80)]), rule(EVERYBODY, [port(443)]), direction=direction
    )
    pair = ("outside", "shop/bare") if direction == "ingress" else ("shop/client", "outside")
    assert reaches(world, *pair, 443)
    assert not reaches(world, *pair, 80)
    assert reaches(world, "shop/client", "shop/bare", 80)
    assert reaches(world, "shop/client", "shop/bare", 443)


def test_both_ends_must_allow_the_port():
    world = World.of(
        [namespace("shop")],
        PODS,
        NODES,
        [
            policy("shop/in", "app=web", ingress=[rule(None, [port(80, 90)])]),
            policy("shop/out", "app=client", egress=[rule(None, [port(85, 95)])]),
        ],
    )
    for number in range(79, 97):
        allowed = 85 <= number <= 90
        assert reaches(world, "shop/client", "shop/bare", number) is allowed
