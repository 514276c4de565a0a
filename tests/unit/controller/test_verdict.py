"""`why`: policies and switches asked the same question; what makes them disagree is found."""

from ipaddress import ip_address

import msgspec
import pytest
from court import Court, held_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_carriage import network_of, ports_of
from policy_objects import namespace, node, peer, pod, policy, port, rule
from policy_strategies import OUTSIDE, clusters

from ovsnet.controller.inquiry.cases import case
from ovsnet.controller.inquiry.questions import Question, QuestionError
from ovsnet.controller.inquiry.verdict import switches, verdict
from ovsnet.controller.inquiry.world import snapshot
from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow, Goto, InPort, Output, SetField, match, term
from ovsnet.flows.terms import IPV4, destination
from ovsnet.model import Phase, Protocol
from ovsnet.names import TUNNEL_OFPORT, Table
from ovsnet.policy.world import World

NODES = [node(1), node(2), node(3)]
WEB = pod("shop/web", "app=web", host=5, ports=("http=8080",))
DB = pod("shop/db", "app=db", node=2, host=6, ports=("sql=5432", "sync=5433", "dns=53/UDP"))
NEAR = pod("shop/near", "app=near", host=7)
PODS = [WEB, DB, NEAR, pod("bank/vault", node=2, host=8)]
SPACES = [namespace("shop"), namespace("bank")]
DENY = policy("shop/deny", ingress=(), egress=())
WEB_OUT = policy("shop/web-out", "app=web", egress=[rule([peer("app=db")], [port(5432)])])
DB_IN = policy("shop/db-in", "app=db", ingress=[rule([peer("app=web")], [port("sql")])])


def court_of(world):
    return Court(network_of(world))


def court(*policies, pods=PODS):
    return court_of(World.of(SPACES, pods, NODES, policies))


def test_without_policies_everybody_reaches_everybody_in_both_families():
    found = court().why("shop/web", "shop/db", port=5432)
    assert (found.allowed, found.agree, found.remarks) == (True, True, ())
    assert [(a.family, a.source, a.destination) for a in found.answers] == [
        ("IPv4", "10.244.1.5", "10.244.2.6"),
        ("IPv6", "fd00:10:244:1::5", "fd00:10:244:2::6"),
    ]
    for each in found.answers:
        assert each.egress.reason == each.ingress.reason == "no policy isolates the pod"
        fates = [(f.packet, f.where, f.right) for f in each.flows.fates]
        assert fates == [
            ("first packet", "arrives at shop/db", True),
            ("answer", "arrives at shop/web", True),
            ("later packet", "arrives at shop/db", True),
        ]


def test_what_is_allowed_is_allowed_by_rules_that_are_named():
    found = court(DENY, WEB_OUT, DB_IN).why("shop/web", "shop/db", port=5432)
    assert (found.allowed, found.agree) == (True, True)
    for each in found.answers:
        assert each.egress.rules == ("shop/web-out egress rule 1",)
        assert each.egress.isolated_by == ("shop/deny", "shop/web-out")
        assert each.ingress.rules == ("shop/db-in ingress rule 1",)


def test_what_is_denied_is_dropped_by_a_flow_that_is_shown():
    found = court(DENY, WEB_OUT).why("shop/web", "shop/db", port=5432)
    assert (found.allowed, found.agree) == (False, True)
    for each in found.answers:
        assert each.egress.allowed
        assert (each.ingress.allowed, each.ingress.isolated_by) == (False, ("shop/deny",))
        first, live, answer = each.flows.fates
        assert first.where == "is dropped on node-2 in ingress_default"
        assert first.flow.owner == "pod shop/db, isolated for ingress by policy shop/deny"
        assert first.flow.outcome == "dropped"
        assert 'table="ingress_default", priority=100,ct_state=-inv+trk,' in first.flow.flow
        assert (live.packet, live.arrives, live.right) == (
            "packet of a live connection", False, True,
        )  # fmt: skip
        assert (answer.packet, answer.arrives) == ("answer in a live connection", False)


