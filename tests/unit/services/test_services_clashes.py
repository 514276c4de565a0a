"""Who has what several services want, and what is objected to."""

import pytest
from service_objects import (
    answer,
    endpoint_slice,
    node,
    outside_at,
    pod_on,
    process_on,
    service,
)

from ovsnet.model import ServiceRef
from ovsnet.services.claims import Hindrance
from ovsnet.services.objections import Objection, objections
from ovsnet.services.world import World

NODES = (node(1), node(2))
OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
SLICES = tuple(
    endpoint_slice(name, ("a=1", "b=2", "a=3/UDP"), address)
    for name, address in (("shop/web", "10.244.1.5"), ("bank/api", "10.244.2.5"))
)
WEB, API = {"10.244.1.5:1"}, {"10.244.2.5:1"}


def cluster(*services):
    return World.of(NODES, services, SLICES)


def objected(world):
    return [(str(o.service), o.field, o.value, o.reason.name) for o in objections(world)]


# --- who has it ---


@pytest.mark.parametrize(
    ("web", "api", "expected"), [(OLD, NEW, WEB), (NEW, OLD, API), (OLD, OLD, API)]
)
@pytest.mark.parametrize("faces", [("external", "external"), ("load_balancer", "external")])
def test_the_older_service_has_an_address_and_port_that_two_want(web, api, expected, faces):
    one = service("shop/web", "a=80", created=web, **{faces[0]: "198.51.100.1"})
    two = service(
        "bank/api", "a=80", cluster="10.96.0.2", created=api, **{faces[1]: "198.51.100.1"}
    )
    for world in (cluster(one, two), cluster(two, one)):
        assert answer(world, outside_at(1), "198.51.100.1:80") == expected
        assert answer(world, outside_at(1), "10.96.0.1:80") == WEB
        assert answer(world, outside_at(1), "10.96.0.2:80") == API


@pytest.mark.parametrize(
    ("web", "api", "expected"), [(OLD, NEW, WEB), (NEW, OLD, API), (OLD, OLD, API)]
)
def test_the_older_service_has_a_node_port_that_two_want(web, api, expected):
    one = service("shop/web", "a=80@30080", created=web)
    two = service("bank/api", "a=80@30080", cluster="10.96.0.2", created=api)
    world = cluster(one, two)
    for client in (outside_at(1), pod_on(1), process_on(1)):
        assert answer(world, client, "172.18.0.1:30080") == expected


def test_names_decide_by_namespace_first():
    one = service("bank/z", "a=80@30080", cluster="10.96.0.1")
    two = service("shop/a", "a=80@30080", cluster="10.96.0.2")
    slices = (
        endpoint_slice("bank/z", ("a=1",), "10.244.1.5"),
        endpoint_slice("shop/a", ("a=1",), "10.244.1.6"),
    )
    world = World.of(NODES, (two, one), slices)
    assert answer(world, outside_at(1), "172.18.0.1:30080") == {"10.244.1.5:1"}


def test_the_one_that_lost_gets_no_calls_even_if_the_other_has_no_endpoint():
    one = service("shop/none", "a=80@30080", external="198.51.100.1", created=OLD)
    two = service(
        "bank/api", "a=80@30080", cluster="10.96.0.2", external="198.51.100.1", created=NEW
    )
    world = cluster(one, two)
    for destination in ("198.51.100.1:80", "172.18.0.1:30080"):
        assert answer(world, outside_at(1), destination) == "refused"
    assert answer(world, outside_at(1), "10.96.0.2:80") == API


def test_protocols_do_not_clash():
    one = service("shop/web", "a=80@30080", external="198.51.100.1", created=OLD)
    two = service(
        "bank/api", "a=80@30080/UDP", cluster="10.96.0.2", external="198.51.100.1", created=NEW
    )
    world = cluster(one, two)
    assert answer(world, outside_at(1), "198.51.100.1:80/UDP") == {"10.244.2.5:3"}
    assert answer(world, outside_at(1), "172.18.0.1:30080/UDP") == {"10.244.2.5:3"}
    assert answer(world, outside_at(1), "172.18.0.1:30080") == WEB
    assert objections(world) == ()


