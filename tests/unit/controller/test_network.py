"""The network: whatever the order of events, every node's flows are those of the final state."""

import zlib
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.controller.belief import Port
from ovsnet.controller.network import Deltas, Network
from ovsnet.flows.flow import Flow, FlowKey
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


class World:
    """The final state, kept in the simplest way."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.pods: dict[PodRef, Pod] = {}
        self.ports: dict[str, frozenset[Port]] = {}


Event = Callable[[World, Network], Deltas]


def put_node(node: Node) -> Event:
    def event(world: World, network: Network) -> Deltas:
        world.nodes[node.name] = node
        return network.put_node(node)

    return event


def drop_node(name: str) -> Event:
    def event(world: World, network: Network) -> Deltas:
        world.nodes.pop(name, None)
        world.ports.pop(name, None)
        return network.drop_node(name)

    return event


def put_pod(pod: Pod) -> Event:
    def event(world: World, network: Network) -> Deltas:
        world.pods[pod.ref] = pod
        return network.put_pod(pod)

    return event


def drop_pod(ref: PodRef, uid: str) -> Event:
    def event(world: World, network: Network) -> Deltas:
        if ref in world.pods and uid in ("", world.pods[ref].uid):
            del world.pods[ref]
        return network.drop_pod(ref, uid)

    return event


def set_ports(node: str, ports: frozenset[Port]) -> Event:
    def event(world: World, network: Network) -> Deltas:
        if node in world.nodes:
            world.ports[node] = ports
        return network.set_ports(node, ports)

    return event


def relist(kind: str) -> Event:
    def event(world: World, network: Network) -> Deltas:
        if kind == "nodes":
            return network.set_nodes(world.nodes.values())
        return network.set_pods(world.pods.values())

    return event


events = st.lists(
    st.one_of(
        st.builds(put_node, nodes),
        st.builds(drop_node, st.sampled_from(NODES)),
        st.builds(put_pod, pods),
        st.builds(drop_pod, st.sampled_from(PODS), st.sampled_from(("", *UIDS))),
        st.builds(set_ports, st.sampled_from(NODES), port_sets),
        st.builds(relist, st.sampled_from(["nodes", "pods"])),
    ),
    max_size=25,
)


def fingerprint(flow: Flow) -> int:
    return zlib.crc32(repr(flow).encode()) << 16


def from_scratch(world: World) -> Network:
    network = Network(fingerprint)
    network.set_pods(world.pods.values())
    network.set_nodes(world.nodes.values())
    for node, ports in world.ports.items():
        network.set_ports(node, ports)
    return network


@settings(max_examples=300)
@given(events)
def test_any_order_of_events_ends_in_the_flows_of_the_final_state(sequence: list[Event]) -> None:
    world = World()
    network = Network(fingerprint)
    switches: dict[str, dict[FlowKey, Flow]] = {}
    for event in sequence:
        deltas = event(world, network)
        for name in switches.keys() - world.nodes.keys():
            del switches[name]
        for name in network.nodes.keys() - switches.keys():
            assert name not in deltas
            switches[name] = dict(network.ledger(name).flows)
        for name, delta in deltas.items():
            switch = switches[name]
            for flow in delta.deletes:
                assert switch.pop(flow.key) == flow
            switch.update((flow.key, flow) for flow in delta.adds)

    fresh = from_scratch(world)
    assert network.nodes.keys() == fresh.nodes.keys() == world.nodes.keys()
    for name in world.nodes:
        expected = dict(fresh.ledger(name).flows)
        assert dict(network.ledger(name).flows) == expected
        assert switches[name] == expected
        assert network.ledger(name).digest == fresh.ledger(name).digest
        assert set(network.ledger(name).owners) == set(fresh.ledger(name).owners)
        assert network.nodes[name].beliefs == fresh.nodes[name].beliefs


@given(events)
def test_every_port_is_believed_refused_or_reserved(sequence: list[Event]) -> None:
    world = World()
    network = Network(fingerprint)
    for event in sequence:
        event(world, network)
    for name, view in network.nodes.items():
        believed = {e.ofport for e in view.beliefs.endpoints.values()}
        refused = {r.port.ofport for r in view.beliefs.refusals}
        reserved = {p.ofport for p in view.ports if p.name in ("br-int", "ovsnet-gw0")}
        assert not believed & refused
        assert believed | refused | reserved == {p.ofport for p in view.ports}
        for ref, endpoint in view.beliefs.endpoints.items():
            pod = world.pods[ref]
            assert pod.node == name
            assert not pod.terminated
            assert not pod.host_network
            for address in endpoint.addresses:
                assert any(address in r for r in world.nodes[name].pod_cidrs)
        addresses = [a for e in view.beliefs.endpoints.values() for a in e.addresses]
        assert len(addresses) == len(set(addresses))
