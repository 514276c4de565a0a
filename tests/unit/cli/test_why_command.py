"""`ovsnet why`: what people and programs get to see of the controller's answer."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from click.testing import CliRunner

from ovsnet.cli import controller
from ovsnet.cli.main import main
from ovsnet.controller.inquiry.why import (
    Answer,
    Called,
    Decided,
    Fate,
    Flows,
    Outcome,
    Possible,
    Reading,
    Why,
)

ALLOWED = Decided(
    True,
    "a rule allows it",
    ("shop/deny", "shop/open"),
    ("shop/open ingress rule 1", "shop/open ingress rule 2"),
)
FREE = Decided(True, "no policy isolates the pod")
DENIED = Decided(False, "the pod is isolated and no rule allows it", ("shop/deny", "shop/other"))
DROP = Reading(
    "node-2",
    "ingress_default",
    'table="ingress_default", priority=100,ip actions=drop',
    "IPv4 packets of a connection to 10.0.2.6",
    "dropped",
    "pod shop/db, isolated for ingress by policy shop/deny",
)
ARRIVES = tuple(
    Fate(packet, True, "arrives at shop/db", True)
    for packet in ("first packet", "answer", "later packet")
)
DROPPED = (
    Fate("first packet", False, "is dropped on node-2 in ingress_default", True, DROP),
    Fate("packet of a live connection", False, "is dropped on node-2", True, DROP),
)
LEAKS = (
    Fate("first packet", True, "arrives at shop/db", False, DROP),
    Fate("packet of a live connection", False, "is dropped on node-2", True, DROP),
    Fate("answer in a live connection", True, "arrives at shop/web", False, DROP),
)


def answer(ingress, flows, family="IPv4"):
    return Answer(family, "10.0.1.5", "10.0.2.6", 5432, ingress.allowed, FREE, ingress, flows)


def why_document(*answers, remarks=(), services=()):
    every = (*answers, *services)
    return Why(
        "shop/web",
        "shop/db",
        "tcp",
        all(a.allowed for a in every) if every else None,
        bool(every) and all(a.flows.agree for a in answers) and all(c.agree for c in services),
        remarks,
        answers,
        services,
    )


AS_IT_SHOULD = Flows(True)
AGREE = Flows(True, "", ARRIVES)


def possible(number, ingress=ALLOWED, flows=AGREE, seen="10.0.1.5"):
    return Possible(
        endpoint=f"10.0.2.{number}:8080",
        node="node-2",
        seen=seen,
        allowed=ingress.allowed,
        egress=FREE,
        ingress=ingress,
        pod=f"shop/db-{number}",
        flows=flows,
    )


def called(*endpoints, outcome=Outcome.SERVED, flows=AS_IT_SHOULD, **more):
    return Called(
        family="IPv4",
        source="10.0.1.5",
        destination="10.96.0.1",
        port=80,
        node="node-1",
        service="shop/db",
        outcome=outcome,
        allowed=bool(endpoints) and all(e.allowed for e in endpoints),
        flows=flows,
        endpoints=endpoints,
        **more,
    )


FACE = {"face": "cluster address", "service_port": "http (80/TCP)"}


class Controller:
    def __init__(self):
        self.asked = None
        self.answer = None

    def fetch(self, target, path, seconds):
        self.asked = urlsplit(path)
        if isinstance(self.answer, Exception):
            raise self.answer
        return msgspec.json.encode(self.answer) if self.answer else b"{}"


@pytest.fixture
def served(monkeypatch):
    made = Controller()
    monkeypatch.setattr(controller, "fetch", made.fetch)
    return made


def why(*arguments):
    return CliRunner().invoke(main, ["why", *arguments])


def test_what_is_allowed_with_the_rules_that_do(served):
    served.answer = why_document(answer(ALLOWED, Flows(True, "", ARRIVES)))
    result = why("shop/web", "shop/db", "--port", "5432")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "shop/web to shop/db, tcp",
        "",
        "IPv4, 10.0.1.5 to 10.0.2.6 port 5432: allowed",
        "    egress   allowed: no policy isolates the pod",
        "    ingress  allowed: a rule allows it",
        "             by shop/open ingress rule 1",
        "             by shop/open ingress rule 2",
        "    flows    agree: its packets arrive, and the answers",
        "",
        "the flows of the switches agree",
    ]


def test_what_is_denied_with_the_policies_and_the_flow_that_do(served):
    served.answer = why_document(answer(DENIED, Flows(True, "", DROPPED)), remarks=("it rains",))
    result = why("shop/web", "shop/db", "--port", "5432")
    assert result.exit_code == 0, "denied and dropped is agreement"
    assert result.stdout.splitlines() == [
        "shop/web to shop/db, tcp",
        "note: it rains",
        "",
        "IPv4, 10.0.1.5 to 10.0.2.6 port 5432: denied",
        "    egress   allowed: no policy isolates the pod",
        "    ingress  denied: the pod is isolated and no rule allows it",
        "             isolated by shop/deny, shop/other",
        "    flows    agree: it is dropped on node-2 in ingress_default",
        "             by this flow of node-2, table ingress_default:",
        '                 table="ingress_default", priority=100,ip actions=drop',
        "                 owner  pod shop/db, isolated for ingress by policy shop/deny",
        "                 takes  IPv4 packets of a connection to 10.0.2.6",
        "                 does   dropped",
        "",
        "the flows of the switches agree",
    ]


def test_a_disagreement_is_loud(served):
    problem = "ingress policies deny it on node-2, and the first packet arrives at shop/db"
    served.answer = why_document(
        answer(DENIED, Flows(False, problem, LEAKS)),
        answer(DENIED, Flows(True, "", DROPPED), "IPv6"),
    )
    result = why("shop/web", "shop/db", "--port", "5432")
    assert result.exit_code == 1
    assert f"    flows    DISAGREE: {problem}" in result.stdout
    assert "             the first packet arrives at shop/db (wrong)" in result.stdout
    assert result.stdout.count("this flow of node-2") == 2, "once for each family"
    assert "             the packet of a live connection is dropped on node-2\n" in result.stdout
    assert result.stdout.endswith("THE FLOWS OF THE SWITCHES DO NOT DO WHAT THE POLICIES SAY\n")


def test_what_cannot_be_told_is_no_agreement(served):
    served.answer = why_document(answer(DENIED, Flows(None, "node-2: its switch is away")))
    result = why("shop/web", "shop/db", "--port", "5432")
    assert result.exit_code == 1
    assert "    flows    unknown: node-2: its switch is away" in result.stdout
    assert result.stdout.endswith("whether the flows of the switches agree cannot be told\n")


def test_nothing_to_decide(served):
    served.answer = why_document(remarks=("shop/job has ended (Succeeded)",))
    result = why("shop/web", "shop/job", "--port", "1")
    assert result.exit_code == 1
    assert "note: shop/job has ended (Succeeded)" in result.stdout


def test_no_switch_on_the_way(served):
    served.answer = why_document(answer(ALLOWED, Flows(True)))
    result = why("shop/web", "shop/web", "--port", "1")
    assert result.exit_code == 0
    assert "    flows    agree: none is on the way" in result.stdout


def test_a_service_with_one_endpoint(served):
    served.answer = why_document(
        services=[called(possible(6, seen="10.0.1.2"), affinity=60, **FACE)]
    )
    result = why("shop/web", "service/shop/db")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "shop/web to shop/db, tcp",
        "",
        "IPv4, 10.0.1.5 to 10.96.0.1 port 80: allowed",
        "    service  shop/db, port http (80/TCP), by its cluster address, at the switch of node-1",
        "    served   by 10.0.2.6:8080, shop/db-6 on node-2, seen as 10.0.1.2",
        "             a client keeps its endpoint, until it has not called for 60 s",
        "    egress   allowed: no policy isolates the pod",
        "    ingress  allowed: a rule allows it",
        "             by shop/open ingress rule 1",
        "             by shop/open ingress rule 2",
        "    flows    agree: its packets arrive, and the answers",
        "",
        "the flows of the switches agree",
    ]


def test_of_many_endpoints_those_come_first_that_are_worth_a_look(served):
    wrong = Flows(False, "policies allow it, and the answer is dropped on node-1", LEAKS[:1])
    many = [possible(n) for n in range(10, 22)]
    denied = possible(23, DENIED, Flows(True, "", DROPPED))
    every = [*many, denied, possible(24, flows=wrong), possible(25, flows=None)]
    served.answer = why_document(services=[called(*every, **FACE)])
    result = why("shop/web", "service/shop/db")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[2] == "IPv4, 10.0.1.5 to 10.96.0.1 port 80: allowed to 14 of 15 endpoints"
    table = [line.split() for line in lines if line.startswith(" " * 13)]
    assert table[:4] == [
        ["Endpoint", "Pod", "Node", "Policies", "Flows"],
        ["10.0.2.24:8080", "shop/db-24", "node-2", "allowed", "DISAGREE"],
        ["10.0.2.23:8080", "shop/db-23", "node-2", "denied", "agree"],
        ["10.0.2.10:8080", "shop/db-10", "node-2", "allowed", "agree"],
    ]
    assert "             and 5 more: --json has all" in lines
    assert "    flows    agree: it is led to each of them, and to no other" in lines
    assert "    10.0.2.23:8080, shop/db-23 on node-2:" in lines
    assert "                 isolated by shop/deny, shop/other" in lines
    assert "    10.0.2.24:8080, shop/db-24 on node-2:" in lines
    assert f"        flows    DISAGREE: {wrong.problem}" in lines
    assert lines[-1] == "THE FLOWS OF THE SWITCHES DO NOT DO WHAT THE POLICIES AND SERVICES SAY"


def test_an_endpoint_that_was_not_tried_is_no_disagreement(served):
    served.answer = why_document(services=[called(possible(6), possible(7, flows=None), **FACE)])
    result = why("shop/web", "service/shop/db")
    assert result.exit_code == 0
    assert "10.0.2.7:8080  shop/db-7  node-2  allowed   not tried" in result.stdout


def test_a_choice_that_is_wrong(served):
    fate = Fate("first packet", True, "may be led to 10.9.9.9:80", False, DROP)
    flows = Flows(False, "the first packet may be led to 10.9.9.9:80", (fate,))
    served.answer = why_document(services=[called(possible(6), possible(7), flows=flows, **FACE)])
    result = why("shop/web", "service/shop/db")
    assert result.exit_code == 1
    assert "    flows    DISAGREE: the first packet may be led to 10.9.9.9:80" in result.stdout
    assert "by this flow of node-2, table ingress_default:" in result.stdout


def test_endpoints_of_which_nobody_can_tell(served):
    flows = Flows(None, "node-1: its switch is not connected")
    served.answer = why_document(services=[called(possible(6, flows=None), flows=flows, **FACE)])
    result = why("shop/web", "service/shop/db")
    assert result.exit_code == 1
    assert "    flows    unknown: node-1: its switch is not connected" in result.stdout
    assert result.stdout.endswith("whether the flows of the switches agree cannot be told\n")


REFUSED = (
    Fate("first packet", True, "arrives at the node of node-1", True),
    Fate("refusal", True, "arrives at shop/web", True),
)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            called(
                outcome=Outcome.REFUSED, reason="it has no endpoint", flows=Flows(True, "", REFUSED)
            ),
            [
                "IPv4, 10.0.1.5 to 10.96.0.1 port 80: refused",
                "    service  shop/db, at the switch of node-1",
                "    refused  it has no endpoint",
                "    flows    agree: its node refuses it, and the client hears of that",
            ],
        ),
        (
            called(
                outcome=Outcome.DROPPED, reason="none is here", flows=Flows(True, "", DROPPED[:1])
            ),
            [
                "IPv4, 10.0.1.5 to 10.96.0.1 port 80: dropped",
                "    service  shop/db, at the switch of node-1",
                "    dropped  none is here",
                "    flows    agree: it is dropped on node-2 in ingress_default",
            ],
        ),
        (
            called(
                outcome=Outcome.HEALTH,
                status=503,
                relayed=True,
                face="health check node port",
                flows=AGREE,
            ),
            [
                "IPv4, 10.0.1.5 to 10.96.0.1 port 80, as it comes to node-1: answered",
                "    service  shop/db, by its health check node port, at the switch of node-1",
                "    health   the agent of node-1 answers with status 503",
                "    flows    agree: its packets arrive, and the answers",
            ],
        ),
    ],
)
def test_calls_that_reach_no_endpoint(served, document, words):
    served.answer = why_document(services=[document])
    result = why("shop/web", "service/shop/db")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[2:6] == words


def test_a_call_by_way_of_another_node_has_two_answers(served):
    document = called(possible(6, DENIED, Flows(True, "", DROPPED)), relayed=True, **FACE)
    served.answer = why_document(answer(ALLOWED, AGREE), services=[document])
    result = why("shop/web", "node/node-1", "--port", "80")
    assert "10.0.1.5 to 10.0.2.6 port 5432: allowed" in result.stdout
    assert "10.0.1.5 to 10.96.0.1 port 80, as it comes to node-1: denied" in result.stdout
    assert json.loads(why("a", "b", "--json").stdout)["services"][0]["relayed"] is True


@pytest.mark.parametrize(
    ("flows", "code"), [(Flows(True, "", DROPPED), 0), (Flows(False, "no", LEAKS), 1)]
)
def test_json_is_the_controllers_own(served, flows, code):
    served.answer = why_document(answer(DENIED, flows))
    result = why("shop/web", "shop/db", "--port", "5432", "--json")
    assert result.exit_code == code
    document = json.loads(result.stdout)
    assert (document["allowed"], document["agree"]) == (False, flows.agree)
    assert document["answers"][0]["ingress"]["isolated_by"] == ["shop/deny", "shop/other"]


def test_the_question_as_the_controller_gets_it(served):
    served.answer = why_document()
    why("shop/web", "fd00::6", "--port", "http", "--protocol", "UDP")
    assert served.asked.path == "/why"
    assert parse_qs(served.asked.query) == {
        "source": ["shop/web"], "destination": ["fd00::6"], "protocol": ["udp"], "port": ["http"],
    }  # fmt: skip


def test_what_the_controller_cannot_make_sense_of_is_wrong_usage(served):
    served.answer = controller.RefusedError("there is no pod 'web'; did you mean shop/web?")
    result = why("shop/web", "shop/db")
    assert result.exit_code == 2
    assert "did you mean shop/web?" in result.stderr


def test_wrong_usage_and_no_controller(served):
    assert why("shop/web").exit_code == 2
    assert why("shop/web", "shop/db", "--protocol", "ipip").exit_code == 2
    why("shop/web", "shop/db")
    assert parse_qs(served.asked.query) == {"source": ["shop/web"], "destination": ["shop/db"]}
    served.answer = controller.UnreachableError("nobody there")
    assert why("shop/web", "shop/db").exit_code == 3
    served.answer = None
    result = why("shop/web", "shop/db")
    assert result.exit_code == 3
    assert "does not answer as an ovsnet controller does" in result.stderr