def test_a_node_port_is_one_in_both_families():
    one = service("shop/web", "a=80@30080", created=OLD)
    two = service("bank/api", "a=80@30080", cluster="fd00:96::2", created=NEW)
    slices = (*SLICES, endpoint_slice("bank/api", ("a=1",), "fd00:10:244:1::5", name="six"))
    world = World.of(NODES, (one, two), slices)
    assert answer(world, outside_at(1), "172.18.0.1:30080") == WEB
    assert answer(world, outside_at(1, family=6), "[fd00:172:18::1]:30080") == "no service"
    assert answer(world, outside_at(1, family=6), "[fd00:96::2]:80") == {"[fd00:10:244:1::5]:1"}
    assert objected(world) == [
        ("bank/api", "spec.ports.nodePort", "node's TCP port 30080", "TAKEN")
    ]


def test_a_health_check_takes_part_in_clashes_of_node_ports():
    checked = {"load_balancer": "198.51.100.2", "local": "external", "health_check": 30080}
    one = service("shop/web", "a=80", created=OLD, **checked)
    two = service("bank/api", "a=80@30080", "a=81@30080/UDP", cluster="10.96.0.2", created=NEW)
    world = cluster(one, two)
    assert answer(world, outside_at(1), "172.18.0.1:30080") == 200
    assert answer(world, outside_at(1), "172.18.0.1:30080/UDP") == {"10.244.2.5:3"}
    assert objected(world) == [
        ("bank/api", "spec.ports.nodePort", "node's TCP port 30080", "TAKEN"),
    ]
    late = service("shop/web", "a=80", created="2026-01-03", **checked)
    world = cluster(late, two)
    assert answer(world, outside_at(1), "172.18.0.1:30080") == API
    assert objected(world) == [
        ("shop/web", "spec.healthCheckNodePort", "node's TCP port 30080", "TAKEN"),
    ]


def test_the_first_of_a_services_ports_has_what_two_of_them_want():
    both = service("shop/web", "a=80@30080", "b=80@30080")
    world = cluster(both)
    for destination in ("10.96.0.1:80", "172.18.0.1:30080"):
        assert answer(world, pod_on(1), destination) == WEB
    assert objections(world) == ()


# --- what is objected to ---


def test_nothing_is_objected_to_that_can_be_done():
    one = service(
        "shop/web",
        "a=80@30080",
        "a=80@30080/UDP",
        external="198.51.100.1 198.51.100.2",
        load_balancer="198.51.100.2",
        local="external",
        health_check=30081,
    )
    two = service("bank/api", "a=81@30082", cluster="10.96.0.2", external="198.51.100.1")
    assert objections(cluster(one, two)) == ()


def test_ports_that_an_older_service_has_are_objected_to_one_by_one():
    one = service("shop/web", "a=80@30080", "b=81", external="198.51.100.1", created=OLD)
    two = service(
        "bank/api",
        *("a=80@30080", "b=82"),
        cluster="10.96.0.2 fd00:96::2",
        load_balancer="198.51.100.1",
        created=NEW,
    )
    assert objected(cluster(one, two)) == [
        ("bank/api", "spec.ports.nodePort", "node's TCP port 30080", "TAKEN"),
        ("bank/api", "status.loadBalancer.ingress", "198.51.100.1, TCP port 80", "TAKEN"),
    ]


def test_a_cluster_address_that_two_services_have_is_the_older_ones_port_by_port():
    one = service("shop/web", "a=80", created=OLD)
    two = service("bank/api", "a=80", "b=81", created=NEW)
    world = cluster(one, two)
    assert answer(world, pod_on(1), "10.96.0.1:80") == WEB
    assert answer(world, pod_on(1), "10.96.0.1:81") == {"10.244.2.5:2"}
    assert objected(world) == [("bank/api", "spec.clusterIPs", "10.96.0.1, TCP port 80", "TAKEN")]


