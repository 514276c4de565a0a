"""Which endpoints may take a call: slices, conditions, hints."""

import pytest
from service_objects import (
    answer,
    endpoint,
    endpoint_slice,
    node,
    outside_at,
    pod_on,
    process_on,
    service,
)

from ovsnet.services.world import World

NODES = (node(1, "east"), node(2, "west"), node(3))
WEB = service("shop/web", "http=80")
POD = pod_on(1)


def served(*slices, by=WEB, client=POD, destination="10.96.0.1:80"):
    return answer(World.of(NODES, (by,), slices), client, destination)


def of(*endpoints, **more):
    return served(endpoint_slice("shop/web", ("http=8080",), *endpoints), **more)


# --- slices ---


def test_a_slice_belongs_to_the_service_that_it_names_in_its_own_namespace():
    mine = endpoint_slice("shop/web", ("http=8080",), "10.244.1.5")
    neighbour = endpoint_slice("shop/api", ("http=8080",), "10.244.1.6")
    stranger = endpoint_slice("bank/web", ("http=8080",), "10.244.1.7")
    assert served(mine, neighbour, stranger) == {"10.244.1.5:8080"}
    assert served(neighbour, stranger) == "refused"


def test_all_slices_of_a_service_count():
    one = endpoint_slice("shop/web", ("http=8080",), "10.244.1.5", name="a")
    two = endpoint_slice("shop/web", ("http=8080",), "10.244.2.5", name="b")
    empty = endpoint_slice("shop/web", ("http=8080",), name="c")
    assert served(one, two, empty) == {"10.244.1.5:8080", "10.244.2.5:8080"}
    assert served(empty) == "refused"


def test_slices_of_one_service_may_have_different_port_numbers():
    old = endpoint_slice("shop/web", ("http=8080",), "10.244.1.5", name="a")
    new = endpoint_slice("shop/web", ("http=9090",), "10.244.2.5", name="b")
    assert served(old, new) == {"10.244.1.5:8080", "10.244.2.5:9090"}


def test_a_slices_port_is_the_services_of_the_same_name_and_protocol():
    ports = ("http=8080", "https=8443", "http=8081/UDP", "9999")
    one = endpoint_slice("shop/web", ports, "10.244.1.5")
    assert served(one) == {"10.244.1.5:8080"}
    assert served(endpoint_slice("shop/web", ports[1:], "10.244.1.5")) == "refused"


def test_a_port_without_a_name_is_the_one_without_a_name():
    one = endpoint_slice("shop/web", ("8080", "http=9090"), "10.244.1.5")
    assert served(one, by=service("shop/web", "80")) == {"10.244.1.5:8080"}


def test_two_ports_of_a_service_may_lead_to_one_port_of_an_endpoint():
    both = service("shop/web", "http=80", "alt=81")
    one = endpoint_slice("shop/web", ("http=8080", "alt=8080"), "10.244.1.5")
    for port in (80, 81):
        assert served(one, by=both, destination=f"10.96.0.1:{port}") == {"10.244.1.5:8080"}


def test_an_endpoint_needs_no_node_and_no_pod():
    outside = endpoint("203.0.113.80")
    assert outside.node == ""
    assert of(outside) == {"203.0.113.80:8080"}


def test_hostnetwork_endpoints_have_their_nodes_address():
    for client in (pod_on(1), process_on(1), process_on(2), outside_at(2)):
        assert of("172.18.0.1", client=client) == {"172.18.0.1:8080"}


@pytest.mark.parametrize("endpoints", [("10.96.0.1", "10.244.1.5"), ("10.96.0.2", "10.244.1.5")])
def test_an_endpoint_that_is_a_services_cluster_address_is_left_out(endpoints):
    other = service("bank/api", "api=443", cluster="10.96.0.2")
    one = endpoint_slice("shop/web", ("http=8080",), *endpoints)
    world = World.of(NODES, (WEB, other), (one,))
    assert answer(world, pod_on(1), "10.96.0.1:80") == {"10.244.1.5:8080"}
    alone = World.of(
        NODES, (WEB, other), (endpoint_slice("shop/web", ("http=8080",), endpoints[0]),)
    )
    assert answer(alone, pod_on(1), "10.96.0.1:80") == "refused"


