"""Ranges of nodes that overlap: the older node keeps its range."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from ovsnet.controller.cluster import disjoint
from ovsnet.model import Node

networks = st.sampled_from(
    [
        ip_network(n)
        for n in (
            "10.0.0.0/22",
            "10.0.0.0/24",
            "10.0.1.0/24",
            "10.0.1.128/25",
            "10.0.3.0/24",
            "10.0.4.0/24",
            "fd00::/62",
            "fd00:0:0:1::/64",
            "fd00:0:0:5::/64",
        )
    ]
)
nodes = st.lists(
    st.builds(
        Node,
        name=st.sampled_from(["a", "b", "c", "d", "e"]),
        created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        pod_cidrs=st.lists(networks, max_size=2).map(tuple),
    ),
    unique_by=lambda node: node.name,
    max_size=5,
)


@given(nodes)
def test_the_older_node_keeps_a_range_that_two_claim(given_nodes: list[Node]) -> None:
    believed, overlaps = disjoint(given_nodes)

    taken: list[tuple[str, object]] = []
    lost: set[tuple[str, str]] = set()
    for node in sorted(given_nodes, key=lambda n: (n.created, n.name)):
        kept = []
        for network in node.pod_cidrs:
            holders = {name for name, other in taken if network.overlaps(other)}  # type: ignore[arg-type]
            if holders:
                lost.add((node.name, str(network)))
            else:
                taken.append((node.name, network))
                kept.append(network)
        assert believed[node.name].pod_cidrs == tuple(kept)
    assert {(o.node, o.range) for o in overlaps} == lost
    assert believed.keys() == {n.name for n in given_nodes}
