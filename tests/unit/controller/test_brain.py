"""The controller from end to end, without a wire: API events and switches in memory."""

from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network

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
from fake_switch import FakeSwitch, without_serials
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_objects import peer, policy, rule
from policy_objects import port as policy_port

from ovsnet.api import (
    ENDPOINT_SLICE,
    KINDS,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    POD,
    SERVICE,
    Changed,
    Deleted,
    Fresh,
    Stale,
    Synced,
)
from ovsnet.controller.belief import Port, Reason
from ovsnet.controller.brain import (
    GRACE,
    Brain,
    Cause,
    Departed,
    PortRefused,
    Ready,
    Result,
    Served,
)
from ovsnet.controller.network import Network
from ovsnet.controller.notices import Acknowledged, Close, Lost, Send, StandingBy, TurnedAway
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.events import Disconnected, PortChange, PortChanged
from ovsnet.controller.openflow.events import Event as SwitchEvent
from ovsnet.controller.openflow.protocol import BundleControl, ControllerRole
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.flow import OwnerKind
from ovsnet.flows.stamp import stamp_flow
from ovsnet.model import NetworkPolicy, Node, Phase, Pod, PodRef, PolicyRef
from ovsnet.names import host_mac, port_name

NODE_1 = Node(
    "node-1",
    pod_cidrs=(ip_network("10.0.1.0/24"), ip_network("fd00:1::/64")),
    addresses=(ip_address("192.168.0.1"),),
)
NODE_2 = Node(
    "node-2",
    pod_cidrs=(ip_network("10.0.2.0/24"), ip_network("fd00:2::/64")),
    addresses=(ip_address("192.168.0.2"),),
)
WEB = Pod("shop", "web", "u1", node="node-1", phase=Phase.RUNNING)
WEB_PORT = Port(7, port_name("shop", "web", "u1"), host_mac(IPv4Address("10.0.1.5")))


