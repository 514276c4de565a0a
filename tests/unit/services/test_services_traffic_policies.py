"""Traffic policies, source ranges, and whose address an endpoint sees."""

import pytest
from service_objects import (
    answer,
    call,
    endpoint,
    endpoint_slice,
    node,
    outside_at,
    pod_on,
    process_on,
    service,
)

from ovsnet.services.evaluate import Dropped, Reason, Served, evaluate
from ovsnet.services.world import World

NODES = (node(1), node(2), node(3))
CLUSTER, EXTERNAL, BALANCER = "10.96.0.1:80", "198.51.100.1:80", "198.51.100.2:80"
OUTWARD = (EXTERNAL, BALANCER)
BOTH = {"10.244.1.5:8080", "10.244.2.5:8080"}
ONE, TWO = {"10.244.1.5:8080"}, {"10.244.2.5:8080"}


def world(*endpoints, **more):
    web = service(
        "shop/web", "http=80@30080", external="198.51.100.1", load_balancer="198.51.100.2", **more
    )
    return World.of(NODES, (web,), (endpoint_slice("shop/web", ("http=8080",), *endpoints),))


def own_port(client):
    return f"172.18.0.{client.node[-1]}:30080"


def inside(number):
    return (pod_on(number), process_on(number))


def everybody(number):
    return (*inside(number), outside_at(number))


# --- internalTrafficPolicy ---


def test_internal_local_keeps_calls_of_the_cluster_address_on_the_node():
    local = world("10.244.1.5", "10.244.2.5", local="internal")
    for client in everybody(1):
        assert answer(local, client, CLUSTER) == ONE
    for client in everybody(2):
        assert answer(local, client, CLUSTER) == TWO


def test_internal_local_says_nothing_about_other_addresses_and_node_ports():
    local = world("10.244.1.5", "10.244.2.5", local="internal")
    for client in everybody(1):
        for destination in (*OUTWARD, own_port(client)):
            assert answer(local, client, destination) == BOTH


def test_internal_local_drops_calls_where_only_other_nodes_have_an_endpoint():
    local = world("10.244.1.5", local="internal")
    for client in everybody(3):
        assert answer(local, client, CLUSTER) == "dropped"
        assert answer(local, client, EXTERNAL) == ONE
    outcome = evaluate(local, call(pod_on(3), CLUSTER))
    assert outcome == Dropped(("shop", "web"), Reason.NONE_HERE)


def test_internal_local_refuses_calls_where_no_node_has_an_endpoint():
    for endpoints in ((), (endpoint("10.244.1.5", "unready"),)):
        for client in everybody(1):
            assert answer(world(*endpoints, local="internal"), client, CLUSTER) == "refused"


# --- externalTrafficPolicy ---


def test_external_local_keeps_calls_from_outside_on_the_node():
    local = world("10.244.1.5", "10.244.2.5", local="external")
    for number, expected in ((1, ONE), (2, TWO)):
        client = outside_at(number)
        for destination in (*OUTWARD, own_port(client)):
            assert answer(local, client, destination) == expected


def test_external_local_says_nothing_about_the_cluster_address():
    local = world("10.244.1.5", "10.244.2.5", local="external")
    for client in everybody(1):
        assert answer(local, client, CLUSTER) == BOTH
    for client in everybody(3):
        assert answer(local, client, CLUSTER) == BOTH


def test_clients_inside_reach_all_endpoints_though_external_is_local():
    local = world("10.244.1.5", "10.244.2.5", local="external")
    for client in (*inside(1), *inside(3)):
        for destination in (*OUTWARD, own_port(client)):
            assert answer(local, client, destination) == BOTH


def test_clients_inside_follow_hints_though_external_is_local():
    hints = (endpoint("10.244.1.5", nodes="2"), endpoint("10.244.2.5", nodes="1"))
    local = world(*hints, local="external")
    for destination in (*OUTWARD, "172.18.0.1:30080"):
        assert answer(local, pod_on(1), destination) == TWO
        assert answer(local, outside_at(1), destination) == ONE


def test_external_local_drops_calls_from_outside_where_only_other_nodes_have_an_endpoint():
    local = world("10.244.1.5", local="external")
    client = outside_at(3)
    for destination in (*OUTWARD, own_port(client)):
        assert answer(local, client, destination) == "dropped"


