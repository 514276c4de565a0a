"""A controller without a wire: its logic, its switches in memory, and the API's state as told."""

from ipaddress import IPv4Address, ip_address, ip_network

from cluster_strategies import NODES
from fake_switch import FakeSwitch
from policy_objects import policy

from ovsnet.api import KINDS, NAMESPACE, NETWORK_POLICY, NODE, POD, Changed, Synced
from ovsnet.controller.belief import Port
from ovsnet.controller.brain import GRACE, Brain
from ovsnet.controller.network import Network
from ovsnet.controller.notices import Close, Send
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.events import Disconnected, PortChange, PortChanged
from ovsnet.controller.openflow.events import Event as SwitchEvent
from ovsnet.controller.openflow.protocol import BundleControl, ControllerRole
from ovsnet.controller.results import Result
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

DENY = policy("shop/deny", ingress=[], egress=[])


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

    def put_policy(self, policy: NetworkPolicy) -> None:
        self.policies = self.policies | {policy.ref: policy}
        self.heard(Changed(NETWORK_POLICY, policy.ref, policy))

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