def test_a_pod_stays_an_endpoint_though_a_service_wants_its_address():
    thief = service("bank/thief", "http=80", cluster="10.244.1.5")
    one = endpoint_slice("shop/web", ("http=8080",), "10.244.1.5")
    assert answer(World.of(NODES, (WEB, thief), (one,)), pod_on(1), "10.96.0.1:80") == {
        "10.244.1.5:8080"
    }


# --- conditions ---


@pytest.mark.parametrize("state", ["ready", "published"])
def test_endpoints_that_are_ready_are_used_whatever_else_is_said_of_them(state):
    assert of(endpoint("10.244.1.5", state), endpoint("10.244.2.5")) == {
        "10.244.1.5:8080",
        "10.244.2.5:8080",
    }


@pytest.mark.parametrize("state", ["draining", "unready", "gone", "serving"])
def test_endpoints_that_are_not_ready_are_not_used_while_others_are(state):
    assert of(endpoint("10.244.1.5", state), endpoint("10.244.2.5")) == {"10.244.2.5:8080"}


def test_endpoints_that_drain_are_used_when_none_is_ready():
    assert of(
        endpoint("10.244.1.5", "draining"),
        endpoint("10.244.2.5", "draining"),
        endpoint("10.244.1.6", "gone"),
        endpoint("10.244.1.7", "serving"),
        endpoint("10.244.1.8", "unready"),
    ) == {"10.244.1.5:8080", "10.244.2.5:8080"}


@pytest.mark.parametrize("state", ["unready", "gone", "serving"])
def test_endpoints_that_neither_are_ready_nor_drain_are_none(state):
    assert of(endpoint("10.244.1.5", state)) == "refused"


# --- one endpoint in several slices ---


def copies(*states):
    return [
        endpoint_slice("shop/web", ("http=8080",), endpoint("10.244.1.5", state), name=name)
        for name, state in zip("abc", states, strict=False)
    ]


def test_an_endpoint_in_several_slices_counts_once():
    assert served(*copies("ready", "ready", "ready")) == {"10.244.1.5:8080"}


@pytest.mark.parametrize("states", [("ready", "unready"), ("unready", "ready"), ("gone", "ready")])
def test_an_endpoint_is_ready_if_one_of_its_slices_says_so(states):
    assert served(*copies(*states)) == {"10.244.1.5:8080"}
    other = endpoint_slice("shop/web", ("http=8080",), "10.244.2.5", name="z")
    assert served(*copies(*states), other) == {"10.244.1.5:8080", "10.244.2.5:8080"}


@pytest.mark.parametrize("states", [("draining", "unready"), ("serving", "draining")])
def test_an_endpoint_drains_if_one_of_its_slices_says_so_and_none_that_it_is_ready(states):
    assert served(*copies(*states)) == {"10.244.1.5:8080"}
    other = endpoint_slice("shop/web", ("http=8080",), "10.244.2.5", name="z")
    assert served(*copies(*states), other) == {"10.244.2.5:8080"}


def test_conditions_of_different_copies_do_not_add_up():
    serving = endpoint_slice("shop/web", ("http=8080",), endpoint("10.244.1.5", "serving"))
    gone = endpoint_slice("shop/web", ("http=8080",), endpoint("10.244.1.5", "gone"), name="b")
    assert served(serving, gone) == "refused"