def test_the_end_that_denies_is_told_apart():
    other_port = court(DENY, WEB_OUT, DB_IN).why("shop/web", "shop/db", port=5433)
    each = other_port.answers[0]
    assert (each.egress.allowed, each.ingress.allowed) == (False, False)
    assert each.flows.fates[0].where == "is dropped on node-1 in egress_default"
    assert other_port.agree


@pytest.mark.parametrize(
    ("source", "destination", "allowed", "where"),
    [
        ("shop/web", "shop/near", False, "is dropped on node-1 in egress_default"),
        ("bank/vault", "shop/near", False, "is dropped on node-1 in ingress_default"),
        ("bank/vault", "node/node-2", True, "arrives at node/node-2"),
        ("bank/vault", "node/node-1", True, "arrives at node/node-1"),
        ("bank/vault", "172.18.0.1", True, "arrives at 172.18.0.1"),
        ("bank/vault", "203.0.113.7", True, "arrives at 203.0.113.7"),
        ("shop/web", "node/node-1", True, "arrives at node/node-1"),
        ("shop/web", "node/node-2", False, "is dropped on node-1 in egress_default"),
        ("shop/web", "203.0.113.7", False, "is dropped on node-1 in egress_default"),
        ("node/node-1", "shop/web", True, "arrives at shop/web"),
        ("node/node-2", "shop/web", False, "is dropped on node-1 in ingress_default"),
        ("node/node-2", "bank/vault", True, "arrives at bank/vault"),
        ("node/node-1", "bank/vault", True, "arrives at bank/vault"),
        ("172.18.0.1", "bank/vault", True, "arrives at bank/vault"),
        ("203.0.113.7", "bank/vault", True, "arrives at bank/vault"),
        ("203.0.113.7", "shop/db", False, "is dropped on node-2 in ingress_default"),
        ("10.244.1.5", "shop/near", False, "is dropped on node-1 in egress_default"),
        ("2001:db8::7", "bank/vault", True, "arrives at bank/vault"),
    ],
)
def test_every_kind_of_ends(source, destination, allowed, where):
    found = court(DENY).why(source, destination, port=80)
    assert (found.allowed, found.agree) == (allowed, True), found
    assert found.answers[0].flows.fates[0].where == where


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", "icmp"])
def test_every_protocol(protocol):
    given_port = "" if protocol == "icmp" else 80
    for policies, allowed in (((), True), ((DENY,), False)):
        found = court(*policies).why("shop/web", "shop/db", protocol, given_port)
        assert (found.allowed, found.agree) == (allowed, True), found


def test_ports_by_name_and_all_that_are_declared():
    found = court(DENY, WEB_OUT, DB_IN)
    named = found.why("shop/web", "shop/db", port="sql")
    assert {a.port for a in named.answers} == {5432}
    every = found.why("shop/web", "shop/db")
    assert [(a.port, a.family, a.allowed) for a in every.answers] == [
        (5432, "IPv4", True), (5432, "IPv6", True), (5433, "IPv4", False), (5433, "IPv6", False),
    ]  # fmt: skip
    assert (every.allowed, every.agree) == (False, True)
    assert [a.port for a in found.why("shop/web", "shop/db", "udp").answers] == [53, 53]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (("shop/web", "shop/db", "ipip", "1"), "expected one of tcp, udp, sctp, icmp"),
        (("shop/web", "shop/db", "tcp", "0"), "expected a number from 1 to 65535"),
        (("shop/web", "shop/db", "tcp", "65536"), "expected a number from 1 to 65535"),
        (("shop/web", "shop/db", "icmp", "8"), "ICMP has no ports"),
        (("shop/web", "shop/db", "tcp", "http"), "no tcp port named 'http'; it has sql, sync"),
        (("shop/db", "shop/near", "tcp", ""), "shop/near declares no tcp port: say which"),
        (("shop/db", "203.0.113.7", "tcp", ""), "203.0.113.7 declares no tcp port: say which"),
        (("node/node-1", "203.0.113.7", "tcp", "80"), "no policy is about them"),
        (("node/node-1", "node/node-2", "tcp", "80"), "no policy is about them"),
        (("shop/webb", "shop/db", "tcp", "80"), "there is no pod 'webb'"),
        (("shop/web", "node/node-9", "tcp", "80"), "there is no node 'node-9'"),
    ],
)
def test_questions_that_make_no_sense(question, words):
    with pytest.raises(QuestionError) as raised:
        court().why(*question)
    assert words in str(raised.value)


