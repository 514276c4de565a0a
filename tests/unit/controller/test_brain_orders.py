"""The controller from end to end, without a wire: what may happen, in any order."""

from collections.abc import Callable

from brain_stage import DENY, Stage
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
from policy_objects import peer, policy, rule
from policy_objects import port as policy_port

from ovsnet.api import NETWORK_POLICY, NODE, POD, Changed, Deleted, Fresh, Stale
from ovsnet.controller.belief import Port
from ovsnet.model import NetworkPolicy, Node, Pod, PodRef, PolicyRef

Step = Callable[[Stage], None]


def put_node(node: Node) -> Step:
    def step(stage: Stage) -> None:
        stage.nodes[node.name] = node
        stage.heard(Changed(NODE, node.name, node))

    return step


def drop_node(name: str) -> Step:
    def step(stage: Stage) -> None:
        if stage.nodes.pop(name, None) is not None:
            stage.heard(Deleted(NODE, name, ""))

    return step


def put_pod(pod: Pod) -> Step:
    def step(stage: Stage) -> None:
        stage.pods[pod.ref] = pod
        stage.heard(Changed(POD, pod.ref, pod))

    return step


def drop_pod(ref: PodRef, uid: str) -> Step:
    def step(stage: Stage) -> None:
        if ref in stage.pods and stage.pods[ref].uid == uid:
            del stage.pods[ref]
        stage.heard(Deleted(POD, ref, uid))

    return step


def put_policy(policy: NetworkPolicy) -> Step:
    return lambda stage: stage.put_policy(policy)


def drop_policy(ref: PolicyRef) -> Step:
    def step(stage: Stage) -> None:
        gone = stage.policies.get(ref)
        stage.policies = {r: p for r, p in stage.policies.items() if r != ref}
        if gone is not None:
            stage.heard(Deleted(NETWORK_POLICY, ref, gone.uid))

    return step


def api(event: type[Stale] | type[Fresh]) -> Step:
    """The watch of policies breaks off, or works again."""

    def step(stage: Stage) -> None:
        stage.heard(Stale(NETWORK_POLICY, 1.0, "cut") if event is Stale else Fresh(NETWORK_POLICY))

    return step


def missed(ref: PodRef, node: Node) -> Step:
    """Changes that the watch missed, and the list that makes up for them."""

    def step(stage: Stage) -> None:
        stage.pods.pop(ref, None)
        stage.nodes[node.name] = node
        stage.synced(NODE, POD)

    return step


def set_ports(name: str, ports: frozenset[Port]) -> Step:
    return lambda stage: stage.set_ports(name, ports)


def switch_step(verb: str, name: str) -> Step:
    def step(stage: Stage) -> None:
        match verb:
            case "connect":
                stage.connect(name)
            case "disconnect":
                stage.disconnect(name)
            case "restart":
                stage.switches[name].flows.clear()
                stage.connect(name)
            case "meddle":
                flows = stage.switches[name].flows
                for key in list(flows)[::3]:
                    del flows[key]
                stage.connect(name)
            case "answer":
                stage.answer(name)

    return step


POLICIES = [
    DENY,
    policy("shop/deny", ingress=[rule()]),
    policy("shop/allow", ingress=[rule([peer("")], [policy_port(80)])], egress=[rule([peer("")])]),
    policy("shop/other", "app=none", ingress=[rule([peer("")])]),
]


def leadership(stage: Stage) -> None:
    """Another takes over, or we do from another."""
    if stage.brain.term is None:
        stage.lead()
    else:
        stage.stand_by()


steps = st.one_of(
    st.just(leadership),
    st.builds(put_node, nodes),
    st.builds(drop_node, st.sampled_from(NODES)),
    st.builds(put_pod, pods),
    st.builds(drop_pod, st.sampled_from(PODS), st.sampled_from(UIDS)),
    st.builds(missed, st.sampled_from(PODS), nodes),
    st.builds(put_policy, st.sampled_from(POLICIES)),
    st.builds(drop_policy, st.sampled_from([policy.ref for policy in POLICIES])),
    st.builds(api, st.sampled_from([Stale, Fresh])),
    st.builds(set_ports, port_nodes, port_sets),
    st.builds(
        switch_step,
        st.sampled_from(["connect", "disconnect", "restart", "meddle", "answer", "answer"]),
        st.sampled_from(NODES),
    ),
    st.just(lambda stage: stage.tick(2.0)),
)


usual = [
    *map(put_node, USUAL_NODES),
    *map(put_pod, USUAL_PODS),
    set_ports("node-1", USUAL_PORTS),
    switch_step("connect", "node-1"),
    switch_step("connect", "node-2"),
]
sequences = st.lists(steps, min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(st.one_of(sequences, sequences.map(lambda found: [*usual, *found])), st.integers(0, 12))
def test_whatever_happens_every_switch_ends_up_with_the_flows_of_the_final_state(
    sequence: list[Step], listed_after: int
) -> None:
    stage = Stage()
    for i, step in enumerate(sequence):
        if i == listed_after:
            stage.synced()
        step(stage)
    stage.synced()
    if stage.brain.term is None:
        stage.lead()
    for name in NODES:
        if name in stage.nodes and not stage.connected(name):
            stage.connect(name)
    stage.settle()
    for name in stage.nodes:
        assert stage.switches[name].content == stage.expected(name)
