"""What is a service's and what is not: addresses, ports, families, node ports."""

from ipaddress import ip_network

import pytest
from msgspec.structs import replace
from service_objects import (
    answer,
    call,
    endpoint_slice,
    node,
    outside_at,
    pod_on,
    process_on,
    service,
)

from ovsnet.services.claims import Face
from ovsnet.services.evaluate import (
    NotAService,
    Reason,
    Refused,
    Served,
    evaluate,
    onward,
)
from ovsnet.services.world import World

NODES = (node(1), node(2))
WEB = service(
    "shop/web",
    "http=80@30080",
    "dns=53@30053/UDP",
    external="198.51.100.1",
    load_balancer="198.51.100.2",
)
SLICE = endpoint_slice("shop/web", ("http=8080", "dns=5353/UDP"), "10.244.1.5", "10.244.2.5")
HTTP = {"10.244.1.5:8080", "10.244.2.5:8080"}
DNS = {"10.244.1.5:5353", "10.244.2.5:5353"}
EVERY_CLIENT = (pod_on(1), process_on(1), outside_at(1), pod_on(2), process_on(2), outside_at(2))


def cluster(*services, slices=(SLICE,)):
    return World.of(NODES, services, slices)


# --- addresses ---


def test_every_address_of_a_service_leads_everybody_to_its_endpoints():
    world = cluster(WEB)
    for client in EVERY_CLIENT:
        for address in ("10.96.0.1", "198.51.100.1", "198.51.100.2"):
            assert answer(world, client, f"{address}:80") == HTTP
            assert answer(world, client, f"{address}:53/UDP") == DNS


def test_an_outcome_says_which_service_took_the_call_and_by_what():
    world = cluster(WEB)
    for destination, face in (
        ("10.96.0.1:80", Face.CLUSTER),
        ("198.51.100.1:80", Face.EXTERNAL),
        ("198.51.100.2:80", Face.LOAD_BALANCER),
        ("172.18.0.1:30080", Face.NODE_PORT),
    ):
        outcome = evaluate(world, call(outside_at(1), destination))
        assert isinstance(outcome, Served)
        assert (outcome.service, outcome.port, outcome.face) == (WEB.ref, WEB.ports[0], face)


def test_addresses_that_no_service_has_are_not_services():
    world = cluster(WEB)
    for destination in ("10.96.0.2:80", "10.244.1.5:8080", "10.244.1.5:80", "203.0.113.9:80"):
        for client in EVERY_CLIENT:
            assert answer(world, client, destination) == "no service"


def test_ports_that_a_service_does_not_have_are_refused_at_all_of_its_addresses():
    world = cluster(WEB)
    for client in EVERY_CLIENT:
        for address in ("10.96.0.1", "198.51.100.1", "198.51.100.2"):
            for rest in (":79", ":81", ":30080", ":8080", ":53", ":80/UDP", ":80/SCTP", ""):
                assert answer(world, client, f"{address}{rest}") == "refused"


def test_what_is_refused_for_its_port_is_told_from_what_has_no_endpoint():
    world = cluster(WEB, slices=())
    for destination, reason in (
        ("10.96.0.1:81", Reason.NO_SUCH_PORT),
        ("10.96.0.1", Reason.NO_SUCH_PORT),
        ("10.96.0.1:80", Reason.NO_ENDPOINT),
    ):
        assert evaluate(world, call(pod_on(1), destination)) == Refused(WEB.ref, reason)


def test_a_service_without_an_endpoint_refuses_by_every_face():
    world = cluster(WEB, slices=())
    for client in EVERY_CLIENT:
        own = f"172.18.0.{client.node[-1]}:30080"
        for destination in ("10.96.0.1:80", "198.51.100.1:80", "198.51.100.2:80", own):
            assert answer(world, client, destination) == "refused"


def test_a_service_without_a_cluster_address_is_left_to_dns():
    headless = service("shop/web", "http=80@30080", cluster="", external="198.51.100.1")
    world = cluster(headless)
    for destination in ("198.51.100.1:80", "198.51.100.1:81", "172.18.0.1:30080"):
        assert answer(world, outside_at(1), destination) == "no service"