def test_a_pod_speaks_to_itself_without_any_switch():
    found = court(DENY).why("shop/web", "shop/web", port=80)
    assert (found.allowed, found.agree) == (True, True)
    assert found.answers[0].egress.reason == "a pod always reaches itself"
    assert found.remarks == ("a pod speaks to itself without any switch",)


def test_a_pod_without_an_address_is_no_end_of_anything():
    ended = pod("shop/job", host=None, phase=Phase.SUCCEEDED)
    unscheduled = msgspec.structs.replace(pod("shop/late", host=None), node="")
    found = court(DENY, pods=[*PODS, ended, unscheduled, pod("shop/new", host=None)])
    for name, words in (
        ("shop/job", "shop/job has ended (Succeeded)"),
        ("shop/late", "shop/late has no address: it is not on a node yet"),
        ("shop/new", "shop/new has no address: the switch of node-1 has no port for it"),
    ):
        told = found.why("shop/web", name, port=80)
        assert (told.allowed, told.agree, told.answers) == (None, False, ())
        assert told.remarks == (words,)


def test_a_pod_of_the_nodes_network_is_the_node():
    found = court(DENY, pods=[*PODS, pod("shop/agent", node=2, host_network=True)])
    told = found.why("shop/agent", "shop/db", port=80)
    assert (told.allowed, told.agree) == (True, True)
    assert told.answers[0].ingress.reason == "a pod and its own node always reach each other"
    assert told.remarks == (
        "shop/agent uses the network of node-2: policies see the node in its place",
    )


def test_an_address_that_no_pod_has():
    told = court().why("shop/web", "10.244.2.99", port=80)
    assert (told.allowed, told.agree) == (None, False)
    assert told.remarks == ("10.244.2.99 is of the pod range of node-2, and no pod has it",)


def test_ends_of_different_families():
    only4 = msgspec.structs.replace(node(3), pod_cidrs=node(3).pod_cidrs[:1])
    four = msgspec.structs.replace(pod("shop/four", node=3), addresses=(ip_address("10.244.3.9"),))
    world = World.of(SPACES, [*PODS, four], [*NODES[:2], only4], ())
    found = court_of(world)
    assert [a.family for a in found.why("shop/web", "shop/four", port=80).answers] == ["IPv4"]
    told = found.why("shop/four", "2001:db8::7", port=80)
    assert told.answers == ()
    assert told.remarks == ("shop/four and 2001:db8::7 have no address family in common",)


def test_a_datapath_that_knows_no_ports_of_sctp():
    """Its tracker gives all SCTP connections port 0, which no rule names."""
    sctp = port(5432, protocol=Protocol.SCTP)
    world = World.of(
        SPACES, PODS, NODES, [policy("shop/in", "app=db", ingress=[rule(None, [sctp])])]
    )
    kernel, userspace = court_of(world), court_of(world)
    for name, held in userspace.held.items():
        userspace.held[name] = msgspec.structs.replace(held, userspace=True)
    asked = ("shop/web", "shop/db", "sctp", 5432)
    told = kernel.why(*asked)
    assert (told.allowed, told.agree, told.remarks) == (True, True, ())
    told = userspace.why(*asked)
    assert (told.allowed, told.agree) == (True, False)
    assert told.answers[0].flows.problem == (
        "policies allow it, and the first packet is dropped on node-2 in ingress_default"
    )
    assert told.remarks[1].startswith("the userspace datapath of node-2 does not know the ports")
    assert userspace.why("shop/web", "shop/db", "sctp", 1).agree, "it is dropped as it should be"
    assert userspace.why("shop/db", "shop/web", "sctp", 1).agree, "no rule looks at it"
    assert userspace.why("shop/web", "shop/db", "udp", 1).remarks == ()


