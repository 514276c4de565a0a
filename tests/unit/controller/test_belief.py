"""Which ports are believed: one named state per reason, and the good case beside each."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from ovsnet.controller.belief import Beliefs, Port, Reason, examine
from ovsnet.flows.pod import Endpoint
from ovsnet.model import Node, Phase, Pod, PodRef
from ovsnet.names import GATEWAY_PORT, host_mac, port_name

NODE = Node("node-1", pod_cidrs=(ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/64")))
SHORT = Node("node-1", pod_cidrs=(ip_network("fd00:10:244:1::/64"),))
WEB = Pod("shop", "web", "u1", node="node-1", phase=Phase.RUNNING)
CART = Pod("shop", "cart", "u2", node="node-1", phase=Phase.RUNNING)


def port(pod: Pod, address: str = "10.244.1.5", ofport: int = 7, variant: int = 0) -> Port:
    name = port_name(pod.namespace, pod.name, pod.uid, variant)
    return Port(ofport, name, host_mac(IPv4Address(address)))


def beliefs(*ports: Port, node: Node = NODE, pods: tuple[Pod, ...] = (WEB, CART)) -> Beliefs:
    def pods_of_port(name: str) -> tuple[Pod, ...]:
        return tuple(
            p for p in pods if name in {port_name(p.namespace, p.name, p.uid, v) for v in range(4)}
        )

    return examine(node, ports, pods_of_port)


def reasons(found: Beliefs) -> dict[int, Reason]:
    return {refusal.port.ofport: refusal.reason for refusal in found.refusals}


def test_a_pods_port_gives_its_endpoint_in_both_families() -> None:
    found = beliefs(port(WEB))
    assert found.refusals == ()
    assert found.endpoints == {
        WEB.ref: Endpoint(
            PodRef("shop", "web"),
            7,
            "0a:58:0a:f4:01:05",
            IPv4Address("10.244.1.5"),
            IPv6Address("fd00:10:244:1::5"),
        )
    }


@pytest.mark.parametrize("variant", range(4))
def test_every_variant_of_the_name_is_believed(variant: int) -> None:
    assert WEB.ref in beliefs(port(WEB, variant=variant)).endpoints


def test_ports_of_the_network_itself_are_neither_believed_nor_refused() -> None:
    assert beliefs(Port(1, GATEWAY_PORT, "0a:58:0a:f4:01:01")) == Beliefs({}, ())


def moved(**changes: object) -> Pod:
    fields = {"namespace": "shop", "name": "web", "uid": "u1", "node": "node-1"} | changes
    return Pod(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (moved(uid="another"), Reason.NO_SUCH_POD),
        (moved(node="node-2"), Reason.OTHER_NODE),
        (moved(node=""), Reason.OTHER_NODE),
        (moved(phase=Phase.SUCCEEDED), Reason.ENDED),
        (moved(phase=Phase.FAILED), Reason.ENDED),
        (moved(host_network=True), Reason.HOST_NETWORK),
    ],
)
def test_the_pod_must_be_alive_and_of_this_node(pod: Pod, reason: Reason) -> None:
    found = beliefs(port(WEB), pods=(pod,))
    assert found.endpoints == {}
    assert reasons(found) == {7: reason}


@pytest.mark.parametrize(
    ("address", "believed"),
    [
        ("10.244.1.0", False),
        ("10.244.1.1", False),
        ("10.244.1.2", False),
        ("10.244.1.3", True),
        ("10.244.1.254", True),
        ("10.244.1.255", False),
        ("10.244.2.5", False),
        ("10.244.0.5", False),
    ],
)
def test_the_address_must_be_one_that_a_pod_of_this_node_may_have(
    address: str, believed: bool
) -> None:
    found = beliefs(port(WEB, address))
    assert bool(found.endpoints) == believed
    assert reasons(found) == ({} if believed else {7: Reason.OUT_OF_RANGE})


def test_in_an_ipv6_only_node_the_mac_carries_the_host_offset() -> None:
    found = beliefs(Port(7, port(WEB).name, host_mac(9)), node=SHORT)
    endpoint = found.endpoints[WEB.ref]
    assert endpoint.addresses == (ip_address("fd00:10:244:1::9"),)
    assert endpoint.mac == "0a:58:00:00:00:09"
    for offset in (0, 1, 2):
        taken = beliefs(Port(7, port(WEB).name, host_mac(offset)), node=SHORT)
        assert reasons(taken) == {7: Reason.OUT_OF_RANGE}


@pytest.mark.parametrize("mac", ["02:00:0a:f4:01:05", "0a:58:0a:f4:01:05", "00:00:00:00:00:00"])
def test_the_mac_must_be_one_that_the_agent_gives(mac: str) -> None:
    found = beliefs(Port(7, port(WEB).name, mac))
    assert reasons(found) == {7: Reason.NO_ADDRESS}


def test_a_node_without_ranges_has_no_pods() -> None:
    assert reasons(beliefs(port(WEB), node=Node("node-1"))) == {7: Reason.NO_RANGE}


def test_of_two_ports_of_one_pod_the_later_wins() -> None:
    found = beliefs(port(WEB, "10.244.1.5", 7), port(WEB, "10.244.1.6", 8, variant=1))
    assert found.endpoints[WEB.ref].ofport == 8
    assert reasons(found) == {7: Reason.SUPERSEDED}


def test_of_two_pods_with_one_address_the_earlier_wins() -> None:
    found = beliefs(port(CART, ofport=8), port(WEB, ofport=7))
    assert found.endpoints.keys() == {WEB.ref}
    assert reasons(found) == {8: Reason.ADDRESS_TAKEN}


def test_of_two_pods_with_one_address_the_reported_one_wins() -> None:
    reported = moved(name="cart", uid="u2", addresses=(ip_address("10.244.1.5"),))
    found = beliefs(port(CART, ofport=8), port(WEB, ofport=7), pods=(WEB, reported))
    assert found.endpoints.keys() == {CART.ref}
    assert reasons(found) == {7: Reason.ADDRESS_TAKEN}


def test_a_name_that_fits_two_pods_of_the_node_is_ambiguous_and_the_next_variant_is_not() -> None:
    first, second = colliding_pods()
    name = port_name(first.namespace, first.name, first.uid)
    assert name == port_name(second.namespace, second.name, second.uid)

    found = beliefs(port(first), pods=(first, second))
    assert reasons(found) == {7: Reason.AMBIGUOUS}
    assert set(found.refusals[0].pods) == {first.ref, second.ref}

    found = beliefs(
        port(first, "10.244.1.5", 7, variant=1),
        port(second, "10.244.1.6", 8, variant=1),
        pods=(first, second),
    )
    assert {r: e.ofport for r, e in found.endpoints.items()} == {first.ref: 7, second.ref: 8}


def colliding_pods() -> tuple[Pod, Pod]:
    """Two pods whose ports have one name; the uids were found by trying, about a million each."""
    return (
        Pod("red", "web-0", "1011748", node="node-1", phase=Phase.RUNNING),
        Pod("blue", "web-0", "38145", node="node-1", phase=Phase.RUNNING),
    )