class Stage:
    """A brain, its switches, the API's state as it was told, and everything that came out."""

    def __init__(self) -> None:
        timing = Timing(quiet=5, dead=20, answer=60, audit=300, retry=1, retry_most=8)
        self.brain = Brain(Network(encode.fingerprint), Switchboard(1, timing))
        self.now = 100.0
        self.results: list[Result] = []
        self.switches = {name: FakeSwitch(name) for name in NODES}
        self.ports: dict[str, frozenset[Port]] = dict.fromkeys(NODES, frozenset())
        self.by_connection: dict[int, FakeSwitch] = {}
        self.connections = 0
        self.term = 1
        self.nodes: dict[str, Node] = {}
        self.pods: dict[PodRef, Pod] = {}
        self.policies: dict[PolicyRef, NetworkPolicy] = {}

    def take(self, results: list[Result]) -> None:
        for result in results:
            self.results.append(result)
            match result:
                case Send(connection, data):
                    switch = self.by_connection.get(connection)
                    if switch is not None and switch.connection == connection:
                        switch.receive(data)
                case Close(connection):
                    self.by_connection.pop(connection, None)

    def heard(self, event: object) -> None:
        self.take(self.brain.heard(event, self.now))  # type: ignore[arg-type]

    def seen(self, event: SwitchEvent) -> None:
        self.take(self.brain.seen(event, self.now))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.brain.tick(self.now))

    def synced(self, *kinds: object) -> None:
        objects = {
            NODE: {n.name: n for n in self.nodes.values()},
            POD: {p.ref: p for p in self.pods.values()},
            NAMESPACE: {},
            NETWORK_POLICY: self.policies,
        }
        for kind in kinds or KINDS:
            self.heard(Synced(kind, objects.get(kind, {})))  # type: ignore[arg-type, call-overload]

    def pods_served(self, name: str) -> int:
        """How many pods have flows in a node's desired state."""
        owners = self.brain.network.ledger(name).owners
        return sum(owner.kind is OwnerKind.POD for owner in owners)

    def connected(self, name: str) -> bool:
        return self.by_connection.get(self.switches[name].connection) is self.switches[name]

    def connect(self, name: str) -> None:
        self.disconnect(name)
        switch = self.switches[name]
        self.connections += 1
        switch.connection = self.connections
        switch.answers.clear()
        switch._bundle = None
        switch.role = ControllerRole.EQUAL
        self.by_connection[switch.connection] = switch
        self.seen(switch.connected(ports=self.ports[name]))

    def lead(self) -> None:
        """Lead from now on, after another has led if we did not."""
        self.term += 2
        self.take(self.brain.lead(self.term, self.now))

    def stand_by(self) -> None:
        self.take(self.brain.stand_by(self.now))

    def disconnect(self, name: str) -> None:
        if self.connected(name):
            connection = self.switches[name].connection
            del self.by_connection[connection]
            self.seen(Disconnected(connection, "cut"))

    def set_ports(self, name: str, ports: frozenset[Port]) -> None:
        """The switch's ports change, one by one."""
        before, self.ports[name] = self.ports[name], ports
        if not self.connected(name):
            return
        connection = self.switches[name].connection
        gone = {p.ofport for p in before} - {p.ofport for p in ports}
        for port in sorted(before):
            if port.ofport in gone:
                self.seen(PortChanged(connection, PortChange.REMOVED, port))
        for port in sorted(ports - before):
            self.seen(PortChanged(connection, PortChange.MODIFIED, port))

    def answer(self, name: str) -> None:
        switch = self.switches[name]
        if switch.answers and self.connected(name):
            self.seen(switch.answers.popleft())

    def settle(self) -> None:
        while any(s.answers and self.connected(n) for n, s in self.switches.items()):
            for name in NODES:
                self.answer(name)

    def expected(self, name: str) -> dict[object, object]:
        """The flows that the switch of a node must have, computed from scratch, as bytes."""
        network = Network(encode.fingerprint)
        network.set_policies(self.policies.values())
        network.set_pods(self.pods.values())
        network.set_nodes(self.nodes.values())
        for other in network.nodes:
            if other == name or self.connected(other):
                network.set_ports(other, self.ports[other])
        ledger = network.ledger(name)
        switch = FakeSwitch()
        for data in (
            encode.bundle_control(BundleControl.OPEN_REQUEST, 9),
            encode.flow_adds([*ledger.flows.values(), stamp_flow(ledger.digest)]),
            encode.bundle_control(BundleControl.CLOSE_REQUEST, 9),
            encode.bundle_control(BundleControl.COMMIT_REQUEST, 9),
        ):
            switch.receive(data)
        return dict(switch.flows)

    def of(self, kind: type) -> list[Result]:
        return [r for r in self.results if isinstance(r, kind)]


def stage_with_web() -> Stage:
    stage = Stage()
    stage.nodes = {"node-1": NODE_1, "node-2": NODE_2}
    stage.pods = {WEB.ref: WEB}
    stage.synced()
    stage.connect("node-1")
    stage.tick(GRACE)
    stage.settle()
    return stage


def test_switches_wait_until_every_kind_has_been_listed() -> None:
    stage = Stage()
    stage.nodes = {"node-1": NODE_1}
    stage.connect("node-1")
    stage.synced(NODE)
    stage.synced(POD)
    assert stage.of(Send) == []
    assert not stage.brain.ready
    stage.synced(NAMESPACE)
    assert not stage.brain.ready
    stage.synced(NETWORK_POLICY, SERVICE)
    assert not stage.brain.ready
    stage.synced(ENDPOINT_SLICE)
    assert stage.of(Ready) == [Ready(1, 0)]
    stage.settle()
    assert stage.switches["node-1"].content == stage.expected("node-1")


def test_a_pods_port_is_served_and_its_removal_takes_its_flows_away() -> None:
    stage = stage_with_web()
    before = dict(stage.switches["node-1"].content)
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    stage.now += 0.25
    stage.settle()
    assert stage.switches["node-1"].content == stage.expected("node-1")
    assert len(stage.switches["node-1"].flows) == len(before) + 10
    assert stage.of(Served) == [Served("node-1", Cause.PORT, 0.25)]
    stage.set_ports("node-1", frozenset())
    stage.settle()
    assert stage.switches["node-1"].content == before


