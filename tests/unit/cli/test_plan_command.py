"""`ovsnet plan`: what is sent to the controller, and what of its answer people and programs see."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner

from ovsnet.cli import controller
from ovsnet.cli.main import main
from ovsnet.cli.plan import some, traffic
from ovsnet.controller.inquiry.plan import Action, Cut, FlowChanges, Plan, Proposed, Shift, Silent
from ovsnet.model import Fault, Protocol
from ovsnet.policy.spans import Ports, Span

POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open}
spec: {podSelector: {}}
"""
WEB = Ports(Protocol.TCP, (Span(80, 80), Span(8000, 8080)))
WHOLE = Plan(
    policies=(Proposed("shop/open", Action.CHANGED, 3),),
    allowed=(
        Shift(("shop/web",), ("shop/db", "10.0.0.0/8"), 2, ("IPv4", "IPv6"), (WEB, Ports(None))),
    ),
    denied=(Shift(("bank/vault",), ("shop/db",), 1, ("IPv4",), (WEB,)),),
    cut=(
        Cut("tcp", "10.0.3.7", "10.0.2.6", 8001, "bank/vault", "shop/db"),
        Cut("icmp", "203.0.113.7", "10.0.2.6", None, "", "shop/db"),
    ),
    flows=(FlowChanges("node-2", 12, 3, 4),),
)


class Controller:
    def __init__(self):
        self.sent = []
        self.answer = WHOLE

    def fetch(self, target, path, seconds, body):
        assert path == "/plan"
        self.sent.append(json.loads(body))
        if isinstance(self.answer, Exception):
            raise self.answer
        return msgspec.json.encode(self.answer) if self.answer else b"[]"


@pytest.fixture
def served(monkeypatch):
    made = Controller()
    monkeypatch.setattr(controller, "fetch", made.fetch)
    return made


def plan(*arguments, given=POLICY):
    return CliRunner().invoke(main, ["plan", *arguments], input=given)


def test_the_tables(served):
    result = plan("-")
    assert result.exit_code == 0, result.output
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert rows == [
        "Policies",
        "Policy Action Pods Faults",
        "shop/open changed 3 -",
        "",
        "Would become allowed",
        "From To Traffic Families Pairs",
        "shop/web shop/db, 10.0.0.0/8 TCP 80, 8000-8080; other protocols IPv4 IPv6 2",
        "",
        "Would become denied",
        "From To Traffic Families Pairs",
        "bank/vault shop/db TCP 80, 8000-8080 IPv4 1",
        "",
        "Live connections that would be cut",
        "Protocol From To Port",
        "tcp bank/vault (10.0.3.7) shop/db (10.0.2.6) 8001",
        "icmp 203.0.113.7 shop/db (10.0.2.6) -",
        "",
        "Flow changes",
        "Node Added Changed Deleted",
        "node-2 12 3 4",
        "",
        "nothing has been changed",
    ]


def test_nothing_that_would_change(served):
    served.answer = Plan((Proposed("shop/open", Action.UNCHANGED, 3),))
    result = plan("-")
    assert result.exit_code == 0
    assert "Would become denied\nnothing\n" in result.stdout
    assert "Live connections that would be cut\nnone\n" in result.stdout


def test_a_fault_is_shown_and_is_the_exit_status(served):
    fault = Fault("spec.ingress[0].colour", "unknown field: expected one of from, ports")
    served.answer = Plan((Proposed("shop/open", Action.CREATED, 3, (fault,)),))
    result = plan("-")
    assert result.exit_code == 1
    assert "shop/open: spec.ingress[0].colour: unknown field" in result.stdout
    assert plan("-", "--json").exit_code == 1


def test_a_silent_node_is_shown_and_is_the_exit_status(served):
    served.answer = msgspec.structs.replace(
        WHOLE, cut=(), silent=(Silent("node-2", "no answer for 5 s"),)
    )
    result = plan("-")
    assert result.exit_code == 1
    assert "node-2 has not told its live connections: no answer for 5 s" in result.stdout
    assert "Live connections that would be cut\nnone that is known of\n" in result.stdout


def test_markup_in_names_is_text(served):
    fault = Fault("spec[red]", "no [bold] field")
    served.answer = Plan((Proposed("shop/[red]x", Action.CREATED, 3, (fault,)),))
    assert "shop/[red]x: spec[red]: no [bold] field" in plan("-").stdout


def test_long_lists_are_cut_short_for_people_only(served):
    flows = tuple(FlowChanges(f"node-{n}", 1, 0, 0) for n in range(100))
    served.answer = msgspec.structs.replace(WHOLE, flows=flows)
    result = plan("-")
    assert "node-39 " in result.stdout
    assert "node-40 " not in result.stdout
    assert "some rows were left out: --json has all" in result.stdout
    assert len(json.loads(plan("-", "--json").stdout)["flows"]) == 100


@pytest.mark.parametrize(
    ("count", "text"), [(1, "p0"), (4, "p0, p1, p2, p3"), (9, "p0, p1, p2 and 6 more")]
)
def test_a_few_of_many_names(count, text):
    assert some([f"p{n}" for n in range(count)]) == text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ((*(Ports(p, (Span(0, 65535),)) for p in Protocol), Ports(None)), "everything"),
        (tuple(Ports(p, (Span(0, 65535),)) for p in Protocol), "TCP; UDP; SCTP"),
        ((WEB, Ports(None)), "TCP 80, 8000-8080; other protocols"),
    ],
)
def test_traffic_in_words(found, text):
    assert traffic(found) == text


def test_json_is_the_controllers_own(served):
    result = plan("-", "--json")
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout, type=Plan) == WHOLE
    assert json.loads(result.stdout)["allowed"][0]["traffic"][0] == {
        "protocol": "TCP", "spans": [[80, 80], [8000, 8080]],
    }  # fmt: skip


def test_what_is_sent(served, tmp_path):
    (tmp_path / "a.yaml").write_text(POLICY)
    (tmp_path / "b.yaml").write_text(f"{POLICY}---\n{POLICY.replace('open', 'deny')}")
    files = [str(tmp_path / name) for name in ("a.yaml", "b.yaml")]
    assert plan(*files, "-n", "shop", "--delete").exit_code == 0
    (sent,) = served.sent
    assert sent["delete"] is True
    assert [p["metadata"] for p in sent["policies"]] == [
        {"namespace": "shop", "name": name} for name in ("open", "open", "deny")
    ]
    plan("-")
    assert served.sent[1]["policies"][0]["metadata"]["namespace"] == "default"
    assert served.sent[1]["delete"] is False


def test_what_is_not_sent(served, tmp_path):
    for arguments, given, words in (
        ((), "", "Missing argument 'FILE...'"),
        (("-",), "", "there is no NetworkPolicy in -"),
        (("-",), "kind: Pod\napiVersion: v1\n", "document 1 is Pod (v1): expected NetworkPolicy"),
        ((str(tmp_path / "none"),), "", "does not exist"),
    ):
        result = plan(*arguments, given=given)
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
    assert not served.sent


def test_no_controller(served):
    served.answer = controller.UnreachableError("nobody there")
    assert plan("-").exit_code == 3
    served.answer = None
    result = plan("-")
    assert result.exit_code == 3
    assert "does not answer as an ovsnet controller does" in result.stderr
