"""Session affinity, and health checks of nodes."""

import pytest
from service_objects import (
    answer,
    call,
    endpoint,
    endpoint_slice,
    in_short,
    node,
    outside_at,
    pod_on,
    process_on,
    service,
)

from ovsnet.model import parse_address
from ovsnet.services.evaluate import evaluate, evaluate_again
from ovsnet.services.world import Endpoint, World

NODES = (node(1), node(2))
ONE, TWO = "10.244.1.5", "10.244.2.5"
CHECKED = {"load_balancer": "198.51.100.2", "local": "external", "health_check": 31000}


def world(*endpoints, ports=("http=80@30080",), **more):
    web = service("shop/web", *ports, **more)
    return World.of(NODES, (web,), (endpoint_slice("shop/web", ("http=8080",), *endpoints),))


def again(of, client, destination, earlier):
    earlier = Endpoint(parse_address(earlier), 8080)
    return in_short(evaluate_again(of, call(client, destination), earlier))


# --- session affinity ---


@pytest.mark.parametrize("destination", ["10.96.0.1:80", "172.18.0.1:30080"])
def test_with_affinity_a_client_reaches_the_endpoint_that_it_had(destination):
    sticky = world(ONE, TWO, affinity=60)
    for client in (pod_on(1), process_on(1), outside_at(1)):
        assert answer(sticky, client, destination) == {f"{ONE}:8080", f"{TWO}:8080"}
        for earlier in (ONE, TWO):
            assert again(sticky, client, destination, earlier) == {f"{earlier}:8080"}


def test_without_affinity_a_client_may_reach_another_endpoint():
    both = {f"{ONE}:8080", f"{TWO}:8080"}
    assert again(world(ONE, TWO), pod_on(1), "10.96.0.1:80", ONE) == both


@pytest.mark.parametrize("state", ["draining", "unready"])
def test_an_endpoint_that_is_not_used_any_more_is_forgotten(state):
    sticky = world(endpoint(ONE, state), TWO, affinity=60)
    assert again(sticky, pod_on(1), "10.96.0.1:80", ONE) == {f"{TWO}:8080"}
    assert again(world(TWO, affinity=60), pod_on(1), "10.96.0.1:80", ONE) == {f"{TWO}:8080"}


def test_affinity_changes_nothing_where_nobody_answers():
    assert again(world(affinity=60), pod_on(1), "10.96.0.1:80", ONE) == "refused"
    local = world(ONE, affinity=60, local="internal")
    assert again(local, pod_on(2), "10.96.0.1:80", ONE) == "dropped"


def test_whose_address_is_seen_does_not_depend_on_affinity():
    sticky = world(ONE, TWO, affinity=60)
    first = call(pod_on(1, host=5), "10.96.0.1:80")
    one, two = Endpoint(parse_address(ONE), 8080), Endpoint(parse_address(TWO), 8080)
    assert evaluate(sticky, first).kept == {two}
    assert evaluate_again(sticky, first, one).kept == frozenset()
    assert evaluate_again(sticky, first, one).hidden == {one}
    assert evaluate_again(sticky, first, two).hidden == frozenset()
    assert evaluate_again(sticky, first, two).kept == {two}


# --- healthCheckNodePort ---


@pytest.mark.parametrize("whose", [pod_on, process_on, outside_at])
def test_a_node_is_healthy_if_it_has_a_ready_endpoint(whose):
    checked = world(ONE, **CHECKED)
    for address in ("172.18.0.1", "10.244.1.255"):
        assert answer(checked, whose(1), f"{address}:31000") == 200
    assert answer(checked, whose(2), "172.18.0.2:31000") == 503


@pytest.mark.parametrize("state", ["draining", "unready", "gone", "serving"])
def test_endpoints_that_are_not_ready_do_not_make_a_node_healthy(state):
    assert answer(world(endpoint(ONE, state), **CHECKED), outside_at(1), "172.18.0.1:31000") == 503


def test_an_endpoint_of_one_of_its_ports_is_enough():
    checked = world(ONE, ports=("other=81", "http=80"), **CHECKED)
    assert answer(checked, outside_at(1), "172.18.0.1:31000") == 200
    strange = world(ONE, ports=("other=81",), **CHECKED)
    assert answer(strange, outside_at(1), "172.18.0.1:31000") == 503


@pytest.mark.parametrize("ready", [ONE, "fd00:10:244:1::5"])
def test_health_is_the_same_in_both_families_of_a_service(ready):
    checked = world(ready, cluster="10.96.0.1 fd00:96::1", **CHECKED)
    for number, status in ((1, 200), (2, 503)):
        assert answer(checked, outside_at(number), f"172.18.0.{number}:31000") == status
        client = outside_at(number, family=6)
        assert answer(checked, client, f"[fd00:172:18::{number}]:31000") == status


def test_nobody_answers_health_checks_in_a_family_that_the_service_does_not_have():
    """As with kube-proxy, which has a server for each family, with the services of that."""
    checked = world(ONE, **CHECKED)
    assert answer(checked, outside_at(1, family=6), "[fd00:172:18::1]:31000") == "no service"


def test_the_port_of_health_checks_is_tcp_and_of_the_node_itself():
    checked = world(ONE, **CHECKED)
    for destination in ("172.18.0.1:31000/UDP", "172.18.0.1:31001", "172.18.0.2:31000"):
        assert answer(checked, outside_at(1), destination) == "no service"
    for destination in ("10.96.0.1:31000", "198.51.100.2:31000"):
        assert answer(checked, outside_at(1), destination) == "refused"


def test_a_service_without_health_checks_has_no_port_for_them():
    plain = world(ONE, load_balancer="198.51.100.2", local="external")
    for port in (0, 31000):
        assert answer(plain, outside_at(1), f"172.18.0.1:{port}") == "no service"
