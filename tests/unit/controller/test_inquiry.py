"""Questions put from other threads to a running loop, whose switches are in memory."""

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping

import pytest
from fake_switch import FakeSwitch
from policy_carriage import ports_of
from policy_objects import namespace, node, peer, pod, policy, port, rule
from service_objects import endpoint_slice, service

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
    Synced,
)
from ovsnet.controller.brain import Brain
from ovsnet.controller.inquiry.desk import Inquiry
from ovsnet.controller.inquiry.questions import Proposal, Question, QuestionError, UnableError
from ovsnet.controller.inquiry.tickets import Tickets
from ovsnet.controller.loop import Loop
from ovsnet.controller.network import Network
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.events import Disconnected
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.model import NetworkPolicy, Protocol
from ovsnet.names import Table
from ovsnet.policy.world import World

WEB = pod("shop/web", "app=web", host=5)
DB = pod("shop/db", "app=db", node=2, host=6)
WORLD = World.of([namespace("shop")], [WEB, DB], [node(1), node(2)])
API = service("shop/api", "sql=80", load_balancer="192.0.2.9", sources="198.51.100.0/24")
PART = endpoint_slice("shop/api", ["sql=5432"], "10.244.1.5", "10.244.2.6")
DENY = policy("shop/deny", ingress=())
OPEN = policy("shop/open", "app=db", ingress=[rule([peer("app=web")], [port(5432)])])
ASKED = Question("shop/web", "shop/db", port="5432")