def test_of_equally_good_copies_the_first_slice_by_name_says_where_it_is():
    local = service("shop/web", "http=80", local="internal")
    a = endpoint_slice("shop/web", ("http=8080",), endpoint("10.244.1.5", node=1), name="a")
    b = endpoint_slice("shop/web", ("http=8080",), endpoint("10.244.1.5", node=2), name="b")
    for slices in ((a, b), (b, a)):
        assert served(*slices, by=local, client=pod_on(1)) == {"10.244.1.5:8080"}
        assert served(*slices, by=local, client=pod_on(2)) == "dropped"


# --- hints ---


def hinted(*hints, client=POD, state="ready"):
    endpoints = [
        endpoint(f"10.244.{number}.5", state, **hint) for number, hint in enumerate(hints, 1)
    ]
    found = of(*endpoints, client=client)
    return sorted(int(text.split(".")[2]) for text in found)


EAST, WEST = {"zones": "east"}, {"zones": "west"}
ONE, TWO = {"nodes": "1"}, {"nodes": "2"}


def test_without_hints_all_endpoints_are_used():
    assert hinted({}, {}) == [1, 2]


def test_hints_for_zones_keep_traffic_in_the_zone_of_the_node():
    assert hinted(EAST, WEST, client=pod_on(1)) == [1]
    assert hinted(EAST, WEST, client=pod_on(2)) == [2]
    assert hinted(EAST, WEST, client=outside_at(2)) == [2]
    assert hinted(EAST, {"zones": "west east"}, client=process_on(1)) == [1, 2]


def test_a_node_without_a_zone_uses_all_endpoints():
    assert hinted(EAST, WEST, client=pod_on(3)) == [1, 2]


def test_hints_count_only_if_every_ready_endpoint_has_them():
    assert hinted(EAST, {}) == [1, 2]
    assert hinted(ONE, {}) == [1, 2]
    assert hinted(EAST, ONE) == [1, 2]


def test_hints_count_only_if_one_fits():
    assert hinted(WEST, WEST, client=pod_on(1)) == [1, 2]
    assert hinted(TWO, TWO, client=pod_on(1)) == [1, 2]


def test_hints_for_nodes_come_before_those_for_zones():
    both = ({"nodes": "2", "zones": "east"}, {"nodes": "1", "zones": "west"})
    assert hinted(*both, client=pod_on(1)) == [2]
    assert hinted(*both, client=pod_on(2)) == [1]


def test_hints_for_zones_are_used_where_those_for_nodes_do_not_fit():
    both = ({"nodes": "3", "zones": "east"}, {"nodes": "3", "zones": "west"})
    assert hinted(*both, client=pod_on(1)) == [1]
    assert hinted(*both, client=pod_on(3)) == [1, 2]
    assert hinted({"nodes": "1", "zones": "east"}, {"zones": "west"}, client=pod_on(2)) == [2]


def test_endpoints_that_are_not_ready_have_no_say_in_hints():
    ready = (endpoint("10.244.1.5", zones="east"), endpoint("10.244.2.5", zones="west"))
    assert of(*ready, endpoint("10.244.2.6", "draining")) == {"10.244.1.5:8080"}
    west = endpoint("10.244.2.5", zones="west")
    unready = endpoint("10.244.1.5", "unready", zones="east")
    assert of(west, endpoint("10.244.2.6", zones="west"), unready) == {
        "10.244.2.5:8080",
        "10.244.2.6:8080",
    }


def test_endpoints_that_drain_are_used_whatever_their_hints():
    assert hinted(EAST, WEST, state="draining") == [1, 2]
    assert hinted(ONE, TWO, state="draining") == [1, 2]


def test_the_hints_of_an_endpoint_are_those_of_the_copy_that_counts():
    unready = endpoint_slice(
        "shop/web", ("http=8080",), endpoint("10.244.1.5", "unready", zones="west"), name="a"
    )
    ready = endpoint_slice(
        "shop/web",
        ("http=8080",),
        endpoint("10.244.1.5", zones="east"),
        endpoint("10.244.2.5", zones="west"),
        name="b",
    )
    assert served(unready, ready, client=pod_on(1)) == {"10.244.1.5:8080"}