def test_several_services_may_share_an_address_with_different_ports():
    other = service("bank/api", "api=443", cluster="10.96.0.2", external="198.51.100.1")
    theirs = endpoint_slice("bank/api", ("api=8443",), "10.244.2.9")
    world = cluster(WEB, other, slices=(SLICE, theirs))
    assert answer(world, pod_on(1), "198.51.100.1:80") == HTTP
    assert answer(world, pod_on(1), "198.51.100.1:443") == {"10.244.2.9:8443"}
    assert answer(world, pod_on(1), "198.51.100.1:444") == "refused"


# --- families ---


def test_both_families_of_a_dual_stack_service_have_endpoints_of_their_own():
    dual = service("shop/web", "http=80@30080", cluster="10.96.0.1 fd00:96::1")
    four = endpoint_slice("shop/web", ("http=8080",), "10.244.1.5")
    six = endpoint_slice("shop/web", ("http=8080",), "fd00:10:244:2::5", name="b")
    world = cluster(dual, slices=(four, six))
    assert answer(world, pod_on(1), "10.96.0.1:80") == {"10.244.1.5:8080"}
    assert answer(world, pod_on(1), "172.18.0.1:30080") == {"10.244.1.5:8080"}
    for destination in ("[fd00:96::1]:80", "[fd00:172:18::1]:30080"):
        assert answer(world, pod_on(1, family=6), destination) == {"[fd00:10:244:2::5]:8080"}


def test_slices_of_the_other_family_are_no_endpoints():
    six = endpoint_slice("shop/web", ("http=8080",), "fd00:10:244:2::5")
    assert answer(cluster(WEB, slices=(six,)), pod_on(1), "10.96.0.1:80") == "refused"


def test_a_service_has_no_face_in_a_family_that_it_does_not_have():
    one = service("shop/web", "http=80@30080", external="2001:db8:1::1 198.51.100.1")
    six = endpoint_slice("shop/web", ("http=8080",), "fd00:10:244:2::5", name="b")
    world = cluster(one, slices=(SLICE, six))
    for destination in ("[2001:db8:1::1]:80", "[2001:db8:1::1]:81", "[fd00:172:18::1]:30080"):
        assert answer(world, pod_on(1, family=6), destination) == "no service"
    assert answer(world, pod_on(1), "198.51.100.1:80") == HTTP


# --- node ports ---


@pytest.mark.parametrize("client", [pod_on(1), process_on(1), outside_at(1)])
def test_a_node_port_is_a_port_of_every_address_of_the_node(client):
    world = cluster(WEB)
    for address in ("172.18.0.1", "10.244.1.255"):
        assert answer(world, client, f"{address}:30080") == HTTP
        assert answer(world, client, f"{address}:30053/UDP") == DNS


def test_a_node_port_is_no_port_of_the_gateway_nor_of_the_service_address():
    """Answers go there, and would be taken for calls of node ports."""
    world = cluster(WEB)
    for client in (pod_on(1), process_on(1), outside_at(1)):
        for address in ("10.244.1.1", "10.244.1.2"):
            assert answer(world, client, f"{address}:30080") == "no service"


@pytest.mark.parametrize("client", [pod_on(1), process_on(1), outside_at(1)])
def test_other_ports_of_a_node_are_its_own_business(client):
    world = cluster(WEB)
    for rest in (":80", ":30079", ":30081", ":30080/UDP", ":30053", ":30080/SCTP", ""):
        assert answer(world, client, f"172.18.0.1{rest}") == "no service"


def test_a_node_port_is_none_at_a_loopback_address():
    world = cluster(WEB, service("shop/six", "http=80@30081", cluster="fd00:96::1"))
    assert answer(world, process_on(1), "127.0.0.1:30080") == "no service"
    assert answer(world, process_on(1, 6), "[::1]:30081") == "no service"
    assert answer(world, process_on(1, 6), "[fd00:172:18::1]:30081") == "refused"


@pytest.mark.parametrize("client", [pod_on(1), process_on(1)])
def test_another_nodes_port_is_called_from_outside_with_the_first_nodes_address(client):
    world = cluster(WEB)
    first = call(client, "172.18.0.2:30080")
    assert evaluate(world, first) == NotAService()
    second = onward(world, first)
    assert second == call(outside_at(2, "172.18.0.1"), "172.18.0.2:30080")
    assert answer(world, second.client, "172.18.0.2:30080") == HTTP


def test_a_call_goes_on_in_its_own_family():
    first = call(pod_on(1, family=6), "[fd00:172:18::2]:30080")
    assert onward(cluster(WEB), first).client == outside_at(2, "fd00:172:18::1")