class Stage:
    """A loop in a thread of its own, and two switches that answer at once, unless they are held.

    `pauses` counts how often an inquiry waited; `on_pause` is called when it does.
    """

    def __init__(self) -> None:
        self.brain = Brain(Network(encode.fingerprint), Switchboard(1, Timing()))
        self.tickets = Tickets()
        self.loop = Loop(self.brain, time.monotonic, self)
        self.inquiry = Inquiry(self.brain, self.loop, self.tickets, self.told, self.pause)
        self.switches = {name: FakeSwitch(name) for name in WORLD.nodes}
        for number, switch in enumerate(self.switches.values(), 1):
            switch.connection = number
        self.held: set[int] = set()
        self.serial = "system"
        self.pauses = 0
        self.on_pause = lambda: None

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        self.on_pause()

    def told(self, nodes: Iterable[str], seconds: float) -> Mapping[str, str]:
        return dict.fromkeys(nodes, "its agent is away")

    def send(self, connection: int, data: bytes) -> None:
        switch = self.by_connection(connection)
        switch.receive(data)
        if connection not in self.held:
            self.flush(switch)

    def flush(self, switch: FakeSwitch) -> None:
        while switch.answers:
            self.loop.seen(switch.answers.popleft())

    def end(self, connection: int, reason: str) -> None:
        pass

    def __call__(self, result: object) -> None:
        self.tickets.seen(result)  # type: ignore[arg-type]

    def refresh(self) -> None:
        pass

    def by_connection(self, connection: int) -> FakeSwitch:
        return next(s for s in self.switches.values() if s.connection == connection)

    def begin(self, *policies: NetworkPolicy) -> None:
        objects = {
            NODE: WORLD.nodes,
            POD: WORLD.pods,
            NAMESPACE: WORLD.namespaces,
            NETWORK_POLICY: {policy.ref: policy for policy in policies},
            SERVICE: {API.ref: API},
            ENDPOINT_SLICE: {PART.ref: PART},
        }
        for kind in KINDS:
            self.loop.heard(Synced(kind, objects[kind]))  # type: ignore[arg-type]
        for name, switch in self.switches.items():
            ports = frozenset(ports_of(WORLD, name))
            self.loop.seen(switch.connected(ports=ports, serial=self.serial))

    def settled(self) -> None:
        """Wait until every switch has what it should have."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.inquiry.in_loop(self._in_step):
                return
        raise AssertionError("the switches do not come into step")

    def _in_step(self) -> bool:
        sessions = list(self.brain.switchboard)
        return len(sessions) == len(self.switches) and all(
            s.acknowledged == self.brain.network.ledger(s.node).revision for s in sessions
        )

    def rewrite(self, name: str, keep: object) -> None:
        """Meddle with the flows of a switch, between two events of the loop."""

        def work() -> None:
            flows = self.switches[name].flows
            for key in [k for k in flows if not keep(k)]:  # type: ignore[operator]
                del flows[key]

        self.inquiry.in_loop(work)


@pytest.fixture
def stage():
    made = Stage()
    thread = threading.Thread(target=made.loop.run, args=(made,), daemon=True)
    thread.start()
    yield made
    made.loop.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_policies_and_switches_are_asked(stage):
    stage.begin(DENY, OPEN)
    stage.settled()
    found = stage.inquiry.why(ASKED)
    assert (found.allowed, found.agree, found.remarks) == (True, True, ())
    found = stage.inquiry.why(Question("shop/web", "shop/db", port="80"))
    assert (found.allowed, found.agree) == (False, True)
    fate = found.answers[0].flows.fates[0]
    assert fate.flow.owner == "pod shop/db, isolated for ingress by policy shop/deny, shop/open"
    assert stage.pauses == 0


def test_the_owner_of_a_flow_that_should_not_let_pass_is_named(stage):
    stage.begin(DENY, OPEN)
    stage.settled()
    stage.rewrite("node-2", lambda key: key[0] != Table.INGRESS_ISOLATION or key[1] == 0)
    found = stage.inquiry.why(Question("shop/web", "shop/db", port="80"))
    assert (found.allowed, found.agree) == (False, False)
    assert found.answers[0].flows.fates[0].flow.owner == "node node-2"
    assert found.remarks == ()


def test_a_service_is_asked_about_on_the_switches_of_its_endpoints(stage):
    stage.begin(DENY)
    stage.settled()
    asked = Question("shop/web", "service/shop/api")
    found = stage.inquiry.why(asked)
    assert (found.allowed, found.agree, found.remarks) == (False, True, ())
    (called,) = found.services
    assert [(e.pod, e.node, e.flows.agree) for e in called.endpoints] == [
        ("shop/web", "node-1", True),
        ("shop/db", "node-2", True),
    ]
    dropped = called.endpoints[1].flows.fates[0].flow
    assert dropped.owner == "pod shop/db, isolated for ingress by policy shop/deny"
    stage.rewrite("node-1", lambda key: key[0] != Table.ENDPOINT or key[1] == 0)
    found = stage.inquiry.why(asked)
    (called,) = found.services
    assert called.flows.problem == "the first packet may be led to no endpoint"
    assert called.flows.fates[0].flow.owner == "node node-1"
    stage.rewrite("node-1", lambda key: key[0] != Table.SPREAD or key[1] == 0)
    (called,) = stage.inquiry.why(asked).services
    (fate,) = called.flows.fates
    assert (fate.flow.table, fate.flow.owner) == ("spread", "node node-1")


def test_the_owner_of_a_service_s_flow_is_named(stage):
    stage.begin()
    stage.settled()
    found = stage.inquiry.why(Question("shop/web", "192.0.2.9", port="80"))
    assert (found.allowed, found.agree) == (False, True)
    (called,) = found.services
    assert called.flows.fates[0].flow.owner == "service shop/api"


def test_a_switch_that_is_away_leaves_only_the_policies(stage):
    stage.begin(DENY)
    stage.settled()
    stage.loop.seen(Disconnected(stage.switches["node-2"].connection, "cut"))
    found = stage.inquiry.why(ASKED)
    assert (found.allowed, found.agree) == (False, False)
    assert found.answers[0].flows.problem == "node-2: its switch is not connected"
    assert stage.inquiry.why(Question("shop/web", "203.0.113.7", port="80")).agree


def test_a_change_on_its_way_is_waited_for(stage):
    stage.begin()
    stage.settled()
    second = stage.switches["node-2"]

    def hold():
        stage.held.add(second.connection)

    def release():
        stage.held.clear()
        stage.loop.call(lambda: stage.flush(second))

    stage.inquiry.in_loop(hold)
    stage.loop.heard(Changed(NETWORK_POLICY, DENY.ref, DENY))
    stage.on_pause = release
    dumps = iter([second])

    def let_the_first_dump_through():
        """The switch answers no bundle, but says which flows it has."""
        with contextlib.suppress(StopIteration):
            next(dumps)
            kept = [a for a in second.answers if not hasattr(a, "body")]
            told = [a for a in second.answers if hasattr(a, "body")]
            second.answers.clear()
            second.answers.extend(kept)
            for answer in told:
                stage.loop.seen(answer)

    original = stage.brain.dump

    def dump(node_name, ticket, now):
        if node_name == "node-2":
            stage.loop.call(let_the_first_dump_through)
        return original(node_name, ticket, now)

    stage.brain.dump = dump
    found = stage.inquiry.why(ASKED)
    assert stage.pauses >= 1
    assert (found.allowed, found.agree, found.remarks) == (False, True, ())


def test_a_switch_whose_stamp_is_never_right_is_told(stage):
    stage.begin(DENY)
    stage.settled()
    stage.rewrite("node-1", lambda key: key[0] != Table.STAMP)
    found = stage.inquiry.why(ASKED)
    assert found.agree, "its other flows are right"
    assert found.remarks == ("the switch of node-1 does not have its latest flows",)
    assert stage.pauses == 4


def test_a_switch_that_turns_out_to_be_on_the_way_is_asked_too(stage):
    late = stage.switches.pop("node-2")
    stage.begin(DENY)
    stage.settled()
    original = stage.brain.dump

    def dump(node_name, ticket, now):
        if "node-2" not in stage.switches:
            stage.switches["node-2"] = late
            stage.loop.seen(late.connected(ports=frozenset(ports_of(WORLD, "node-2"))))
        return original(node_name, ticket, now)

    stage.brain.dump = dump
    stage.on_pause = stage.settled
    found = stage.inquiry.why(ASKED)
    assert stage.pauses >= 1
    assert (found.allowed, found.agree) == (False, True)
    assert found.answers[0].flows.fates[0].where == "is dropped on node-2 in ingress_default"


def test_the_sort_of_a_switchs_datapath_is_known(stage):
    sctp = policy("shop/sctp", "app=db", ingress=[rule(None, [port(9, protocol=Protocol.SCTP)])])
    stage.serial = "netdev"
    stage.begin(sctp)
    stage.settled()
    found = stage.inquiry.why(Question("shop/web", "shop/db", "sctp", "9"))
    assert (found.allowed, found.agree) == (True, False)
    assert "userspace datapath of node-2" in found.remarks[1]


def test_before_the_cluster_is_known_there_is_no_answer(stage):
    with pytest.raises(UnableError, match="not yet read"):
        stage.inquiry.why(ASKED)


def test_ends_that_go_away_meanwhile(stage):
    stage.begin(DENY)
    stage.settled()
    original = stage.brain.dump

    def dump(node_name, ticket, now):
        stage.loop.heard(Deleted(POD, DB.ref, DB.uid))
        return original(node_name, ticket, now)

    stage.brain.dump = dump
    with pytest.raises(QuestionError, match="no pod 'db'"):
        stage.inquiry.why(ASKED)


def test_a_fault_in_the_loops_thread_is_the_askers(stage):
    with pytest.raises(ZeroDivisionError):
        stage.inquiry.in_loop(lambda: 1 // 0)
    assert stage.inquiry.in_loop(lambda: 7) == 7


def test_many_ask_at_once(stage):
    stage.begin(DENY, OPEN)
    stage.settled()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(stage.inquiry.why(ASKED))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [(a.allowed, a.agree) for a in answers] == [(True, True)] * 8


def test_a_plan_changes_nothing(stage):
    with pytest.raises(UnableError, match="not yet read"):
        stage.inquiry.plan(Proposal((DENY,)))
    stage.begin()
    stage.settled()
    before = stage.inquiry.in_loop(lambda: dict(stage.switches["node-2"].flows))
    found = stage.inquiry.plan(Proposal((DENY,)))
    assert {s.destinations for s in found.denied} == {("shop/db", "shop/web")}
    assert [s.reason for s in found.silent] == ["its agent is away"] * 2
    assert [f.added > 0 for f in found.flows] == [True, True]
    assert stage.inquiry.in_loop(lambda: dict(stage.switches["node-2"].flows)) == before
    assert stage.inquiry.in_loop(lambda: dict(stage.brain.network.policies)) == {}
