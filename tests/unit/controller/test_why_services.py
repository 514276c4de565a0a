"""`why`, asked about services: who may take a call, and whether policies let it get there."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from court import Court
from policy_carriage import ports_of
from policy_objects import peer, pod, policy, rule
from service_court import (
    ALL,
    DENY,
    NODES,
    ONLY4,
    PARTS,
    PODS,
    SERVICE,
    WEB_ONLY,
    court,
    endpoints,
    translates_to,
    with_changes,
)
from service_objects import endpoint, endpoint_slice, service

from ovsnet.controller.inquiry import services as module
from ovsnet.controller.inquiry.cases import case
from ovsnet.controller.inquiry.questions import Question, QuestionError
from ovsnet.controller.inquiry.verdict import switches
from ovsnet.controller.network import Network
from ovsnet.model import Fault
from ovsnet.names import Table
from ovsnet.policy.world import World as Cluster


def test_a_service_by_its_name_is_its_cluster_addresses_and_its_only_port():
    found = court().why("shop/web", "service/shop/api")
    assert (found.allowed, found.agree, found.remarks) == (True, True, ())
    assert (found.protocol, found.answers) == ("tcp", ())
    four, six = found.services
    assert (four.family, four.source, four.destination, four.port) == (
        "IPv4", "10.244.1.5", "10.96.0.1", 80,
    )  # fmt: skip
    assert (four.service, four.face, four.service_port, four.outcome, four.node) == (
        "shop/api", "cluster address", "http (80/TCP)", "served", "node-1",
    )  # fmt: skip
    assert [(e.endpoint, e.pod, e.node, e.seen) for e in four.endpoints] == [
        (f"10.244.{n}.6:8080", f"shop/api-{n}", f"node-{n}", "10.244.1.5") for n in (1, 2, 3)
    ]
    for each in four.endpoints:
        assert [(f.packet, f.where, f.right) for f in each.flows.fates] == [
            ("first packet", f"arrives at {each.pod}", True),
            ("answer", "arrives at shop/web", True),
            ("later packet", f"arrives at {each.pod}", True),
        ]
    assert endpoints(six) == ["[fd00:10:244:2::6]:8080"]


@pytest.mark.parametrize(
    ("source", "target", "number", "face", "at", "relayed"),
    [
        ("shop/web", "10.96.0.1", 80, "cluster address", "node-1", False),
        ("bank/vault", "10.96.0.1", "http", "cluster address", "node-2", False),
        ("shop/web", "192.0.2.1", 80, "external address", "node-1", False),
        ("shop/web", "192.0.2.9", 80, "load balancer address", "node-1", False),
        ("node/node-3", "service/shop/api", "", "cluster address", "node-3", False),
        ("172.18.0.3", "service/shop/api", "", "cluster address", "node-3", False),
        ("203.0.113.7", "192.0.2.1", 80, "external address", "node-1", False),
        ("shop/web", "node/node-1", 30080, "node port", "node-1", False),
        ("shop/web", "172.18.0.1", 30080, "node port", "node-1", False),
        ("shop/web", "node/node-2", 30080, "node port", "node-2", True),
        ("node/node-1", "node/node-1", 30080, "node port", "node-1", False),
        ("node/node-1", "node/node-2", 30080, "node port", "node-2", True),
        ("203.0.113.7", "node/node-2", 30080, "node port", "node-2", False),
        ("203.0.113.7", "172.18.0.2", 30080, "node port", "node-2", False),
    ],
)
def test_every_way_to_call_it(source, target, number, face, at, relayed):
    found = with_changes(
        external=(ip_address("192.0.2.1"),), load_balancer=(ip_address("192.0.2.9"),)
    ).why(source, target, port=number)
    assert (found.allowed, found.agree) == (True, True), found
    called = found.services[0]
    assert (called.face, called.node, called.relayed) == (face, at, relayed)
    assert endpoints(called) == ALL
    through = relayed and source == "shop/web"
    assert [(a.destination, a.port) for a in found.answers][:1] == (
        [("172.18.0.2", 30080)] if through else []
    )


def test_policies_are_asked_about_the_endpoint():
    found = court(policies=[DENY, WEB_ONLY])
    told = found.why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, True)
    each = told.services[0].endpoints[1]
    assert each.ingress.rules == ("shop/web-only ingress rule 1",)
    told = found.why("bank/vault", "service/shop/api")
    assert (told.allowed, told.agree) == (False, True)
    each = told.services[0].endpoints[0]
    assert (each.allowed, each.ingress.isolated_by) == (False, ("shop/deny", "shop/web-only"))
    assert [(f.packet, f.where) for f in each.flows.fates] == [
        ("first packet", "is dropped on node-1 in ingress_default"),
        ("packet of a live connection", "is dropped on node-1 in ingress_default"),
        ("answer in a live connection", "is dropped on node-1 in ingress_default"),
    ]
    owner = each.flows.fates[0].flow.owner
    assert owner == "pod shop/api-1, isolated for ingress by policy shop/deny, shop/web-only"


def test_it_takes_all_endpoints_to_allow_a_call():
    here = policy("shop/here", "app=api", ingress=[rule([peer("app=nobody")])])
    told = court(policies=[here]).why("node/node-1", "service/shop/api")
    assert (told.allowed, told.agree) == (False, True)
    # A pod and its own node always reach each other; other nodes it takes for nobody it knows.
    assert [(e.seen, e.allowed) for e in told.services[0].endpoints] == [
        ("10.244.1.1", True), ("10.244.1.2", False), ("10.244.1.2", False),
    ]  # fmt: skip


def test_a_pod_that_may_not_call_another_node_does_not_reach_its_node_ports():
    shut = policy("shop/shut", "app=web", egress=())
    told = court(policies=[shut]).why("shop/web", "node/node-2", port=30080)
    assert (told.allowed, told.agree) == (False, True)
    (four, _), (called, _) = told.answers, told.services
    assert (four.destination, four.egress.allowed) == ("172.18.0.2", False)
    assert (called.source, called.allowed) == ("172.18.0.1", True)


def test_a_pod_that_reaches_itself_sees_its_node():
    told = court(policies=[DENY]).why("shop/api-1", "service/shop/api")
    first, second, _ = told.services[0].endpoints
    assert (first.pod, first.seen, first.allowed) == ("shop/api-1", "10.244.1.2", True)
    assert (second.seen, second.allowed) == ("10.244.1.6", False)
    assert told.agree


@pytest.mark.parametrize(
    ("parts", "changes", "question", "outcome", "reason"),
    [
        ([], {}, ("shop/web", "service/shop/api"), "refused", "no endpoint that could answer"),
        (PARTS, {}, ("shop/web", "10.96.0.1", "tcp", 81), "refused", "has no such port"),
        (PARTS, {}, ("shop/web", "10.96.0.1", "udp", 80), "refused", "has no such port"),
        (PARTS, {}, ("shop/web", "10.96.0.1", "icmp"), "refused", "has no such port"),
        (PARTS, {}, ("node/node-2", "fd00:96::1", "icmp"), "refused", "has no such port"),
        ([], {}, ("203.0.113.7", "node/node-2", "tcp", 30080), "refused", "no endpoint"),
        (
            PARTS[:1],
            {"sources": ()},
            ("shop/web", "192.0.2.9", "tcp", 80),
            "dropped",
            "source ranges do not have the client's address",
        ),
        (
            [endpoint_slice("shop/api", ["http=8080"], "10.244.1.6")],
            {"internal_local": True},
            ("bank/vault", "service/shop/api"),
            "dropped",
            "only endpoints on the node may answer, and it has none",
        ),
    ],
)
def test_calls_that_reach_nobody(parts, changes, question, outcome, reason):
    changed = msgspec.structs.replace(SERVICE, load_balancer=(ip_address("192.0.2.9"),), **changes)
    told = court([changed], parts).why(*question)
    assert (told.allowed, told.agree) == (False, True), told
    called = told.services[0]
    assert called.outcome == outcome
    assert reason in called.reason
    first = called.flows.fates[0]
    if outcome == "dropped":
        assert first.where.startswith(f"is dropped on {called.node} in ")
        assert first.flow.owner in ("service shop/api", "node node-2")
    else:
        heard = ["refusal"] if question[0] == "shop/web" else []
        assert [f.packet for f in called.flows.fates] == ["first packet", *heard]


@pytest.mark.parametrize(("at", "status"), [("node-1", 200), ("node-3", 503)])
def test_health_checks_are_answered_by_the_agent(at, status):
    changed = msgspec.structs.replace(SERVICE, external_local=True, health_check=30999)
    told = court([changed], [endpoint_slice("shop/api", ["http=8080"], "10.244.1.6")]).why(
        "203.0.113.7", f"node/{at}", port=30999
    )
    assert (told.allowed, told.agree) == (True, True), told
    called = told.services[0]
    assert (called.outcome, called.status, called.node) == ("health check", status, at)
    assert called.flows.fates[1].where == "arrives at 203.0.113.7"


def test_somebody_outside_comes_in_where_there_is_an_endpoint():
    changed = msgspec.structs.replace(
        SERVICE, external_local=True, external=(ip_address("192.0.2.1"),)
    )
    told = court([changed], [endpoint_slice("shop/api", ["http=8080"], "10.244.3.6")]).why(
        "203.0.113.7", "192.0.2.1", port=80
    )
    assert (told.allowed, told.agree) == (True, True)
    assert [(c.node, endpoints(c)) for c in told.services] == [("node-3", ["10.244.3.6:8080"])]
    assert told.services[0].endpoints[0].seen == "203.0.113.7"
    assert "203.0.113.7 may come in by any node: here it is node-3" in told.remarks


def test_hints_and_traffic_policies_decide_by_the_client_s_node():
    hinted = endpoint_slice(
        "shop/api",
        ["http=8080"],
        endpoint("10.244.1.6", zones="east"),
        endpoint("10.244.2.6", zones="west"),
        endpoint("10.244.3.6", zones="west"),
    )
    found = court(parts=[hinted])
    assert endpoints(found.why("shop/web", "service/shop/api").services[0]) == ALL[:1]
    assert endpoints(found.why("bank/vault", "service/shop/api").services[0]) == ALL[1:]
    assert endpoints(found.why("node/node-3", "service/shop/api").services[0]) == ALL
    local = with_changes(internal_local=True)
    assert endpoints(local.why("shop/web", "service/shop/api").services[0]) == ALL[:1]


def test_clients_that_keep_their_endpoint():
    told = with_changes(affinity=60).why("shop/web", "service/shop/api")
    assert told.agree
    assert told.services[0].affinity == 60


def test_endpoints_that_are_no_pods():
    hosts = endpoint_slice("shop/api", ["http=8080"], "172.18.0.1", "172.18.0.2", "203.0.113.80")
    for source in ("shop/web", "node/node-1", "203.0.113.7"):
        target = "service/shop/api" if source != "203.0.113.7" else "node/node-1"
        told = court([ONLY4], [hosts]).why(source, target, "", "" if "/" in source else 30080)
        assert (told.allowed, told.agree) == (True, True), told
        assert [(e.pod, e.node) for e in told.services[0].endpoints] == [
            ("", "node-1"), ("", "node-2"), ("", ""),
        ]  # fmt: skip


def test_an_endpoint_that_no_pod_has():
    part = endpoint_slice("shop/api", ["http=8080"], "10.244.2.77")
    told = court([ONLY4], [part]).why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, False)
    assert told.services[0].endpoints[0].flows.problem == (
        "10.244.2.77 is of the pod range of node-2, and no pod has it"
    )


def test_an_endpoint_that_is_a_service_itself_is_none():
    other = service("bank/other", "http=80", cluster="10.96.0.9")
    part = endpoint_slice("shop/api", ["http=8080"], "10.244.1.6", "10.96.0.9")
    told = court([ONLY4, other], [part]).why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, True)
    assert endpoints(told.services[0]) == ["10.244.1.6:8080"]


def test_a_cluster_address_outside_of_the_cluster_s_ranges_is_for_no_service():
    network = Network(hash, service_ranges=[ip_network("10.97.0.0/16")])
    network.set_nodes(NODES)
    network.set_pods(PODS)
    for name in network.nodes:
        network.set_ports(name, ports_of(Cluster.of(pods=PODS, nodes=NODES), name))
    network.put_service(ONLY4)
    told = Court(network).why("shop/web", "service/shop/api")
    assert told.services == ()
    assert [(a.destination, a.flows.agree) for a in told.answers] == [("10.96.0.1", True)]
    assert "it is in none of the cluster's service ranges" in told.remarks[0]


@pytest.mark.parametrize("port", [20080, 30080])
@pytest.mark.parametrize("taken", [20080, 30080])
def test_the_range_of_node_ports_is_the_one_that_was_given(port, taken):
    """A call of a port is the service's if it is in the range, and the switches say the same."""
    network = Network(hash, node_ports=(taken, taken + 9))
    network.set_nodes(NODES)
    network.set_pods(PODS)
    for name in network.nodes:
        network.set_ports(name, ports_of(Cluster.of(pods=PODS, nodes=NODES), name))
    network.put_service(service("shop/api", f"http=80@{port}"))
    for part in PARTS:
        network.put_slice(part)
    told = Court(network).why("shop/web", "node/node-2", port=port)
    assert {each.service for each in told.services} == ({"shop/api"} if port == taken else set())
    assert told.agree
    if port == taken:
        assert Court(network).why("203.0.113.7", "node/node-2", port=port).services[0].allowed
    named = Court(network).why("shop/web", "service/shop/api")
    left_out = f"service shop/api: spec.ports: {port}: expected a port of nodes from {taken}"
    assert any(r.startswith(left_out) for r in named.remarks) == (port != taken)


