from __future__ import annotations

import re
from ipaddress import ip_network
from itertools import combinations

import pytest

from ovsnet.names import IFNAMSIZ
from ovsnet.sandbox import plan


@pytest.mark.parametrize("nodes", [1, 3, plan.MAX_NODES])
def test_nobody_shares_an_address(nodes: int) -> None:
    hosts = plan.plan(nodes)
    everyone = (*hosts.nodes, hosts.control, hosts.outside)
    routers = {
        plan.UNDERLAY4[1], plan.OUTSIDE4[1], plan.UNDERLAY6[1], plan.OUTSIDE6[1]
    }  # fmt: skip
    addresses = [host.ipv4 for host in everyone] + [host.ipv6 for host in everyone]
    assert len(set(addresses) | routers) == len(addresses) + len(routers)
    assert all(host.ipv4 in plan.UNDERLAY4 and host.ipv6 in plan.UNDERLAY6 for host in hosts.nodes)
    assert hosts.outside.ipv4 not in plan.UNDERLAY4
    assert hosts.outside.ipv6 not in plan.UNDERLAY6


@pytest.mark.parametrize("nodes", [0, -1, plan.MAX_NODES + 1])
def test_a_number_of_nodes_that_cannot_be(nodes: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {plan.MAX_NODES} nodes, not {nodes}"):
        plan.plan(nodes)


def test_interface_names_fit() -> None:
    lines = plan.fabric_links(plan.plan(plan.MAX_NODES), "ovsnet")
    names = {name for line in lines for name in re.findall(r"(?:add|name|set) (ovsnet-\S+)", line)}
    assert len(names) == plan.MAX_NODES + 4
    assert all(len(name) <= IFNAMSIZ for name in names)


def test_the_router_knows_no_pod_range() -> None:
    hosts = plan.plan(3)
    everything = "\n".join(
        [*plan.fabric_links(hosts, "p"), *plan.control_links(hosts), *plan.outside_links(hosts)]
    )
    for cidr in plan.POD_CIDRS:
        assert cidr.split("/")[0] not in everything


def test_the_router_sends_external_addresses_to_a_node() -> None:
    hosts = plan.plan(3)
    routes = [line for line in plan.fabric_links(hosts, "p") if line.startswith("route")]
    node = hosts.nodes[0]
    assert routes == [
        f"route replace {cidr} via {via}"
        for cidr, via in zip(plan.EXTERNAL_CIDRS, (node.ipv4, node.ipv6), strict=True)
    ]


def test_no_range_holds_addresses_of_another() -> None:
    ranges = [plan.UNDERLAY4, plan.UNDERLAY6, plan.OUTSIDE4, plan.OUTSIDE6]
    texts = (*plan.POD_CIDRS, *plan.SERVICE_CIDRS, *plan.EXTERNAL_CIDRS)
    ranges += [ip_network(text) for text in texts]
    for one, other in combinations(ranges, 2):
        assert one.version != other.version or not one.overlaps(other)


def test_the_addresses_of_a_node_go_where_the_tunnel_leaves() -> None:
    host = plan.plan(1).nodes[0]
    userspace, kernel = plan.node_links(host, True), plan.node_links(host, False)
    assert any(f"{host.ipv4}/24 dev {plan.UNDERLAY_BRIDGE}" in line for line in userspace)
    assert not any(plan.UPLINK in line for line in userspace)
    assert any(f"{host.ipv4}/24 dev {plan.UPLINK}" in line for line in kernel)
    assert plan.underlay_bridge(userspace=False) == []
    assert plan.UPLINK in plan.underlay_bridge(userspace=True)
