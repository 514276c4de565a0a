"""The controller from end to end, without a wire: API events and switches in memory."""

from ipaddress import IPv4Address

from brain_stage import DENY, NODE_1, NODE_2, WEB, WEB_PORT, Stage, stage_with_web
from fake_switch import without_serials
from policy_objects import peer, policy, rule

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
)
from ovsnet.controller.belief import Port, Reason
from ovsnet.controller.brain import GRACE
from ovsnet.controller.notices import Acknowledged, Lost, Send, StandingBy, TurnedAway
from ovsnet.controller.results import Cause, Departed, PortRefused, Ready, Served
from ovsnet.model import Phase, Pod
from ovsnet.names import host_mac, port_name


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
    stage.put_policy(DENY)
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
    stage.put_policy(policy("shop/allow", ingress=[rule([peer("")])]))
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
    stage.put_policy(DENY)
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
