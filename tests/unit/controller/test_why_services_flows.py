"""`why`, asked about services: whether the flows of the switches do what it says. What makes them
disagree is found.
"""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
from court import Court
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_objects import block, peer, policy, port, rule
from service_carriage import network_of, pods_of
from service_court import (
    DENY,
    ONLY4,
    SERVICE,
    SPACES,
    court,
    translates_to,
)
from service_objects import endpoint_slice, service
from service_strategies import service_calls, service_worlds

from ovsnet.controller.inquiry.questions import QuestionError
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow, Goto, SetField, match, term
from ovsnet.flows.terms import IPV4, destination
from ovsnet.model import Protocol
from ovsnet.names import Table
from ovsnet.policy.world import World as Cluster
from ovsnet.services.evaluate import NotAService, Served, evaluate
from ovsnet.services.world import Whence, World

# --- switches that do not hold what they should ---


def test_an_endpoint_that_no_flow_leads_to_is_found():
    found = court()
    found.meddle(
        "node-1", lambda f: None if f.table is Table.ENDPOINT and translates_to(f, 2) else f
    )
    told = found.why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, False)
    called = told.services[0]
    assert called.flows.problem == "the first packet may be led to no endpoint"
    assert called.flows.fates[0].flow.table == "endpoint"
    assert [e.flows.agree for e in called.endpoints] == [True, False, True]
    assert called.endpoints[1].flows.problem == "no flow leads to it"
    assert found.why("bank/vault", "service/shop/api").agree


def test_a_slot_that_no_flow_takes_is_found():
    found = court()
    spread = [f for f in found.held["node-1"].flows if f.table is Table.SPREAD and f.match]
    narrowest = max(spread, key=lambda f: f.match[0].mask)
    found.meddle("node-1", lambda f: None if f == narrowest else f)
    told = found.why("shop/web", "service/shop/api")
    assert told.services[0].flows.problem == "the first packet may be led to no endpoint"
    assert told.services[0].flows.fates[0].flow.table == "spread"


def test_an_endpoint_that_is_gone_from_the_service_is_found():
    part = endpoint_slice("shop/api", ["http=8080"], "10.244.1.6")
    before, found = court([ONLY4]), court([ONLY4], [part])
    found.held["node-1"] = before.held["node-1"]
    told = found.why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, False)
    assert told.services[0].flows.problem == "the first packet may be led to 10.244.2.6:8080"
    flow = told.services[0].flows.fates[0].flow
    assert flow.owner == "service shop/api"
    assert "for the endpoints of shop/api, port http" in flow.packets


def test_an_answer_that_is_not_translated_back_is_found():
    found = court()
    found.meddle("node-1", lambda f: None if f.table is Table.ANSWER and f.match else f)
    told = found.why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, False)
    flows = told.services[0].endpoints[1].flows
    assert flows.problem == (
        "policies allow it, and the answer arrives at shop/web, from 10.244.2.6:8080 to "
        "10.244.1.5:40000"
    )


def test_an_answer_that_does_not_come_back_is_found():
    found = court()
    lost = match(*destination(ip_address("10.244.1.5")), term(Field.IN_PORT, 2))
    found.add("node-1", Flow(Table.ROUTE, 999, lost))
    told = found.why("shop/web", "service/shop/api")
    assert [e.flows.agree for e in told.services[0].endpoints] == [True, False, False]
    assert told.services[0].endpoints[1].flows.problem == (
        "policies allow it, and the answer is dropped on node-1 in route"
    )


def test_a_refusal_that_is_none_is_found():
    found = court(parts=[])
    found.meddle("node-1", lambda f: None if f.table is Table.ROUTE and f.priority == 300 else f)
    told = found.why("shop/web", "service/shop/api")
    assert told.agree is False
    assert told.services[0].flows.problem == (
        "it is to be refused, and the first packet arrives at the node of node-1, and is not to be "
        "refused there"
    )