def test_external_local_refuses_calls_where_no_node_has_an_endpoint():
    local = world(endpoint("10.244.1.5", "gone"), local="external")
    for client in everybody(1):
        for destination in (*OUTWARD, own_port(client)):
            assert answer(local, client, destination) == "refused"


def test_without_external_local_calls_from_outside_reach_all_endpoints():
    for local in ("", "internal"):
        spread = world("10.244.1.5", "10.244.2.5", local=local)
        for client in (outside_at(1), outside_at(3)):
            for destination in (*OUTWARD, own_port(client)):
                assert answer(spread, client, destination) == BOTH


# --- Local, and conditions ---


def test_local_falls_back_to_endpoints_that_drain_on_its_node_alone():
    local = world(endpoint("10.244.1.5", "draining"), "10.244.2.5", local="internal external")
    assert answer(local, pod_on(1), CLUSTER) == ONE
    assert answer(local, outside_at(1), EXTERNAL) == ONE
    assert answer(local, pod_on(1), EXTERNAL) == TWO
    assert answer(local, pod_on(3), CLUSTER) == "dropped"


def test_local_prefers_ready_endpoints_on_its_node():
    local = world("10.244.1.5", endpoint("10.244.1.6", "draining"), local="internal")
    assert answer(local, pod_on(1), CLUSTER) == ONE


def test_local_drops_where_others_only_drain():
    local = world(endpoint("10.244.2.5", "draining"), local="internal external")
    assert answer(local, pod_on(1), CLUSTER) == "dropped"
    assert answer(local, outside_at(1), EXTERNAL) == "dropped"


def test_local_passes_over_hints():
    hints = (endpoint("10.244.1.5", nodes="2", zones="z"), endpoint("10.244.2.5", nodes="1"))
    assert answer(world(*hints, local="internal"), pod_on(1), CLUSTER) == ONE


def test_an_endpoint_on_no_node_is_local_nowhere():
    local = world(endpoint("203.0.113.80"), endpoint("10.244.1.5", node=0), local="internal")
    for number in (1, 2):
        assert answer(local, pod_on(number), CLUSTER) == "dropped"


def test_a_hostnetwork_endpoint_is_local_on_its_node():
    local = world("172.18.0.1", "172.18.0.2", local="internal external")
    assert answer(local, pod_on(1), CLUSTER) == {"172.18.0.1:8080"}
    assert answer(local, outside_at(2), "172.18.0.2:30080") == {"172.18.0.2:8080"}


# --- loadBalancerSourceRanges ---

RANGES = "203.0.113.0/24 10.244.1.0/24"


def test_source_ranges_keep_others_out_of_load_balancer_addresses():
    narrow = world("10.244.2.5", sources=RANGES)
    for client in (outside_at(1), outside_at(2), pod_on(1), process_on(1)):
        assert answer(narrow, client, BALANCER) == TWO
    for client in (outside_at(1, "198.51.100.77"), outside_at(1, "203.0.114.1"), *inside(2)):
        assert answer(narrow, client, BALANCER) == "dropped"
    outcome = evaluate(narrow, call(pod_on(2), BALANCER))
    assert outcome == Dropped(("shop", "web"), Reason.SOURCE_RANGES)


def test_source_ranges_say_nothing_about_other_faces():
    narrow = world("10.244.2.5", sources="192.0.2.0/24")
    for client in everybody(1):
        for destination in (CLUSTER, EXTERNAL, own_port(client)):
            assert answer(narrow, client, destination) == TWO


def test_source_ranges_say_nothing_about_ports_that_are_not_there():
    narrow = world("10.244.2.5", sources="192.0.2.0/24")
    assert answer(narrow, outside_at(1), "198.51.100.2:81") == "refused"


def test_who_is_kept_out_is_not_told_that_there_is_no_endpoint():
    narrow = world(sources=RANGES)
    assert answer(narrow, outside_at(1, "198.51.100.77"), BALANCER) == "dropped"
    assert answer(narrow, outside_at(1), BALANCER) == "refused"


def test_ranges_of_which_none_was_understood_admit_nobody():
    for client in everybody(1):
        assert answer(world("10.244.2.5", sources=""), client, BALANCER) == "dropped"
        assert answer(world("10.244.2.5", sources=None), client, BALANCER) == TWO