def test_a_pod_that_the_api_has_not_told_of_yet_is_served_when_it_does() -> None:
    stage = stage_with_web()
    stage.heard(Deleted(POD, WEB.ref, "u1"))
    del stage.pods[WEB.ref]
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    stage.tick(GRACE / 2)
    stage.pods[WEB.ref] = WEB
    stage.heard(Changed(POD, WEB.ref, WEB))
    stage.tick(GRACE)
    stage.settle()
    assert stage.of(PortRefused) == []
    assert stage.switches["node-1"].content == stage.expected("node-1")


def test_a_port_that_stays_refused_is_told_once() -> None:
    stage = stage_with_web()
    stage.set_ports("node-1", frozenset({Port(9, "eth9", "02:00:00:00:00:01")}))
    for _ in range(5):
        stage.tick(GRACE)
    (refused,) = stage.of(PortRefused)
    assert isinstance(refused, PortRefused)
    assert (refused.node, refused.refusal.reason) == ("node-1", Reason.NO_SUCH_POD)


def test_a_switch_of_no_known_node_is_turned_away() -> None:
    stage = stage_with_web()
    stage.connect("node-3")
    assert len(stage.of(TurnedAway)) == 1
    assert not stage.connected("node-3")
    assert stage.switches["node-3"].flows == {}


def test_a_node_that_leaves_loses_its_session_and_others_forget_it() -> None:
    stage = stage_with_web()
    stage.connect("node-2")
    stage.settle()
    del stage.nodes["node-1"]
    stage.heard(Deleted(NODE, "node-1", ""))
    stage.settle()
    assert [lost.node for lost in stage.of(Lost)] == ["node-1"]  # type: ignore[union-attr]
    assert stage.of(Departed) == [Departed("node-1")]
    assert not stage.connected("node-1")
    assert stage.switches["node-2"].content == stage.expected("node-2")


def test_while_the_api_is_away_nothing_changes() -> None:
    stage = stage_with_web()
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    stage.settle()
    before = dict(stage.switches["node-1"].content)
    for kind in KINDS:
        stage.heard(Stale(kind, 5.0, "refused"))
    stage.connect("node-1")
    stage.settle()
    assert stage.switches["node-1"].content == before
    assert all(w.stale_since == 5.0 for w in stage.brain.watched)
    for kind in KINDS:
        stage.heard(Fresh(kind))
    assert all(w.stale_since is None for w in stage.brain.watched)


def test_nothing_new_is_let_in_while_policies_may_have_changed_unheard() -> None:
    stage = stage_with_web()
    stage.heard(Stale(NETWORK_POLICY, 5.0, "refused"))
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    stage.settle()
    (refused,) = stage.brain.network.nodes["node-1"].beliefs.refusals
    assert refused.reason is Reason.NO_NEWS
    assert not stage.pods_served("node-1")

    # What was missed comes first when the watch works again.
    stage.heard(Fresh(NETWORK_POLICY))
    stage.tick(GRACE / 2)
    assert not stage.pods_served("node-1")
    put_policy(POLICIES[0])(stage)
    stage.tick(GRACE)
    stage.settle()
    assert not stage.brain.network.nodes["node-1"].beliefs.refusals
    assert stage.pods_served("node-1")
    assert stage.switches["node-1"].content == stage.expected("node-1")

    # What runs already goes on running.
    stage.heard(Stale(NETWORK_POLICY, 5.0, "refused"))
    stage.connect("node-1")
    stage.settle()
    assert stage.switches["node-1"].content == stage.expected("node-1")