def test_a_refusal_that_does_not_come_back_is_found():
    found = court(parts=[])
    lost = match(*destination(ip_address("10.244.1.5")))
    found.add("node-1", Flow(Table.ROUTE, 999, lost))
    told = found.why("shop/web", "service/shop/api")
    assert told.services[0].flows.problem == (
        "it is to be refused, and the refusal is dropped on node-1 in route"
    )


def test_a_service_that_lets_pass_whom_it_should_not_is_found():
    balancer = msgspec.structs.replace(SERVICE, load_balancer=(ip_address("192.0.2.9"),))
    few = msgspec.structs.replace(balancer, sources=())
    before, found = court([balancer]), court([few])
    found.held["node-1"] = before.held["node-1"]
    told = found.why("shop/web", "192.0.2.9", port=80)
    assert (told.allowed, told.agree) == (False, False)
    assert told.services[0].flows.problem.startswith(
        "the service drops it on node-1, and the first packet arrives at port api-1-"
    )


def test_an_isolation_that_is_missing_behind_a_service_is_found():
    found = court(policies=[DENY])
    found.meddle("node-2", lambda f: None if f.table is Table.INGRESS_ISOLATION and f.match else f)
    told = found.why("shop/web", "service/shop/api")
    assert [e.flows.agree for e in told.services[0].endpoints] == [True, False, True]
    assert told.services[0].endpoints[1].flows.problem == (
        "ingress policies deny it on node-2, and the first packet arrives at shop/api-2"
    )


def test_only_live_connections_pass_behind_a_service():
    found = court(policies=[DENY])
    known = term(Field.CT_STATE, 0x22, 0x22)
    onward = Flow(Table.INGRESS_ISOLATION, 999, match(known), (Goto(Table.COMMIT),))
    for name in ("node-1", "node-2"):
        found.add(name, onward)
    told = found.why("shop/web", "service/shop/api")
    flows = told.services[0].endpoints[1].flows
    assert [(f.packet, f.right) for f in flows.fates] == [
        ("first packet", True),
        ("packet of a live connection", False),
        ("answer in a live connection", False),
    ]


def test_answers_in_live_connections_whose_source_is_translated():
    """They come back to the node's service address, and must not be taken for lost on the way."""
    found = court([ONLY4], policies=[DENY])
    known = term(Field.CT_STATE, 0x22, 0x22)
    found.add("node-2", Flow(Table.INGRESS_ISOLATION, 999, match(known), (Goto(Table.COMMIT),)))
    told = found.why("node/node-1", "service/shop/api")
    fates = told.services[0].endpoints[1].flows.fates
    assert [(f.packet, f.where, f.right) for f in fates[1:]] == [
        ("packet of a live connection", "arrives at shop/api-2", False),
        ("answer in a live connection", "arrives at node/node-1", False),
    ]


def test_answers_in_live_connections_without_segments():
    """Where the way back is denied too, nothing may pass; else the answers might begin one."""
    dns = service("shop/api", "dns=53/UDP")
    part = endpoint_slice("shop/api", ["dns=53/UDP"], "10.244.2.6")
    both_ways = policy("shop/quiet", "app=api", ingress=(), egress=())
    for policies, count in (([DENY], 2), ([both_ways], 3)):
        told = court([dns], [part], policies).why("shop/web", "service/shop/api")
        assert (told.protocol, told.allowed, told.agree) == ("udp", False, True)
        assert len(told.services[0].endpoints[0].flows.fates) == count


def test_a_refusal_that_seems_to_come_from_elsewhere_is_found():
    found = court([ONLY4], [])
    assert found.why("shop/web", "service/shop/api").agree
    elsewhere = SetField(Field.IPV4_SRC, int(ip_address("10.96.0.2")))
    to_web = match(*destination(ip_address("10.244.1.5")))

    def misled(flow):
        if flow.table is not Table.ROUTE or flow.match != to_web:
            return flow
        return msgspec.structs.replace(flow, actions=(elsewhere, *flow.actions))

    found.meddle("node-1", misled)
    told = found.why("shop/web", "service/shop/api")
    assert told.services[0].flows.problem == (
        "it is to be refused, and the refusal arrives at shop/web, from 10.96.0.2:80 to "
        "10.244.1.5:40000"
    )