def test_nothing_else_goes_on_to_another_node():
    world = cluster(WEB)
    for destination in (
        *("10.96.0.1:80", "10.96.0.1:81", "172.18.0.1:30080", "172.18.0.1:22"),
        *("10.244.2.1:30080", "10.244.2.5:8080", "203.0.113.9:80", "172.18.0.9:30080"),
    ):
        assert onward(world, call(pod_on(1), destination)) is None
    assert onward(world, call(pod_on(1), "172.18.0.2:22")) is not None


def test_a_service_takes_calls_of_another_nodes_address_that_it_names():
    world = cluster(service("shop/web", "http=80", external="172.18.0.2"))
    assert answer(world, pod_on(1), "172.18.0.2:80") == HTTP
    assert onward(world, call(pod_on(1), "172.18.0.2:80")) is None
    assert onward(world, call(pod_on(1), "172.18.0.2:81")) is not None


def test_a_node_whose_range_has_no_room_for_a_node_port_address_has_its_own_alone():
    cramped = replace(node(1), pod_cidrs=(ip_network("10.244.1.1/32"),))
    world = World.of((cramped,), (WEB,), (SLICE,))
    assert answer(world, outside_at(1), "172.18.0.1:30080") == HTTP
    assert answer(world, outside_at(1), "10.244.1.1:30080") == "no service"


def test_services_are_known_of_nodes_that_are_not():
    world = cluster(WEB)
    assert answer(world, pod_on(9), "10.96.0.1:80") == HTTP
    assert answer(world, pod_on(9), "172.18.0.9:30080") == "no service"
    assert onward(world, call(pod_on(9), "172.18.0.2:30080")) is None


# --- addresses that cannot be had ---


@pytest.mark.parametrize("face", ["cluster", "external", "load_balancer"])
@pytest.mark.parametrize("address", ["10.244.2.77", "10.244.1.1", "10.244.2.2"])
def test_an_address_in_a_pod_range_is_no_services_whatever_it_says(face, address):
    world = cluster(service("shop/web", "http=80@30080", **{face: address}))
    for client in (pod_on(1), outside_at(1)):
        assert answer(world, client, f"{address}:80") == "no service"
        assert answer(world, client, f"{address}:81") == "no service"
        assert answer(world, client, "172.18.0.1:30080") == HTTP
    assert answer(world, pod_on(1), "10.96.0.1:80") == ("no service" if face == "cluster" else HTTP)


@pytest.mark.parametrize("face", ["external", "load_balancer"])
@pytest.mark.parametrize("created", ["2025", "2027"])
def test_a_cluster_address_is_no_other_services_external_address(face, created):
    thief = service(
        "bank/thief",
        "http=80",
        "api=443",
        cluster="10.96.0.9",
        created=created,
        **{face: "10.96.0.1"},
    )
    theirs = endpoint_slice("bank/thief", ("http=8080", "api=8443"), "10.244.2.66")
    world = cluster(WEB, thief, slices=(SLICE, theirs))
    assert answer(world, pod_on(1), "10.96.0.1:80") == HTTP
    assert answer(world, pod_on(1), "10.96.0.1:443") == "refused"
    assert answer(world, pod_on(1), "10.96.0.9:443") == {"10.244.2.66:8443"}


def test_a_service_may_name_its_own_cluster_address_as_an_external_one():
    own = service("shop/web", "http=80", external="10.96.0.1", local="external")
    world = cluster(own, slices=(endpoint_slice("shop/web", ("http=8080",), "10.244.2.5"),))
    assert answer(world, outside_at(1), "10.96.0.1:80") == {"10.244.2.5:8080"}


def test_an_external_address_that_is_a_nodes_leaves_the_node_its_other_ports():
    shared = service("shop/web", "http=80@30080", external="172.18.0.1")
    world = cluster(shared)
    for client in (pod_on(1), process_on(1), outside_at(1)):
        assert answer(world, client, "172.18.0.1:80") == HTTP
        assert answer(world, client, "172.18.0.1:30080") == HTTP
        assert answer(world, client, "172.18.0.1:6443") == "no service"
        assert answer(world, client, "172.18.0.1") == "no service"
    assert answer(world, pod_on(2), "172.18.0.1:80") == HTTP
    assert answer(world, pod_on(2), "172.18.0.1:6443") == "no service"