# --- switches that do not hold what they should ---


def test_an_isolation_that_is_missing_is_found():
    found = court(DENY)
    found.meddle("node-2", lambda f: None if f.table is Table.INGRESS_ISOLATION and f.match else f)
    told = found.why("bank/vault", "shop/db", port=80)
    assert (told.allowed, told.agree) == (False, False)
    flows = told.answers[0].flows
    assert flows.problem == (
        "ingress policies deny it on node-2, and the first packet arrives at shop/db"
    )
    passing = flows.fates[0].flow
    assert (passing.node, passing.table) == ("node-2", "ingress_isolation")
    assert passing.outcome == "on to commit"
    assert found.why("shop/web", "shop/near", port=80).agree


def test_a_rule_that_no_policy_has_any_more_is_found_and_named():
    before, found = court(DENY, WEB_OUT, DB_IN), court(DENY, WEB_OUT)
    found.held["node-2"] = before.held["node-2"]
    found.owners |= before.owners
    flows = found.why("shop/web", "shop/db", port=5432).answers[0].flows
    assert flows.agree is False
    assert flows.fates[0].flow.owner == "policy shop/db-in ingress rule 1"
    assert [f.right for f in flows.fates] == [False, False, False]


def test_a_rule_that_is_missing_is_found():
    before, found = court(DENY, WEB_OUT), court(DENY, WEB_OUT, DB_IN)
    found.held["node-2"] = before.held["node-2"]
    told = found.why("shop/web", "shop/db", port=5432)
    assert (told.allowed, told.agree) == (True, False)
    assert told.answers[0].flows.problem == (
        "policies allow it, and the first packet is dropped on node-2 in ingress_default"
    )


def test_a_drop_at_the_wrong_end_is_found():
    before, found = court(policy("shop/deny", ingress=())), court(DENY)
    found.held["node-1"] = before.held["node-1"]
    flows = found.why("shop/web", "shop/db", port=80).answers[0].flows
    assert flows.problem == (
        "egress policies deny it on node-1, "
        "and the first packet is dropped on node-2 in ingress_default"
    )


def test_an_answer_that_does_not_come_back_is_found():
    found = court()
    lost = Flow(
        Table.ROUTE, 999, match(*destination(ip_address("10.244.1.5")), term(Field.IN_PORT, 2))
    )
    found.add("node-1", lost)
    told = found.why("shop/web", "shop/db", port=80)
    four, six = told.answers
    assert four.flows.problem == ("policies allow it, and the answer is dropped on node-1 in route")
    assert four.flows.fates[1].flow.owner == "nobody that ovsnet knows"
    assert six.flows.agree


def test_only_live_connections_pass():
    found = court(DENY)
    known = term(Field.CT_STATE, 0x22, 0x22)
    found.add("node-1", Flow(Table.EGRESS_ISOLATION, 999, match(known), (Goto(Table.ROUTE),)))
    found.add("node-2", Flow(Table.INGRESS_ISOLATION, 999, match(known), (Goto(Table.COMMIT),)))
    flows = found.why("shop/web", "shop/db", port=80).answers[0].flows
    assert [(f.packet, f.right) for f in flows.fates] == [
        ("first packet", True),
        ("packet of a live connection", False),
        ("answer in a live connection", False),
    ]
    assert flows.problem == (
        "egress policies deny it on node-1, and the packet of a live connection arrives at shop/db"
    )


