"""The network: whatever the order of events, every node's flows are those of the final state."""

import zlib
from collections.abc import Callable

from cluster_strategies import (
    NODES,
    PODS,
    UIDS,
    USUAL_NODES,
    USUAL_PODS,
    USUAL_PORTS,
    nodes,
    pods,
    port_nodes,
    port_sets,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.controller.belief import Port
from ovsnet.controller.network import Deltas, Network
from ovsnet.flows.flow import Flow, FlowKey
from ovsnet.model import Node, Phase, Pod, PodRef


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


def relist(gone: PodRef, pod: Pod, node: Node) -> Event:
    """Changes that the watch missed, and the lists that make up for them."""

    def event(world: World, network: Network) -> Deltas:
        world.pods.pop(gone, None)
        world.pods[pod.ref] = pod
        return network.set_pods(world.pods.values())

    def event_of_nodes(world: World, network: Network) -> Deltas:
        world.nodes[node.name] = node
        return network.set_nodes(world.nodes.values())

    return event if pod.phase is Phase.RUNNING else event_of_nodes


usual = [
    *map(put_node, USUAL_NODES),
    *map(put_pod, USUAL_PODS),
    set_ports("node-1", USUAL_PORTS),
]
changes = st.lists(
    st.one_of(
        st.builds(put_node, nodes),
        st.builds(drop_node, st.sampled_from(NODES)),
        st.builds(put_pod, pods),
        st.builds(drop_pod, st.sampled_from(PODS), st.sampled_from(("", *UIDS))),
        st.builds(set_ports, port_nodes, port_sets),
        st.builds(relist, st.sampled_from(PODS), pods, nodes),
    ),
    min_size=1,
    max_size=25,
)
events = st.one_of(changes, changes.map(lambda found: [*usual, *found]))


def fingerprint(flow: Flow) -> int:
    return zlib.crc32(repr(flow).encode()) << 16


def from_scratch(world: World) -> Network:
    network = Network(fingerprint)
    network.set_pods(world.pods.values())
    network.set_nodes(world.nodes.values())
    for node, ports in world.ports.items():
        network.set_ports(node, ports)
    return network


@settings(max_examples=400, deadline=None)
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
