"""What the brain makes of agents' reports: whom it believes, and what it tells of it."""

from __future__ import annotations

from ipaddress import ip_address

from fake_switch import FakeSwitch, description

from ovsnet.api import KINDS, NODE, POD, Reached, Synced
from ovsnet.controller import report
from ovsnet.controller.brain import GRACE, Brain
from ovsnet.controller.network import Network
from ovsnet.controller.notices import Send, Settled
from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.events import Disconnected
from ovsnet.controller.reports import Settled as Report
from ovsnet.controller.reports import Speaker
from ovsnet.controller.results import ReportRefused
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.stamp import serial_of
from ovsnet.model import Node

OWN = "192.0.2.1"
NODES = {
    "node-1": Node("node-1", addresses=(ip_address(OWN),)),
    "node-2": Node("node-2", addresses=(ip_address("192.0.2.2"),)),
}


class Stage:
    """A brain and the switch of node-1."""

    def __init__(self):
        self.brain = Brain(Network(encode.fingerprint), Switchboard(1, Timing()))
        self.switch = FakeSwitch("node-1")
        self.now = 100.0
        self.results = []

    def take(self, results):
        for result in results:
            self.results.append(result)
            if isinstance(result, Send):
                self.switch.receive(result.data)
        while self.switch.answers:
            self.take(self.brain.seen(self.switch.answers.popleft(), self.now))

    def list_all(self):
        for kind in KINDS:
            self.take(self.brain.heard(Synced(kind, NODES if kind is NODE else {}), self.now))

    def connect(self, **changes):
        self.take(self.brain.seen(self.switch.connected(**changes), self.now))
        # The other node's switch is not waited for any longer than this.
        self.now += GRACE
        self.take(self.brain.tick(self.now))

    def report(self, node="node-1", address=OWN, **changes):
        flows = decode.flows(b"".join(description(*i) for i in self.switch.flows.items()))
        (stamp,) = (flow for flow in flows if serial_of(flow) is not None)
        said = {"digest": f"{stamp.cookie:016x}", "serial": serial_of(stamp)} | changes
        results = self.brain.reported(Report(node, **said), Speaker(address), self.now)
        self.take(results)
        return results

    def document(self):
        return report.status(self.brain, None, 0.0, {}, lambda moment: moment)

    def status(self):
        return {node.name: node for node in self.document().nodes}


def steady():
    stage = Stage()
    stage.list_all()
    stage.connect(serial="netdev")
    return stage


def test_a_report_of_the_nodes_own_agent_settles_the_revision_and_status_shows_it():
    stage = steady()
    revision = stage.status()["node-1"].revision
    assert (revision.acknowledged, revision.settled) == (revision.desired, None)
    stage.now += 0.5
    assert stage.report() == [Settled("node-1", revision.desired, 0.5)]
    revision = stage.status()["node-1"].revision
    assert revision.in_effect
    assert revision.settled == revision.desired
    assert stage.report() == [], "said before"


def test_another_nodes_agent_is_not_believed():
    stage = steady()
    reason = "192.0.2.2 is no address of node node-1, which has: 192.0.2.1"
    assert stage.report(address="192.0.2.2") == [ReportRefused("node-1", "192.0.2.2", reason)]
    assert stage.status()["node-1"].revision.settled is None


def test_nobody_is_believed_of_a_node_that_is_none():
    stage = steady()
    assert stage.report("node-9") == [ReportRefused("node-9", OWN, "there is no node 'node-9'")]


def test_a_report_of_a_node_whose_switch_is_not_connected_is_nothing():
    stage = steady()
    assert stage.report("node-2", "192.0.2.2") == []
    assert stage.status()["node-2"].revision.settled is None


def test_a_report_before_the_nodes_are_known_is_passed_over_and_refused_to_nobody():
    stage = Stage()
    assert stage.brain.reported(Report("node-1", "1", 1), Speaker("203.0.113.9"), 0.0) == []
    assert stage.brain.vouch("node-1", Speaker("203.0.113.9")) == []
    stage.list_all()
    assert len(stage.brain.vouch("node-1", Speaker("203.0.113.9"))) == 1


def test_a_lost_switch_has_nothing_settled_and_no_datapath():
    stage = steady()
    stage.report()
    assert stage.status()["node-1"].datapath == "netdev"
    stage.take(stage.brain.seen(Disconnected(stage.switch.connection, "lost"), stage.now))
    node = stage.status()["node-1"]
    assert (node.revision.settled, node.datapath) == (None, "")


def test_status_tells_how_far_the_watches_are_and_what_is_missing():
    stage = steady()
    assert stage.brain.heard(Reached(POD, 77, 3), stage.now) == []
    watches = {watch.kind: watch for watch in stage.document().watches}
    assert (watches["Pod"].version, watches["Pod"].refreshed) == (77, 3)
    assert (watches["Node"].version, watches["Node"].refreshed) == (0, 0)
    revision = stage.status()["node-1"].revision
    late = f"node-1 has settled revision none (acknowledged {revision.desired})"

    def missing(**wanted):
        return stage.document().missing(**wanted, everywhere=False)

    assert missing() == [f"{late} of {revision.desired}"]
    stage.report()
    assert missing(versions={"Pod": 77}) == []
    early = "Pod objects are known up to version 77, which is before 78"
    assert missing(versions={"Pod": 78}) == [early]
    listing = [f"{kind.name} objects are being listed" for kind in KINDS if kind is not POD]
    assert missing(refreshed=3) == listing
    assert stage.document().missing() == ["node-2: its switch is not connected"]