def test_a_packet_that_also_comes_out_elsewhere_is_found():
    found = court()
    (spy,) = (p.ofport for p in ports_of(World.of(pods=[NEAR]), "node-1"))
    near = next(n for n, name in found.held["node-1"].ports.items() if name.startswith("near"))
    assert spy in found.held["node-1"].ports

    def mirrored(flow):
        if flow.table is not Table.OUTPUT:
            return flow
        return msgspec.structs.replace(flow, actions=(*flow.actions, Output(near)))

    found.meddle("node-1", mirrored)
    told = found.why("shop/web", "bank/vault", port=80)
    assert told.agree is False
    assert "port near-" in told.answers[0].flows.problem


def test_a_flow_that_cannot_be_followed_leaves_it_open_only_where_it_is_met():
    foreign = ForeignFlow(int(Table.ROUTE), 9, b"", 0, "it has a timeout")
    found = court()
    found.add("node-2", foreign)
    flows = found.why("shop/web", "shop/db", port=80).answers[0].flows
    assert flows.agree is None
    assert flows.problem == (
        f"node-2 holds a flow in table {foreign.table} that ovsnet cannot follow (it has a timeout)"
    )
    assert found.why("shop/web", "shop/near", port=80).agree
    found = court(policy("shop/deny", "app=web", egress=()))
    found.add("node-1", foreign)
    assert found.why("shop/web", "shop/near", port=80).agree, "it is dropped before that table"


def test_flows_of_which_any_may_be_taken():
    found = court()
    twin = Flow(Table.ROUTE, 200, match(IPV4), (Goto(Table.COMMIT),))
    found.add("node-1", twin)
    flows = found.why("shop/web", "shop/near", port=80).answers[0].flows
    assert flows.agree is None
    assert flows.problem == "node-1 holds flows in route of which any may take the packet"


def test_an_output_that_is_not_modelled():
    found = court()
    found.add("node-1", Flow(Table.OUTPUT, 9, (), (Output(0xFFFFFFFA),)))
    flows = found.why("shop/web", "shop/near", port=80).answers[0].flows
    assert (flows.agree, flows.problem) == (
        None, "the flows cannot be followed: output to NORMAL is not modelled",
    )  # fmt: skip


def test_a_switch_that_says_nothing_leaves_only_the_policies():
    found = court(DENY)
    found.held["node-2"] = "its switch is not connected"
    told = found.why("shop/web", "shop/db", port=80)
    assert (told.allowed, told.agree) == (False, False)
    assert [a.flows.problem for a in told.answers] == ["node-2: its switch is not connected"] * 2
    assert told.answers[0].egress.isolated_by == ("shop/deny",)


def test_a_pod_whose_port_is_not_known_yet():
    network = network_of(World.of(SPACES, PODS, NODES[:1], ()))
    network.put_node(NODES[1])
    seen = snapshot(network)
    about = case(seen, Question("shop/web", "shop/db", port="80"))
    assert switches(seen, about) == {"node-1"}
    told = verdict(seen, about, held_of(network), {})
    assert (told.allowed, told.agree) == (True, False)
    assert told.answers[0].flows.problem == (
        "it is not known by which port shop/db is on the network"
    )
    assert "has not told its ports yet" in told.remarks[0]


def test_packets_that_go_in_circles_are_given_up():
    found = court()
    for name, other in (("node-1", "172.18.0.2"), ("node-2", "172.18.0.1")):
        back = (SetField(Field.TUN_DST, int(ip_address(other))), InPort())
        condition = match(term(Field.IN_PORT, TUNNEL_OFPORT))
        found.add(name, Flow(Table.CLASSIFY, 999, condition, back))
    flows = found.why("shop/web", "shop/db", port=80).answers[0].flows
    assert (flows.agree, flows.problem) == (
        None,
        "the flows cannot be followed: the packet goes round between node-1 and node-2",
    )