def test_a_switch_that_connects_tells_of_peers_of_pods_on_other_nodes() -> None:
    stage = stage_with_web()
    client = Pod("shop", "client", "u2", node="node-2", phase=Phase.RUNNING)
    stage.pods[client.ref] = client
    stage.heard(Changed(POD, client.ref, client))
    put_policy(policy("shop/allow", ingress=[rule([peer("")])]))(stage)
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    stage.settle()
    name = port_name("shop", "client", "u2")
    stage.ports["node-2"] = frozenset({Port(3, name, host_mac(IPv4Address("10.0.2.9")))})
    before = len(stage.switches["node-1"].flows)

    stage.connect("node-2")
    stage.settle()

    assert stage.switches["node-2"].content == stage.expected("node-2")
    # The client is a peer of the web pod now, by both its addresses.
    assert len(stage.switches["node-1"].flows) == before + 2


def test_a_controller_that_starts_hears_all_switches_before_it_writes_to_any() -> None:
    """Until a switch has told its ports, its newest pods are not known as peers: writing to others
    too soon would take from them what an earlier controller had written.
    """
    stage = Stage()
    stage.nodes = {node.name: node for node in (NODE_1, NODE_2)}
    stage.connect("node-1")
    stage.synced()
    stage.settle()
    assert not stage.switches["node-1"].writes
    stage.connect("node-2")
    stage.settle()
    assert stage.switches["node-1"].writes
    assert stage.switches["node-2"].writes


def test_a_controller_that_starts_does_not_wait_long_for_a_switch_that_is_away() -> None:
    stage = Stage()
    stage.nodes = {node.name: node for node in (NODE_1, NODE_2)}
    stage.synced()
    stage.connect("node-1")
    stage.settle()
    assert not stage.switches["node-1"].writes
    assert stage.brain.due <= stage.now + GRACE
    stage.tick(GRACE)
    stage.settle()
    assert stage.switches["node-1"].writes


def test_a_list_of_policies_lets_newcomers_in_at_once() -> None:
    stage = stage_with_web()
    stage.heard(Stale(NETWORK_POLICY, 5.0, "refused"))
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    stage.heard(Fresh(NETWORK_POLICY))
    stage.synced(NETWORK_POLICY)
    stage.settle()
    assert stage.pods_served("node-1")


def test_one_that_stands_by_knows_all_and_takes_over_at_once() -> None:
    stage = stage_with_web()
    stage.stand_by()
    assert not stage.connected("node-1")
    for name in ("node-1", "node-2"):
        stage.connect(name)
    stage.settle()
    assert len(stage.of(StandingBy)) == 2
    before = dict(stage.switches["node-1"].flows)
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    put_policy(POLICIES[0])(stage)
    for _ in range(200):
        stage.tick(3)
        stage.settle()
    assert stage.pods_served("node-1") == 1
    assert stage.switches["node-1"].flows == before
    assert not stage.brain._awaited
    stage.lead()
    stage.settle()
    for name in ("node-1", "node-2"):
        assert stage.switches[name].content == without_serials(stage.expected(name))


def test_a_refused_port_is_told_of_by_who_leads_alone() -> None:
    stage = stage_with_web()
    stage.stand_by()
    stage.connect("node-1")
    stage.settle()
    stage.set_ports("node-1", frozenset({Port(9, "evil-1", "0e:58:0a:00:01:09")}))
    for _ in range(5):
        stage.tick(GRACE)
        assert stage.brain.due > stage.now
    assert stage.of(PortRefused) == []
    stage.lead()
    stage.tick(0)
    assert len(stage.of(PortRefused)) == 1


def test_the_same_truth_again_writes_nothing() -> None:
    stage = stage_with_web()
    stage.set_ports("node-1", frozenset({WEB_PORT}))
    stage.settle()
    writes = stage.switches["node-1"].writes
    stage.synced()
    stage.heard(Changed(POD, WEB.ref, WEB))
    stage.heard(Changed(NODE, "node-1", NODE_1))
    stage.connect("node-1")
    stage.settle()
    assert stage.switches["node-1"].writes == writes
    assert len(stage.of(Acknowledged)) == 2


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
    def step(stage: Stage) -> None:
        stage.policies = stage.policies | {policy.ref: policy}
        stage.heard(Changed(NETWORK_POLICY, policy.ref, policy))

    return step


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
    policy("shop/deny", ingress=[], egress=[]),
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