@pytest.mark.parametrize("count", [2, 16, 17, 40, 300])
def test_every_one_of_many_endpoints_is_found(count, monkeypatch):
    """However many groups it takes to choose one."""
    monkeypatch.setattr(module, "_MOST_TRIED", 0)
    addresses = [f"10.244.3.{n % 250 + 3}" for n in range(count)]
    ports = [f"http={8080 + n}" for n in range(-(-count // 250))]
    part = endpoint_slice("shop/api", ports, *dict.fromkeys(addresses[:250]))
    told = court([ONLY4], [part]).why("shop/web", "service/shop/api")
    assert len(told.services[0].endpoints) == len(ports) * len(set(addresses))
    assert told.services[0].flows.agree, told.services[0].flows


# --- what is asked ---

MANY = service("shop/many", "http=80", "dns=53/UDP", "dns-tcp=53", "7070", cluster="10.96.0.7")


@pytest.mark.parametrize(
    ("protocol", "number", "expected"),
    [
        ("", "dns", ("udp", 53)),
        ("udp", "", ("udp", 53)),
        ("udp", "53", ("udp", 53)),
        ("tcp", "53", ("tcp", 53)),
        ("", "7070", ("tcp", 7070)),
        ("", "9", ("tcp", 9)),
        ("udp", "9", ("udp", 9)),
        ("icmp", "", ("icmp", None)),
    ],
)
def test_which_port_is_meant(protocol, number, expected):
    about = case(
        court([MANY], []).seen, Question("shop/web", "service/shop/many", protocol, number)
    )
    assert (about.protocol, about.calls[0].call.port) == expected


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (("shop/web", "service/shop/many", "", ""), "more than one port: say which one"),
        (("shop/web", "service/shop/many", "tcp", ""), "more than one tcp port: say which one"),
        (("shop/web", "service/shop/many", "", "53"), "more than one port 53: say which one"),
        (
            ("shop/web", "10.96.0.7", "", ""),
            "http=80/TCP, dns=53/UDP, dns-tcp=53/TCP, 7070=7070/TCP",
        ),
        (("shop/web", "service/shop/many", "sctp", ""), "has no sctp port: say which one"),
        (("shop/web", "service/shop/many", "udp", "http"), "has no udp port http"),
        (("shop/web", "service/shop/many", "icmp", "8"), "ICMP has no ports"),
        (("shop/web", "service/shop/many", "tcp", "65536"), "expected a number from 1 to 65535"),
        (("shop/web", "service/shop/mani", "", "80"), "did you mean service/shop/many?"),
        (("shop/web", "service/bank/many", "", "80"), "did you mean service/shop/many?"),
        (("shop/web", "many", "", "80"), "did you mean service/shop/many?"),
        (("service/shop/many", "shop/web", "", "80"), "service/shop/many calls nobody"),
        (("10.96.0.7", "shop/web", "", "80"), "10.96.0.7 calls nobody"),
        (("node/node-1", "node/node-2", "", "30079"), "no policy is about them"),
        (("node/node-1", "node/node-1", "", "80"), "no policy is about them"),
    ],
)
def test_questions_that_make_no_sense(question, words):
    with pytest.raises(QuestionError) as raised:
        court([MANY], []).why(*question)
    assert words in str(raised.value)


def test_a_pod_of_a_namespace_named_service():
    odd = pod("service/web", host=9)
    told = court(pods=[*PODS, odd], policies=[]).why("shop/web", "service/web", port=80)
    assert [a.destination for a in told.answers] == ["10.244.1.9", "fd00:10:244:1::9"]


def test_a_headless_service_is_left_to_names():
    bare = msgspec.structs.replace(SERVICE, addresses=(), families=(4,))
    told = court([bare]).why("shop/web", "service/shop/api", port=80)
    assert (told.allowed, told.agree, told.services) == (None, False, ())
    assert "has no address: names stand for its endpoints" in told.remarks[0]


def test_what_is_wrong_with_a_service_is_told():
    older = service("bank/api", "http=80", cluster="10.96.0.1", created="2025-01-01T00:00:00Z")
    faulty = msgspec.structs.replace(
        PARTS[0], faults=(Fault("endpoints[3].addresses[0]", "127.0.0.1: it is loopback"),)
    )
    told = court([SERVICE, older], [faulty]).why("shop/web", "service/shop/api")
    four = told.services[0]
    assert (four.service, four.outcome) == ("bank/api", "refused")
    assert told.remarks == (
        "service shop/api: spec.clusterIPs: 10.96.0.1, TCP port 80: service bank/api has it",
        "service shop/api, slice shop/api-a: endpoints[3].addresses[0]: 127.0.0.1: it is loopback",
    )
    assert told.agree


def test_a_cluster_address_that_is_refused_is_for_no_service():
    within = msgspec.structs.replace(SERVICE, addresses=(ip_address("10.244.1.77"),), families=(4,))
    told = court([within]).why("shop/web", "service/shop/api")
    assert told.services == ()
    assert "it is in a node's pod range" in told.remarks[-1]


# --- switches that are not asked, or do not answer ---


def test_of_many_endpoints_the_switches_of_a_few_nodes_are_asked(monkeypatch):
    monkeypatch.setattr(module, "_MOST_NODES", 1)
    found = court()
    about = case(found.seen, Question("shop/web", "service/shop/api"))
    assert switches(found.seen, about) == {"node-1", "node-2"}
    told = found.why("shop/web", "service/shop/api")
    assert [e.flows and e.flows.agree for e in told.services[0].endpoints] == [True, True, None]
    assert (told.allowed, told.agree) == (True, True)
    found.meddle(
        "node-1", lambda f: None if f.table is Table.ENDPOINT and translates_to(f, 3) else f
    )
    assert not found.why("shop/web", "service/shop/api").agree, (
        "the choice is looked at all the same"
    )


def test_packets_are_carried_to_a_few_endpoints(monkeypatch):
    monkeypatch.setattr(module, "_MOST_TRIED", 2)
    told = court().why("shop/web", "service/shop/api")
    assert [e.flows is not None for e in told.services[0].endpoints] == [True, True, False]
    assert told.agree


def test_switches_that_are_away():
    found = court()
    found.held["node-2"] = "its switch is not connected"
    told = found.why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, False)
    assert [e.flows.agree for e in told.services[0].endpoints] == [True, None, True]
    assert told.services[0].endpoints[1].flows.problem == "node-2: its switch is not connected"
    told = found.why("bank/vault", "service/shop/api")
    assert told.services[0].flows.problem == "node-2: its switch is not connected"
    assert (told.allowed, told.agree) == (True, False)


def test_a_datapath_that_knows_no_ports_of_sctp():
    signal = service("shop/api", "signal=2905/SCTP")
    part = endpoint_slice("shop/api", ["signal=2905/SCTP"], "10.244.2.6")
    found = court([signal], [part])
    told = found.why("shop/web", "service/shop/api")
    assert (told.protocol, told.allowed, told.agree) == ("sctp", True, True)
    found.held["node-1"] = msgspec.structs.replace(found.held["node-1"], userspace=True)
    told = found.why("shop/web", "service/shop/api")
    assert (told.allowed, told.agree) == (True, False)
    assert "does not know the ports of SCTP" in told.services[0].flows.problem