def test_the_second_switch_knows_nothing_of_what_the_first_has_noted():
    found = court()
    noted = [
        term(Field.CT_STATE, 0x20, 0x20), term(Field.REG0, 1, 0xF), term(Field.REG1, 2),
    ]  # fmt: skip
    found.add("node-2", *(Flow(Table.CLASSIFY, 999, match(each)) for each in noted))
    assert found.why("shop/web", "shop/db", port=80).agree


@pytest.mark.parametrize("protocol", ["udp", "icmp"])
def test_answers_in_live_connections_without_segments(protocol):
    """Where the way back is denied too, nothing may pass; else the answers might begin one."""
    given_port = "" if protocol == "icmp" else 80
    one_way = court(policy("shop/deny", "app=db", ingress=()))
    told = one_way.why("shop/web", "shop/db", protocol, given_port)
    assert told.agree
    assert [f.packet for f in told.answers[0].flows.fates] == [
        "first packet",
        "packet of a live connection",
    ]
    both_ways = court(policy("shop/quiet", egress=()))
    known = term(Field.CT_STATE, 0x28, 0x28)
    both_ways.add("node-1", Flow(Table.EGRESS_ISOLATION, 999, match(known), (Goto(Table.ROUTE),)))
    told = both_ways.why("shop/web", "shop/db", protocol, given_port)
    four = told.answers[0].flows
    assert (four.agree, four.fates[2].packet) == (False, "answer in a live connection")
    assert four.fates[2].arrives


@st.composite
def questions(draw, world):
    pods = [f"{p.namespace}/{p.name}" for p in world.pods.values()]
    nodes = [f"node/{name}" for name in world.nodes]
    others = [*nodes, *map(str, OUTSIDE), *(str(a) for n in NODES for a in n.addresses)]
    places = st.one_of(st.sampled_from(pods), st.sampled_from(pods), st.sampled_from(others))
    protocol = draw(st.sampled_from(["tcp", "tcp", "udp", "sctp", "icmp"]))
    ports = st.sampled_from(["53", "80", "443", "5353", "8000", "8080", "7"])
    return (
        draw(places), draw(places), protocol, "" if protocol == "icmp" else draw(ports),
    )  # fmt: skip


@st.composite
def sessions(draw):
    world = draw(clusters())
    return world, draw(st.lists(questions(world), min_size=1, max_size=6))


@settings(max_examples=150, deadline=None)
@given(sessions())
def test_switches_that_hold_what_they_should_agree_with_every_verdict(drawn):
    world, asked = drawn
    found = court_of(world)
    for question in asked:
        try:
            told = found.why(*question)
        except QuestionError:
            continue
        for each in told.answers:
            assert each.flows.agree, (question, told)


@settings(max_examples=150, deadline=None)
@given(sessions(), st.randoms(use_true_random=False))
def test_a_switch_with_the_flows_of_other_policies_is_found_out(drawn, chance):
    """Whatever subset of policies the switches were left with: where that lets pass what must not,
    or drops what must pass, it is told.
    """
    world, asked = drawn
    kept = {r: p for r, p in world.policies.items() if chance.random() < 0.5}
    old = msgspec.structs.replace(world, policies=kept)
    assume(kept != world.policies)
    found, before = court_of(world), court_of(old)
    for question in asked:
        try:
            told, told_before = found.why(*question), before.why(*question)
        except QuestionError:
            continue
        held, found.held = found.held, before.held
        meddled = found.why(*question)
        found.held = held
        for now, then, mixed in zip(
            told.answers, told_before.answers, meddled.answers, strict=True
        ):
            same = (now.egress.allowed, now.allowed) == (then.egress.allowed, then.allowed)
            assert bool(mixed.flows.agree) == same, (question, mixed, then)