def test_addresses_in_pod_ranges_are_objected_to_and_not_their_ports():
    one = service(
        "shop/web",
        "a=80",
        cluster="10.244.1.9",
        external="10.244.2.9 198.51.100.1 10.244.2.8",
        load_balancer="10.244.2.8",
    )
    two = service("bank/api", "a=80", cluster="10.96.0.2", external="10.244.2.9")
    assert objected(cluster(one, two)) == [
        ("bank/api", "spec.externalIPs", "10.244.2.9", "POD_RANGE"),
        ("shop/web", "spec.clusterIPs", "10.244.1.9", "POD_RANGE"),
        ("shop/web", "spec.externalIPs", "10.244.2.9", "POD_RANGE"),
        ("shop/web", "status.loadBalancer.ingress", "10.244.2.8", "POD_RANGE"),
    ]


def test_a_port_that_is_wanted_by_two_fields_is_objected_to_once():
    one = service("shop/web", "a=80", external="198.51.100.1", created=OLD)
    two = service(
        "bank/api",
        "a=80",
        cluster="10.96.0.2",
        external="198.51.100.1",
        load_balancer="198.51.100.1",
        created=NEW,
    )
    assert objected(cluster(one, two)) == [
        ("bank/api", "status.loadBalancer.ingress", "198.51.100.1, TCP port 80", "TAKEN")
    ]


def test_another_services_cluster_address_is_objected_to_and_not_its_ports():
    one = service("shop/web", "a=80", created=NEW)
    two = service(
        "bank/api",
        "a=80",
        cluster="10.96.0.2",
        external="10.96.0.1 10.96.0.2",
        created=OLD,
    )
    three = service("bank/lb", "a=80", cluster="10.96.0.3", load_balancer="10.96.0.1")
    assert objected(cluster(one, two, three)) == [
        ("bank/api", "spec.externalIPs", "10.96.0.1", "CLUSTER_ADDRESS"),
        ("bank/lb", "status.loadBalancer.ingress", "10.96.0.1", "CLUSTER_ADDRESS"),
    ]


def test_endpoints_that_are_services_are_objected_to():
    one = service("shop/web", "a=80")
    two = service("bank/api", "a=80", cluster="10.96.0.2")
    loops = (
        endpoint_slice("shop/web", ("a=1",), "10.96.0.1", "10.96.0.2", "10.244.1.5"),
        endpoint_slice("shop/web", ("a=1",), "10.244.1.6", "10.96.0.2", name="b"),
        endpoint_slice("shop/unknown", ("a=1",), "10.96.0.2"),
    )
    world = World.of(NODES, (one, two), loops)
    assert objections(world) == tuple(
        Objection(ServiceRef("shop", "web"), "endpoints", text, Hindrance.SERVICE)
        for text in ("10.96.0.1", "10.96.0.2")
    )


def test_what_is_left_to_dns_is_objected_to_in_nothing():
    bare = service("shop/web", "a=80@30080", cluster="", external="10.244.1.9 10.96.0.2")
    two = service("bank/api", "a=80@30080", cluster="10.96.0.2", created="2027")
    world = World.of(NODES, (bare, two), (endpoint_slice("shop/web", ("a=1",), "10.96.0.2"),))
    assert objections(world) == ()


def test_an_address_is_judged_by_the_first_way_in_which_a_service_has_it():
    """It may well be a cluster address, though as another one it would be another service's."""
    one = service("shop/web", "a=80", created=OLD)
    two = service("bank/api", "b=81", load_balancer="10.96.0.1", created=NEW)
    world = cluster(one, two)
    assert objections(world) == ()
    assert answer(world, pod_on(1), "10.96.0.1:81") == {"10.244.2.5:2"}