def test_ranges_of_one_family_admit_nobody_of_the_other():
    dual = service(
        "shop/web",
        "http=80",
        cluster="10.96.0.1 fd00:96::1",
        load_balancer="198.51.100.2 2001:db8:1::2",
        sources="0.0.0.0/0",
    )
    six = endpoint_slice("shop/web", ("http=8080",), "fd00:10:244:2::5")
    both = World.of(NODES, (dual,), (six,))
    assert answer(both, outside_at(1, family=6), "[2001:db8:1::2]:80") == "dropped"
    assert answer(both, outside_at(1), BALANCER) == "refused"


def test_an_external_address_that_is_the_load_balancers_too_has_its_ranges():
    web = service(
        "shop/web", "http=80", external="198.51.100.2", load_balancer="198.51.100.2", sources=RANGES
    )
    shared = World.of(NODES, (web,), (endpoint_slice("shop/web", ("http=8080",), "10.244.2.5"),))
    assert answer(shared, outside_at(1), BALANCER) == TWO
    assert answer(shared, outside_at(1, "198.51.100.77"), BALANCER) == "dropped"


# --- whose address an endpoint sees ---

POD, HOST, BEYOND = "10.244.1.5", "172.18.0.1", "203.0.113.80"


def seen(of, client, destination):
    """The endpoints that must see the client's address, and those that must see another."""
    outcome = evaluate(of, call(client, destination))
    assert isinstance(outcome, Served)
    return {str(e.address) for e in outcome.kept}, {str(e.address) for e in outcome.hidden}


def test_pods_see_the_pod_that_calls_them_by_whatever_address():
    for local in ("", "internal external"):
        spread = world(POD, "10.244.2.5", local=local)
        for destination in (*OUTWARD, "172.18.0.1:30080"):
            assert seen(spread, pod_on(1), destination) == ({POD, "10.244.2.5"}, set())
    assert seen(world(POD, "10.244.2.5"), pod_on(1), CLUSTER) == ({POD, "10.244.2.5"}, set())


def test_a_pod_that_reaches_itself_sees_another_address():
    spread = world(POD, "10.244.1.6", "10.244.2.5")
    itself = pod_on(1, host=5)
    for destination in (CLUSTER, *OUTWARD, "172.18.0.1:30080"):
        assert seen(spread, itself, destination) == ({"10.244.1.6", "10.244.2.5"}, {POD})


def test_what_is_no_pod_may_see_a_pods_or_a_nodes_address():
    assert seen(world(HOST, BEYOND), pod_on(1), CLUSTER) == (set(), set())


def test_a_client_outside_is_seen_where_external_is_local():
    local = world(POD, "10.244.2.5", HOST, local="external")
    for destination in (*OUTWARD, "172.18.0.1:30080"):
        assert seen(local, outside_at(1), destination) == ({POD, HOST}, set())


def test_a_client_outside_may_be_seen_or_not_where_external_is_not_local():
    for local in ("", "internal"):
        spread = world(POD, "10.244.2.5", HOST, local=local)
        for destination in (*OUTWARD, "172.18.0.1:30080"):
            assert seen(spread, outside_at(1), destination) == (set(), set())


def test_a_client_outside_may_be_seen_or_not_by_a_cluster_address():
    local = world(POD, local="internal external")
    assert seen(local, outside_at(1), CLUSTER) == (set(), set())


def test_an_endpoint_that_is_said_to_be_on_a_node_and_is_elsewhere_may_see_either():
    astray = world(endpoint(BEYOND, node=1), endpoint("10.244.2.5", node=1), local="external")
    assert seen(astray, outside_at(1), EXTERNAL) == (set(), set())
    unknown = world(endpoint("10.244.1.5", node=9), local="external")
    assert seen(unknown, outside_at(9), EXTERNAL) == (set(), set())


@pytest.mark.parametrize("local", ["", "external", "internal"])
def test_a_process_of_a_node_may_be_seen_or_not(local):
    assert seen(world(POD, HOST, local=local), process_on(1), CLUSTER) == (set(), set())


@pytest.mark.parametrize("local", ["", "external"])
def test_whoever_calls_himself_sees_another_address(local):
    beyond = world(endpoint(BEYOND, node=1), local=local)
    assert seen(beyond, outside_at(1, BEYOND), EXTERNAL) == (set(), {BEYOND})
