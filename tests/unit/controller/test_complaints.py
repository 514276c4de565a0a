"""Policies that are not enforced as they stand, and services that are not served: what is wrong,
when it is told, and where.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_carriage import network_of
from policy_objects import namespace, node, peer, pod, policy, port, rule
from service_objects import endpoint_slice, service

from ovsnet.api import Remark, Subject
from ovsnet.controller import report
from ovsnet.controller.brain import Brain
from ovsnet.controller.complainer import REMIND, Complainer, standing
from ovsnet.controller.complaints import (
    POLICY,
    SERVICE,
    SLICE,
    Complaint,
    complaints,
    few,
    is_doubtful,
    news,
    remarks,
    sctp_complaints,
)
from ovsnet.controller.results import StandsBy
from ovsnet.controller.states import Timing
from ovsnet.controller.status import PolicyComplaint, ServiceComplaint
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Term
from ovsnet.flows.priorities import USUAL
from ovsnet.model import Direction, Fault, PolicyRef, Protocol, ServiceRef
from ovsnet.names import Table
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


def complaint(field, reason="r", sort=POLICY):
    return Complaint(*NAME, sort, "u", field, reason)


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
        Complaint(*NAME, POLICY, "uid-of-shop-db", field, f"'x': expected y; {effect}"),
    )


def test_complaints_are_in_order_whatever_the_order_of_the_policies():
    two = replace(SOUND, faults=(Fault("spec.z", "z"), Fault("spec.a", "a")))
    other = replace(policy("bank/x"), faults=(Fault("spec.m", "m"),))
    found = complaints([two, other])
    assert found == complaints([other, two])
    assert [(c.object, c.field) for c in found] == [
        ("bank/x", "spec.m"),
        ("shop/db", "spec.a"),
        ("shop/db", "spec.z"),
    ]


def test_ports_of_sctp_are_told_with_the_rules_that_name_them():
    found = sctp_complaints([SIGNAL, SOUND], lambda _: ["n2", "n1", "n3"], {"n1", "n2", "n4"})
    assert [(c.object, c.field) for c in found] == [
        ("shop/signal", "spec.egress[0].ports"),
        ("shop/signal", "spec.ingress[1].ports"),
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
    st.sampled_from(("bank", "shop")),
    st.sampled_from("xy"),
    st.sampled_from((POLICY, SERVICE, SLICE)),
    st.sampled_from("uv"),
    st.sampled_from(("spec.a", "spec.b")),
    st.sampled_from(("r", "s")),
)


@given(st.frozensets(COMPLAINTS), st.frozensets(COMPLAINTS))
def test_news_is_what_was_not_there_before(present, before):
    found = news(sorted(present), sorted(before))
    assert found == tuple(sorted(present - before))


@given(st.frozensets(COMPLAINTS))
def test_every_complaint_becomes_an_event_those_of_one_field_one_together(present):
    """Of one field there is one Event at a time, so what is said of it is said in one."""
    told = {}
    for each in sorted(present):
        subject = Subject(
            each.sort.api_version, each.sort.kind, each.namespace, each.name, each.uid
        )
        told.setdefault((subject, each.sort.event, each.field), []).append(each.reason)
    assert remarks(sorted(present)) == tuple(
        Remark(subject, event, f"{field}: {'; '.join(reasons)}", field)
        for (subject, event, field), reasons in told.items()
    )


@pytest.mark.parametrize(
    ("sort", "event", "api", "kind"),
    [
        (POLICY, "NotEnforced", "networking.k8s.io/v1", "NetworkPolicy"),
        (SERVICE, "NotServed", "v1", "Service"),
        (SLICE, "NotServed", "discovery.k8s.io/v1", "EndpointSlice"),
    ],
)
def test_of_one_object_a_few_events_tell_enough(sort, event, api, kind):
    found = remarks(complaint(f"spec.f{n:02d}", sort=sort) for n in range(25))
    subject = Subject(api, kind, "shop", "db", "u")
    assert found[0] == Remark(subject, event, "spec.f00: r", "spec.f00")
    assert len(found) == 11
    done = "enforced" if sort == POLICY else "served"
    assert found[-1] == Remark(subject, event, f"15 more of its parts are not {done}", "more")


def test_of_one_field_a_few_reasons_tell_enough():
    (told,) = remarks(complaint("spec.f", f"r{n}") for n in range(5))
    assert told.message == "spec.f: r0; r1; r2; and 2 more"


def test_a_few_complaints_of_each_object():
    present = sorted(
        [complaint(f"spec.f{n:02d}") for n in range(11)]
        + [complaint(f"spec.f{n:02d}", sort=SERVICE) for n in range(10)]
    )
    found = list(few(present))
    assert len(found) == 21
    assert [c for c in found if not c.field] == [
        complaint("", "1 more of its parts are not enforced")
    ]


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
        self.brain = SimpleNamespace(network=self.network, switchboard=self, term=1)
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


def test_who_stands_by_tells_nothing_and_who_takes_over_tells_all():
    stage = Stage(FAULTY)
    stage.brain.term = None
    assert stage.refresh() == []
    stage.brain.term = 1
    (told,) = stage.refresh()
    assert stage.refresh() == []
    stage.brain.term = None
    stage.complainer(StandsBy())
    assert stage.refresh(REMIND) == []
    stage.brain.term = 2
    assert stage.refresh() == [told]


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
    document = report.status(brain, None, 0.0, {}, lambda moment: moment)
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


# Services.

SHOP = service("shop/web", "http=80")
LATER = service("bank/web", "http=80", created="2026-02-01T00:00:00Z")
IN_USE = "10.96.0.1, TCP port 80: service shop/web has it"
WRONG = Fault("endpoints[0].addresses[0]", "127.0.0.1: it is a loopback address")
HERE = endpoint_slice("shop/web", ["http=8080"], "10.244.1.5")


def test_a_service_is_told_of_while_another_has_what_it_wants():
    stage = Stage()
    stage.network.put_service(LATER)
    stage.network.put_slice(HERE)
    assert stage.refresh() == []
    stage.network.put_service(SHOP)
    assert stage.refresh() == [("web", "spec.clusterIPs", f"spec.clusterIPs: {IN_USE}")]
    assert stage.events[-1].reason == "NotServed"
    assert stage.events[-1].subject == Subject("v1", "Service", "bank", "web", "uid-of-bank-web")
    stage.network.drop_service(ServiceRef("shop", "web"))
    assert stage.refresh(REMIND) == []
    assert standing(stage.brain) == ()


def test_what_the_api_says_of_a_service_that_is_no_good_and_goes_with_the_service():
    stage = Stage()
    faulty = replace(SHOP, faults=(Fault("spec.type", "'Odd': expected one of ClusterIP"),))
    stage.network.put_service(faulty)
    assert [about for _, about, _ in stage.refresh()] == ["spec.type"]
    stage.network.put_service(SHOP)
    assert standing(stage.brain) == ()
    stage.network.put_service(faulty)
    assert len(standing(stage.brain)) == 1
    stage.network.drop_service(faulty.ref)
    assert standing(stage.brain) == ()


def test_an_address_that_a_service_names_twice_is_judged_once():
    """As its cluster address it is its own, whoever else has the same."""
    stage = Stage()
    stage.network.put_service(service("bank/web", "http=80", external="10.96.0.1"))
    stage.network.put_service(SHOP)
    assert [(c.object, c.reason) for c in standing(stage.brain)] == [
        ("shop/web", "10.96.0.1, TCP port 80: service bank/web has it")
    ]
    called = [f for f in stage.network.ledger("node-1").flows.values() if f.table is Table.SERVICE]
    assert [f.priority for f in called if Term(Field.TCP_DST, 80) in f.match] == [USUAL]


def test_a_slice_that_is_no_good_is_told_of_itself_once_its_service_is_there():
    stage = Stage()
    part = replace(HERE, faults=(WRONG,))
    stage.network.put_slice(part)
    assert stage.refresh() == []
    stage.network.put_service(SHOP)
    message = f"{WRONG.field}: {WRONG.reason}"
    assert stage.refresh() == [("web-a", WRONG.field, message)]
    told = stage.events[-1]
    assert told.reason == "NotServed"
    assert told.subject == Subject(
        "discovery.k8s.io/v1", "EndpointSlice", "shop", "web-a", "uid-of-slice-shop-web-a"
    )
    stage.network.drop_slice(part.ref)
    assert stage.refresh(REMIND) == []


def test_ports_of_sctp_of_services_where_a_datapath_does_not_know_them():
    stage = Stage()
    stage.network.put_service(SHOP)
    stage.network.put_service(service("shop/signal", "s=2905/SCTP", cluster="10.96.0.2"))
    stage.network.put_service(replace(SHOP, name="headless", addresses=(), ports=()))
    assert stage.refresh() == []
    stage.datapaths["node-2"] = "netdev"
    ((name, about, message),) = stage.refresh()
    assert (name, about) == ("signal", "spec.ports")
    assert message == (
        "spec.ports: ports of SCTP are not known to the userspace datapath of node-2; connections "
        "to them are not translated as they should be"
    )
    stage.network.put_service(service("shop/signal", "s=2905", cluster="10.96.0.2"))
    assert standing(stage.brain) == ()
    stage.network.put_service(service("shop/signal", "s=2905/SCTP", cluster="10.96.0.2"))
    assert len(standing(stage.brain)) == 1
    stage.network.drop_service(ServiceRef("shop", "signal"))
    assert standing(stage.brain) == ()


def test_the_log_has_a_line_for_every_service_and_slice_with_news(caplog):
    stage = Stage()
    stage.network.put_service(SHOP)
    stage.network.put_service(LATER)
    stage.network.put_slice(replace(HERE, faults=(WRONG,)))
    stage.refresh()
    assert caplog.messages == ["service not served as it stands", "slice not served as it stands"]
    stage.refresh(REMIND)
    assert len(caplog.messages) == 2


def test_the_status_has_services_and_their_slices_with_a_few_complaints_each():
    network = network_of(World.of([], [], [], []))
    network.put_service(SHOP)
    network.put_service(LATER)
    wrong = tuple(Fault(f"endpoints[{n:02d}]", "r") for n in range(12))
    network.put_slice(replace(HERE, faults=wrong))
    brain = Brain(network, Switchboard(1, Timing()))
    document = report.status(brain, None, 0.0, {}, lambda moment: moment)
    assert document.policies == ()
    assert document.services == (
        ServiceComplaint("Service", "bank/web", "spec.clusterIPs", IN_USE),
        *(
            ServiceComplaint("EndpointSlice", "shop/web-a", f"endpoints[{n:02d}]", "r")
            for n in range(10)
        ),
        ServiceComplaint("EndpointSlice", "shop/web-a", "", "2 more of its parts are not served"),
    )
    assert [p for p in document.problems() if "served" in p] == [
        "Service bank/web: a part of it cannot be served",
        "EndpointSlice shop/web-a: several parts of it cannot be served",
    ]


def test_services_without_fault_are_not_looked_at():
    """Ten thousand of them cost nothing whenever something is told."""
    stage = Stage()
    stage.network.put_service(SHOP)
    stage.network.put_service(LATER)
    stage.refresh()
    board = stage.network.board

    class Untouchable(dict):
        def __iter__(self):
            raise AssertionError("all services are gone through")

        keys = values = items = __iter__

    board._services = Untouchable(board._services)
    board._slices = Untouchable(board._slices)
    board._compiled = Untouchable(board._compiled)
    assert [c.object for c in standing(stage.brain)] == ["bank/web"]
