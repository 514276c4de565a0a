"""Strategies: nodes, pods and ports that fit together often, and fail to in every way there is."""

from ipaddress import IPv4Address, ip_address, ip_network

from hypothesis import strategies as st

from ovsnet.controller.belief import Port
from ovsnet.model import Node, Phase, Pod, PodRef
from ovsnet.names import host_mac, port_name

NODES = ("node-1", "node-2", "node-3")
PODS = tuple(PodRef("shop", f"web-{i}") for i in range(4))
UIDS = ("a", "b")

ranges = st.sampled_from(
    [
        (ip_network("10.0.1.0/24"), ip_network("fd00:1::/64")),
        (ip_network("10.0.2.0/24"), ip_network("fd00:2::/64")),
        (ip_network("10.0.3.0/24"),),
        (ip_network("fd00:4::/64"),),
        (),
    ]
)
underlays = st.sampled_from(
    [
        (ip_address("192.168.0.1"),),
        (ip_address("192.168.0.2"), ip_address("fd01::2")),
        (ip_address("fd01::3"), ip_address("192.168.0.3")),
        (ip_address("fd01::4"),),
        (),
    ]
)
nodes = st.builds(Node, name=st.sampled_from(NODES), pod_cidrs=ranges, addresses=underlays)
pods = st.builds(
    lambda ref, uid, node, phase, host: Pod(
        ref.namespace, ref.name, uid, node=node, phase=phase, host_network=host
    ),
    st.sampled_from(PODS),
    st.sampled_from(UIDS),
    st.sampled_from(("", *NODES)),
    st.sampled_from([Phase.PENDING, Phase.RUNNING, Phase.RUNNING, Phase.FAILED]),
    st.sampled_from([False, False, False, True]),
)
macs = st.sampled_from(
    [host_mac(IPv4Address(f"10.0.{r}.{h}")) for r in (1, 2, 3) for h in (1, 2, 3, 255)]
    + [host_mac(2), host_mac(3), "02:00:00:00:00:01"]
)
names = st.one_of(
    st.builds(
        lambda ref, uid, variant: port_name(ref.namespace, ref.name, uid, variant),
        st.sampled_from(PODS),
        st.sampled_from(UIDS),
        st.sampled_from([0, 0, 1]),
    ),
    st.sampled_from(["eth7", "br-int", "ovsnet-gw0"]),
)
port_sets = st.lists(st.tuples(names, macs), max_size=4, unique_by=lambda pair: pair[0]).map(
    lambda pairs: frozenset(Port(i + 3, n, m) for i, (n, m) in enumerate(pairs))
)
