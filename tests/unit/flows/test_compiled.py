"""What nodes, peers and pods compile to: properties that hold for every flow of the pipeline."""

from ipaddress import ip_address, ip_network
from itertools import combinations

import pytest
from undecided_flows import undecided

from ovsnet.controller.belief import Port
from ovsnet.controller.network import Network
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Conjunction, Flow, Goto, OwnerKind, Term
from ovsnet.flows.registers import REGISTERS
from ovsnet.model import Node, Phase, Pod
from ovsnet.names import FIRST_POD_OFFSET, Table, host_mac, port_name

V4 = [ip_network(f"10.244.{i}.0/24") for i in range(3)]
V6 = [ip_network(f"fd00:10:244:{i}::/64") for i in range(3)]
UNDERLAY4 = [ip_address(f"172.18.0.{i + 2}") for i in range(3)]
UNDERLAY6 = [ip_address(f"fc00::{i + 2}") for i in range(3)]


def compiled(families: str, pods_per_node: int = 3) -> dict[str, list[Flow]]:
    """The flows of three nodes with pods, in a cluster of these families."""
    network = Network(id)
    nodes = [
        Node(
            f"node-{i}",
            pod_cidrs=tuple(r[i] for r, f in ((V4, "4"), (V6, "6")) if f in families),
            addresses=tuple(a[i] for a, f in ((UNDERLAY4, "4"), (UNDERLAY6, "6")) if f in families),
        )
        for i in range(3)
    ]
    pods = [
        Pod("shop", f"web-{i}", f"uid-{n.name}-{i}", node=n.name, phase=Phase.RUNNING)
        for n in nodes[:1]
        for i in range(pods_per_node)
    ]
    network.set_nodes(nodes)
    network.set_pods(pods)
    for node in nodes[:1]:
        first = int(node.range4.network_address) if node.range4 else 0
        network.set_ports(
            node.name,
            [
                Port(
                    10 + i,
                    port_name(p.namespace, p.name, p.uid),
                    host_mac(first + FIRST_POD_OFFSET + i),
                )
                for i, p in enumerate(pods)
            ],
        )
        assert not network.nodes[node.name].beliefs.refusals
    return {name: list(network.ledger(name).flows.values()) for name in network.nodes}


@pytest.mark.parametrize("families", ["4", "6", "46"])
def test_flows_of_one_priority_that_can_match_the_same_packet_do_the_same(families: str) -> None:
    for flows in compiled(families).values():
        assert list(undecided(flows)) == []


@pytest.mark.parametrize("families", ["4", "6", "46"])
def test_packets_only_go_on_to_later_tables_and_priorities_are_bounded(families: str) -> None:
    for flows in compiled(families).values():
        for flow in flows:
            assert 0 <= flow.priority <= 0xFFFF
            assert flow.cookie
            assert all(isinstance(a, Conjunction) for a in flow.actions) or not any(
                isinstance(a, Conjunction) for a in flow.actions
            )
            for action in flow.actions:
                if isinstance(action, Goto):
                    assert action.table > flow.table
                    assert action is flow.actions[-1]


def test_a_node_has_a_few_flows_per_peer_and_per_pod_of_its_own() -> None:
    few, many = (len(compiled("46", pods)["node-0"]) for pods in (1, 3))
    assert many - few == 2 * 10
    others = [
        sum(flow.cookie >> 56 != OwnerKind.NODE for flow in compiled("46", 3)[name])
        for name in ("node-0", "node-1")
    ]
    assert others[0] - others[1] == 3 * 10, "another node's pods cost nothing here"


def test_a_node_knows_the_lower_nodes_by_no_more_flows_than_addresses_have_bits() -> None:
    for families, bits in (("4", 32), ("6", 128), ("46", 32)):
        for flows in compiled(families).values():
            turning = [f for f in flows if f.table is Table.CONNTRACK_STATE and outer(f)]
            assert 0 < len(turning) <= 2 * bits


def outer(flow: Flow) -> set[Field]:
    """The outer addresses of tunnel packets that a flow asks for."""
    return {t.field for t in flow.match} & {Field.TUN_SRC, Field.TUN_IPV6_SRC}


@pytest.mark.parametrize("families", ["4", "6", "46"])
def test_no_packet_is_asked_for_the_outer_addresses_of_both_families(families: str) -> None:
    """The kernel's datapath caches no such packet ("Mixed IPv4 and IPv6 tunnel attributes"). A
    switch that looks for a packet's flow asks for what any flow of the table matches.
    """
    for flows in compiled(families).values():
        asked = set().union(*map(outer, flows))
        assert asked == {Field.TUN_IPV6_SRC if families == "6" else Field.TUN_SRC}


@pytest.mark.parametrize("families", ["6", "46"])
def test_what_is_asked_of_neighbour_discovery_is_asked_beside_an_exact_code(families: str) -> None:
    """Otherwise the kernel's datapath is not told of it, and caches a flow for too many packets."""
    asked = {Field.ND_TARGET, Field.ND_SLL, Field.ND_TLL}
    for flows in compiled(families).values():
        of_discovery = [f for f in flows if asked & {t.field for t in f.match}]
        assert all(Term(Field.ICMPV6_CODE, 0) in f.match for f in of_discovery)
        assert len(of_discovery) >= 1


def test_registers_do_not_overlap() -> None:
    for a, b in combinations((r.bits for r in REGISTERS), 2):
        apart = a.offset + a.bits <= b.offset or b.offset + b.bits <= a.offset
        assert a.field is not b.field or apart
