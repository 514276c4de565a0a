"""Strategies: nodes, pods and ports that fit together often, and fail to in every way there is."""

from ipaddress import IPv4Address, ip_address, ip_network

from hypothesis import strategies as st

from ovsnet.controller.belief import Port
from ovsnet.model import Node, Phase, Pod, PodRef
from ovsnet.names import host_mac, port_name

NODES = ("node-1", "node-2", "node-3")
PODS = tuple(PodRef("shop", f"web-{i}") for i in range(3))
UIDS = ("a", "b")

USUAL_NODES = [
    Node(
        name,
        pod_cidrs=(ip_network(f"10.0.{i}.0/24"), ip_network(f"fd00:{i}::/64")),
        addresses=(ip_address(f"192.168.0.{i}"),),
    )
    for i, name in enumerate(NODES, 1)
]
unusual_ranges = st.sampled_from(
    [
        (ip_network("10.0.1.0/24"), ip_network("fd00:1::/64")),
        (ip_network("10.0.2.0/24"), ip_network("fd00:2::/64")),
        (ip_network("10.0.3.0/24"),),
        (ip_network("fd00:4::/64"),),
        (),
    ]
)
unusual_addresses = st.sampled_from(
    [
        (ip_address("192.168.0.2"), ip_address("fd01::2")),
        (ip_address("fd01::3"), ip_address("192.168.0.3")),
        (ip_address("fd01::4"),),
        (),
    ]
)
nodes = st.one_of(
    st.sampled_from(USUAL_NODES),
    st.builds(
        Node,
        name=st.sampled_from(NODES),
        pod_cidrs=unusual_ranges,
        addresses=unusual_addresses,
    ),
)

# Most pods are alive on node-1, most ports name one of them and carry an address of its range:
# otherwise hardly any port would be believed.
pods = st.builds(
    lambda ref, uid, node, phase, host: Pod(
        ref.namespace, ref.name, uid, node=node, phase=phase, host_network=host
    ),
    st.sampled_from(PODS),
    st.sampled_from(("a", "a", "b")),
    st.sampled_from(("node-1", "node-1", "node-1", "node-2", "node-3", "")),
    st.sampled_from([Phase.RUNNING, Phase.RUNNING, Phase.PENDING, Phase.FAILED]),
    st.sampled_from([False, False, False, False, True]),
)
macs = st.one_of(
    st.sampled_from([host_mac(IPv4Address(f"10.0.1.{h}")) for h in (3, 4, 5, 254)]),
    st.sampled_from(
        [host_mac(IPv4Address(f"10.0.{r}.{h}")) for r in (1, 2, 3) for h in (1, 2, 3, 255)]
        + [host_mac(2), host_mac(3), host_mac(4), "02:00:00:00:00:01"]
    ),
)
pod_port_names = st.builds(
    lambda ref, uid, variant: port_name(ref.namespace, ref.name, uid, variant),
    st.sampled_from(PODS),
    st.sampled_from(("a", "a", "b")),
    st.sampled_from([0, 0, 0, 1]),
)
port_names = st.one_of(
    pod_port_names, pod_port_names, st.sampled_from(["eth7", "br-int", "ovsnet-gw0"])
)
port_sets = st.lists(st.tuples(port_names, macs), max_size=5, unique_by=lambda pair: pair[0]).map(
    lambda pairs: frozenset(Port(i + 3, n, m) for i, (n, m) in enumerate(pairs))
)
port_nodes = st.sampled_from(("node-1", "node-1", *NODES))

USUAL_PODS = [Pod(r.namespace, r.name, "a", node="node-1", phase=Phase.RUNNING) for r in PODS]
USUAL_PORTS = frozenset(
    Port(i + 3, port_name(p.namespace, p.name, p.uid), host_mac(IPv4Address(f"10.0.1.{i + 3}")))
    for i, p in enumerate(USUAL_PODS[:2])
)
"""Where most sequences of events begin: three nodes, three pods on the first, ports of two."""