def test_flows_that_cannot_be_followed():
    found = court()
    found.add("node-1", Flow(Table.SOURCE_NAT, 999, (), (Goto(Table.CONNTRACK),)))
    found.add("node-1", Flow(Table.SOURCE_NAT, 999, match(IPV4)))
    told = found.why("shop/web", "service/shop/api")
    assert [e.flows.agree for e in told.services[0].endpoints] == [None] * 3
    assert "holds flows in source_nat of which any may take the packet" in (
        told.services[0].endpoints[0].flows.problem
    )


# --- whatever services there are ---


def question(call):
    """A call as somebody would ask about it."""
    sort = call.client.whence
    source = str(call.client.address)
    if sort is Whence.NODE:
        source = f"node/{call.client.node}"
    protocol = "icmp" if call.protocol is None else call.protocol.lower()
    return source, str(call.destination), protocol, call.port or ""


POLICIES = (
    policy("shop/in", ingress=()),
    policy("shop/out", egress=()),
    policy("shop/pods-in", ingress=[rule([peer("")])]),
    policy("shop/pods-out", egress=[rule([peer("")])]),
    policy("shop/first-node-in", ingress=[rule([block("10.244.1.0/24"), block("172.18.0.1/32")])]),
    policy("shop/world-in", ingress=[rule([block("0.0.0.0/0", "10.244.0.0/16")])]),
    policy("shop/high-ports-out", egress=[rule(None, [port(8080, 9000)])]),
)


@st.composite
def sessions(draw):
    world = draw(service_worlds(nodes_own=draw(st.booleans())))
    return world, draw(st.lists(service_calls(world), min_size=1, max_size=4))


def court_of(world, policies=()):
    cluster = Cluster.of(SPACES, pods_of(world), world.nodes.values(), policies)
    return Court(network_of(world, cluster))


@settings(max_examples=150, deadline=None)
@given(sessions(), st.sets(st.sampled_from(POLICIES), max_size=3))
def test_switches_that_hold_what_they_should_agree_with_every_outcome(drawn, policies):
    world, asked = drawn
    found = court_of(world, policies)
    for call in asked:
        try:
            told = found.why(*question(call))
        except QuestionError:
            continue
        for each in (*told.services, *told.answers):
            trouble = _trouble(each)
            assert not trouble, (call, trouble, told)


def _trouble(each):
    """Why the flows do not agree; but nobody knows what becomes of calls of pods that are not
    there.
    """
    every = [each.flows, *(e.flows for e in getattr(each, "endpoints", ()) if e.flows)]
    told = [flows.problem for flows in every if not flows.agree]
    return [problem for problem in told if "no pod has it" not in problem]


@settings(max_examples=150, deadline=None)
@given(sessions(), st.randoms(use_true_random=False))
def test_switches_with_the_flows_of_other_services_are_found_out(drawn, chance):
    world, asked = drawn
    kept = {ref: s for ref, s in world.services.items() if chance.random() < 0.7}
    parts = {ref: s for ref, s in world.slices.items() if chance.random() < 0.7}
    old = World(world.nodes, kept, parts)
    assume(old != world)
    found, before = court_of(world), court_of(old)
    for call in asked:
        now, then = evaluate(world, call), evaluate(old, call)
        if call.client.whence is not Whence.POD or isinstance(now, NotAService):
            continue
        if _kind(now) == _kind(then) or call.protocol is Protocol.SCTP:
            continue
        mixed = Court.__new__(Court)
        mixed.__dict__ |= found.__dict__ | {"held": before.held}
        try:
            told = mixed.why(*question(call))
        except QuestionError:
            continue
        assert not told.agree, (call, now, then, told)


def _kind(outcome):
    """What of an outcome is to be seen of flows."""
    if isinstance(outcome, Served):
        return outcome.endpoints
    return type(outcome)
