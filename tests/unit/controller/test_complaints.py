"""Policies that are not enforced as they stand: what is wrong, when it is told, and where."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_carriage import network_of
from policy_objects import namespace, node, peer, pod, policy, port, rule

from ovsnet.api import Remark, Subject
from ovsnet.controller import report
from ovsnet.controller.brain import Brain
from ovsnet.controller.complainer import REMIND, Complainer, standing
from ovsnet.controller.complaints import (
    Complaint,
    complaints,
    is_doubtful,
    news,
    remarks,
    sctp_complaints,
)
from ovsnet.controller.session import Timing
from ovsnet.controller.status import PolicyComplaint
from ovsnet.controller.switchboard import Switchboard
from ovsnet.model import Direction, Fault, PolicyRef, Protocol
from ovsnet.policy.world import World

NAME = PolicyRef("shop", "db")
UNKNOWN = Fault("spec.ingress[0].action", "unknown field: expected one of from, ports")
SOUND = policy("shop/db", "app=db", ingress=[rule([peer("app=web")], [port(80)])])
FAULTY = replace(SOUND, faults=(UNKNOWN,))


def sctp(*given, **more):
    """A port of SCTP."""
    return port(*given, protocol=Protocol.SCTP, **more)


SIGNAL = policy(
    "shop/signal",
    "app=db",
    ingress=[rule(), rule([peer("")], [port(80), sctp(2905)])],
    egress=[rule(None, [sctp("signal")])],
)


def complaint(field, reason="r", name=NAME, uid="u"):
    return Complaint(name, uid, field, reason)


# Who complains of what.


def test_a_sound_policy_is_no_reason_to_complain():
    assert not is_doubtful(SOUND)
    assert complaints([SOUND]) == ()


@pytest.mark.parametrize(
    ("field", "effect"),
    [
        ("spec", "all pods of the namespace are isolated, and the policy allows nothing"),
        (
            "spec.podSelector.matchExpressions[0].operator",
            "all pods of the namespace are isolated, and the policy allows nothing",
        ),
        ("spec.policyTypes[1]", "pods are isolated in both directions"),
        ("spec.policyTypes", "pods are isolated in both directions"),
        ("spec.tier", "the policy allows nothing"),
        ("spec.ingress[0].from[1].ipBlock.cidr", "the part that this belongs to allows nothing"),
        ("spec.egress", "the part that this belongs to allows nothing"),
    ],
)
def test_a_complaint_says_what_is_wrong_and_what_is_done_about_it(field, effect):
    faulty = replace(SOUND, faults=(Fault(field, "'x': expected y"),))
    assert is_doubtful(faulty)
    assert complaints([faulty]) == (
        Complaint(NAME, "uid-of-shop-db", field, f"'x': expected y; {effect}"),
    )


def test_complaints_are_in_order_whatever_the_order_of_the_policies():
    two = replace(SOUND, faults=(Fault("spec.z", "z"), Fault("spec.a", "a")))
    other = replace(policy("bank/x"), faults=(Fault("spec.m", "m"),))
    found = complaints([two, other])
    assert found == complaints([other, two])
    assert [(str(c.policy), c.field) for c in found] == [
        ("bank/x", "spec.m"),
        ("shop/db", "spec.a"),
        ("shop/db", "spec.z"),
    ]


def test_ports_of_sctp_are_told_with_the_rules_that_name_them():
    found = sctp_complaints([SIGNAL, SOUND], lambda _: ["n2", "n1", "n3"], {"n1", "n2", "n4"})
    assert [(c.policy, c.field) for c in found] == [
        (SIGNAL.ref, "spec.egress[0].ports"),
        (SIGNAL.ref, "spec.ingress[1].ports"),
    ]
    assert {c.reason for c in found} == {
        "ports of SCTP are not known to the userspace datapath of n1, n2; what is allowed by them "
        "is dropped there"
    }


def test_of_many_nodes_a_few_are_named():
    nodes = [f"n{n}" for n in range(9)]
    first, _ = sctp_complaints([SIGNAL], lambda _: nodes, nodes)
    assert "of n0, n1, n2 and 6 more;" in first.reason


@pytest.mark.parametrize(
    ("rule_", "doubt"),
    [
        (rule(), False),
        (rule([peer("")]), False),
        (rule(None, [port(80), port("http", protocol=Protocol.UDP)]), False),
        # Which port it is does not matter, and the tracker knows the protocol.
        (rule(None, [sctp()]), False),
        (rule(None, []), False),
        (rule(None, [sctp(1)]), True),
        (rule(None, [port(80), sctp(1, 65535)]), True),
        (rule(None, [sctp("signal")]), True),
    ],
)
def test_only_where_the_port_matters_there_is_a_complaint(rule_, doubt):
    for direction in Direction:
        one = policy("shop/one", **{direction.lower(): [rule_]})
        assert is_doubtful(one) == doubt
        assert bool(sctp_complaints([one], lambda _: ["n"], ["n"])) == doubt


def test_there_is_none_without_pods_on_such_nodes_or_in_directions_that_do_not_count():
    assert sctp_complaints([SIGNAL], lambda _: ["n1"], ["n2"]) == ()
    assert sctp_complaints([SIGNAL], lambda _: [], ["n2"]) == ()
    ignored = replace(SIGNAL, directions=frozenset({Direction.EGRESS}))
    (only,) = sctp_complaints([ignored], lambda _: ["n"], ["n"])
    assert only.field == "spec.egress[0].ports"


COMPLAINTS = st.builds(
    Complaint,
    st.builds(PolicyRef, st.sampled_from(("bank", "shop")), st.sampled_from("xy")),
    st.sampled_from("uv"),
    st.sampled_from(("spec.a", "spec.b")),
    st.sampled_from(("r", "s")),
)


@given(st.frozensets(COMPLAINTS), st.frozensets(COMPLAINTS))
def test_news_is_what_was_not_there_before(present, before):
    found = news(sorted(present), sorted(before))
    assert found == tuple(sorted(present - before))


@given(st.frozensets(COMPLAINTS))
def test_every_complaint_becomes_an_event(present):
    found = remarks(sorted(present))
    assert {(r.subject.namespace, r.subject.name, r.subject.uid, r.message) for r in found} == {
        (*c.policy, c.uid, f"{c.field}: {c.reason}") for c in present
    }
    assert len(found) == len(present)


def test_of_one_policy_a_few_events_tell_enough():
    found = remarks(complaint(f"spec.f{n:02d}") for n in range(25))
    subject = Subject("networking.k8s.io/v1", "NetworkPolicy", "shop", "db", "u")
    assert found[0] == Remark(subject, "NotEnforced", "spec.f00: r", "spec.f00")
    assert len(found) == 11
    assert found[-1].message == "15 more of its parts are not enforced"


# When it is told.

DB = pod("shop/db", "app=db", host=5)
ELSEWHERE = pod("shop/other", "app=db", node=2, host=6)


class Stage:
    """A network, the datapaths of its switches, and a complainer with its log and Events."""

    def __init__(self, *policies):
        world = World.of([namespace("shop")], [DB], [node(1), node(2)], policies)
        self.network = network_of(world)
        self.datapaths = {"node-1": "system", "node-2": "system"}
        self.events = []
        self.now = 0.0
        self.brain = SimpleNamespace(network=self.network, switchboard=self)
        self.complainer = Complainer(self.brain, self.events.append, lambda: self.now)

    def session(self, name):
        found = self.datapaths.get(name)
        return None if found is None else SimpleNamespace(datapath=found)

    def refresh(self, seconds=1.0):
        """What is told when so many seconds have passed."""
        self.now += seconds
        before = len(self.events)
        self.complainer.refresh()
        return [(r.subject.name, r.about, r.message) for r in self.events[before:]]


def test_it_is_told_once_and_again_while_it_lasts():
    stage = Stage(FAULTY)
    (told,) = stage.refresh()
    assert told[:2] == ("db", UNKNOWN.field)
    assert stage.refresh() == []
    assert stage.refresh(REMIND - 2) == []
    assert stage.refresh() == [told]
    assert stage.refresh() == []
    assert stage.refresh(REMIND) == [told]


def test_it_is_told_of_whatever_policies_there_are_now():
    stage = Stage(SOUND)
    assert stage.refresh() == []
    stage.network.put_policy(FAULTY)
    assert len(stage.refresh()) == 1
    worse = replace(FAULTY, faults=(UNKNOWN, Fault("spec.tier", "unknown field")))
    stage.network.put_policy(worse)
    assert [about for _, about, _ in stage.refresh()] == ["spec.tier"]
    stage.network.put_policy(SOUND)
    assert stage.refresh(REMIND) == []
    assert standing(stage.brain) == ()
    stage.network.put_policy(FAULTY)
    assert len(stage.refresh()) == 1
    stage.network.drop_policy(FAULTY.ref)
    assert stage.refresh(REMIND) == []
    stage.network.put_policy(replace(FAULTY, uid="of-a-later-one"))
    assert len(stage.refresh()) == 1
    assert stage.events[-1].subject.uid == "of-a-later-one"
    stage.network.set_policies([SOUND])
    assert standing(stage.brain) == ()


def test_datapaths_and_pods_that_come_and_go_decide_about_ports_of_sctp():
    stage = Stage(SIGNAL)
    assert stage.refresh() == []
    stage.datapaths["node-2"] = "netdev"
    assert stage.refresh() == []
    stage.network.put_pod(ELSEWHERE)
    assert standing(stage.brain) == ()
    stage.datapaths["node-1"] = "netdev"
    told = stage.refresh()
    assert [about for _, about, _ in told] == ["spec.egress[0].ports", "spec.ingress[1].ports"]
    assert all("of node-1;" in message for *_, message in told)
    stage.network.drop_pod(DB.ref)
    assert stage.refresh(REMIND) == []
    del stage.datapaths["node-1"]
    assert standing(stage.brain) == ()


def test_the_status_has_every_complaint():
    world = World.of([], [], [], [FAULTY])
    brain = Brain(network_of(world), Switchboard(1, Timing()))
    document = report.status(brain, 1, 0.0, {}, lambda moment: moment)
    (told,) = complaints([FAULTY])
    assert document.policies == (PolicyComplaint("shop/db", told.field, told.reason),)


def test_the_log_has_a_line_for_every_policy_with_news(caplog):
    worse = replace(SIGNAL, faults=(UNKNOWN, Fault("spec.tier", "unknown field")))
    stage = Stage(FAULTY, worse)
    stage.refresh()
    assert caplog.messages == ["policy not enforced as it stands"] * 2
    stage.refresh(REMIND)
    assert len(caplog.messages) == 2
    stage.network.put_policy(replace(FAULTY, faults=(Fault("spec.tier", "unknown field"),)))
    stage.refresh()
    assert len(caplog.messages) == 3
