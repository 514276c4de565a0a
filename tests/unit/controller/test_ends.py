"""The ends of a connection, as people name them."""

from ipaddress import ip_address

import msgspec
import pytest
from policy_carriage import network_of
from policy_objects import namespace, node, pod

from ovsnet.controller.belief import Port
from ovsnet.controller.inquiry.ends import EXPECTED, UnknownEndError, resolve
from ovsnet.controller.inquiry.world import snapshot
from ovsnet.model import PodRef
from ovsnet.names import port_name
from ovsnet.policy.world import World

WEB = pod("shop/web-7d4b9-x2x4z", host=5)
PODS = [WEB, pod("shop/web-7d4b9-k9k9k", host=6), pod("shop/api", host=7), pod("bank/api", node=2)]
NETWORK = network_of(World.of(map(namespace, ("shop", "bank")), PODS, [node(1), node(2)]))
SEEN = snapshot(NETWORK)
REF = PodRef("shop", "web-7d4b9-x2x4z")


def test_a_pod_with_its_port_and_addresses():
    end = resolve(SEEN, "shop/web-7d4b9-x2x4z")
    assert (end.pod, end.node, end.remarks) == (REF, "node-1", ())
    assert end.endpoint == SEEN.nodes["node-1"].beliefs.endpoints[REF]
    assert [str(end.address(family)) for family in (4, 6)] == ["10.244.1.5", "fd00:10:244:1::5"]


def test_a_node_speaks_from_its_gateway():
    end = resolve(SEEN, "node/node-2")
    assert (end.pod, end.node) == (None, "node-2")
    assert [str(a) for a in end.addresses] == ["10.244.2.1", "fd00:10:244:2::1"]


def test_a_node_without_a_range_has_its_own_addresses_only():
    bare = msgspec.structs.replace(node(3), pod_cidrs=())
    end = resolve(snapshot(network_of(World.of(nodes=[bare]))), "node/node-3")
    assert [str(a) for a in end.addresses] == ["172.18.0.3", "fd00:172:18::3"]
    assert end.remarks == ("node-3 has no pod range yet",)


@pytest.mark.parametrize(
    ("text", "pod_name", "node_name", "remark"),
    [
        ("10.244.1.5", REF, "node-1", "10.244.1.5 is shop/web-7d4b9-x2x4z"),
        ("fd00:10:244:1:0:0:0:5", REF, "node-1", None),
        ("10.244.2.1", None, "node-2", "10.244.2.1 is the node node-2"),
        ("172.18.0.2", None, "node-2", "172.18.0.2 is the node node-2"),
        ("203.0.113.7", None, "", None),
        ("2001:db8::7", None, "", None),
    ],
)
def test_an_address_is_who_has_it(text, pod_name, node_name, remark):
    end = resolve(SEEN, text)
    assert (end.pod, end.node, end.addresses) == (pod_name, node_name, (ip_address(text),))
    assert remark is None or end.remarks == (remark,)


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("10.244.2.77", "10.244.2.77 is of the pod range of node-2, and no pod has it"),
        ("fd00:10:244:2:0::2", "fd00:10:244:2::2 is the service address of node-2: some connect"),
        ("10.244.2.2", "10.244.2.2 is the service address of node-2: some connections to services"),
    ],
)
def test_an_address_of_a_pod_range_that_no_pod_has(text, remark):
    end = resolve(SEEN, text)
    assert (end.name, end.pod, end.node, end.addresses) == (text, None, "node-2", ())
    (said,) = end.remarks
    assert said.startswith(remark)


def test_a_port_that_is_refused_is_why_a_pod_has_no_address():
    network = network_of(World.of([namespace("shop")], [WEB], [node(1)]))
    port = Port(10, port_name(WEB.namespace, WEB.name, WEB.uid), "0e:58:0a:00:00:05")
    network.set_ports("node-1", [port])
    end = resolve(snapshot(network), "shop/web-7d4b9-x2x4z")
    assert end.addresses == ()
    assert end.remarks == (
        f"{REF} has no address: its port {port.name} on node-1 is refused: "
        "its address is not one of this node's pod range",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "shop/web",
            "no pod 'web' in namespace 'shop'; did you mean shop/web-7d4b9-k9k9k or shop/",
        ),
        ("shop/apy", "no pod 'apy' in namespace 'shop'; did you mean shop/api?"),
        ("shopp/zzz", "no namespace 'shopp'; did you mean shop?"),
        ("mall/api", "no namespace 'mall'; did you mean shop/api or bank/api?"),
        ("bank/web-7d4b9-k9k9k", "did you mean shop/web-7d4b9-k9k9k?"),
        ("bank/zzz", "there is no pod 'zzz' in namespace 'bank'"),
        ("node/node1", "there is no node 'node1'; did you mean node/node-1 or node/node-2?"),
        ("node/zzz", "there is no node 'zzz'"),
        ("api", f"'api': {EXPECTED}; did you mean shop/api or bank/api?"),
        ("node-1", f"'node-1': {EXPECTED}; did you mean node/node-1?"),
        ("10.244.1", f"'10.244.1': {EXPECTED}"),
        ("", f"'': {EXPECTED}"),
        ("10.244.1.0/24", "10.244.1.0/24 is a network: name one address of it"),
        ("10.244.1.1/24", "10.244.1.1/24 is a network: name one address of it"),
        ("224.0.0.1", "nobody can have this address"),
        ("255.255.255.255", "nobody can have this address"),
        ("127.0.0.1", "nobody can have this address"),
        ("fe80::1", "nobody can have this address"),
        ("ff02::1", "nobody can have this address"),
        ("::", "nobody can have this address"),
    ],
)
def test_what_is_not_there(text, words):
    with pytest.raises(UnknownEndError) as raised:
        resolve(SEEN, text)
    assert words in str(raised.value)
