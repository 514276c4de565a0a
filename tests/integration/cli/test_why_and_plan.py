"""`ovsnet why` and `ovsnet plan` in a sandbox: real switches, and what they really hold."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import Said, ovsnet
from places import PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from sandbox_runs import introduce, sandbox

from ovsnet.model import ContainerPort
from ovsnet.sandbox import node

POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
WEB, DB, OTHER = (f"{NAMESPACE}/{name}" for name in ("web", "db", "other"))
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]},
}
OPEN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "open"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                "ports": [{"port": "sql"}],
            }
        ],
    },
}
SQL = ContainerPort("sql", 5432, "TCP")


@dataclass(frozen=True)
class Town:
    """A sandbox with three pods, and the commands that are asked about them."""

    lab: Lab
    pods: dict[str, PodPlace]

    def ovsnet(self, *arguments: str, given: str = "") -> Said:
        """Run the command as a user of this sandbox does."""
        return ovsnet(self.lab.instance, *arguments, given=given)

    def apply(self, *policies: dict[str, Any]) -> None:
        """Make these all the policies there are, and wait until every switch knows."""
        for item in self.lab.api("GET", POLICIES)["items"]:
            self.lab.api("DELETE", f"{POLICIES}/{item['metadata']['name']}")
        for policy in policies:
            self.lab.api("POST", POLICIES, policy)

        def known() -> bool:
            watches = {w["kind"]: w for w in self.lab.status()["watches"]}
            return bool(watches["NetworkPolicy"]["objects"] == len(policies))

        wait_for(known, "the controller to know the policies")
        self.lab.wait_until_steady()

    def answers(self, source: str, target: str, port: int) -> bool:
        """Whether a connection comes about in reality."""
        pod = self.pods[target]
        program = (
            "import socket, sys; "
            "socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()"
        )
        command = (sys.executable, "-c", program, pod.address(4), str(port))
        return self.pods[source].run(*command, check=False).returncode == 0

    def flows(self, name: str) -> int:
        """How many flows a node's switch holds."""
        dump = self.lab.ovs(name, "ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-int")
        return dump.count("actions=")


@pytest.fixture(scope="module")
def _town() -> Iterator[Town]:
    with sandbox("clitest", "a", 2) as lab:
        lab.post_pod("web", "node1", labels={"app": "web"})
        lab.post_pod("db", "node2", labels={"app": "db"}, ports=[SQL])
        lab.post_pod("other", "node1")
        lab.post_pod("agent", "node2", host_network=True)
        pods = lab.running(["web", "db", "other", "agent"])
        introduce(pods.values())
        yield Town(lab, pods)


@pytest.fixture
def town(_town: Town) -> Town:
    """A town without policies."""
    _town.apply()
    return _town


def test_policies_flows_and_packets_say_the_same(town: Town) -> None:
    town.apply(DENY, OPEN)
    for source, allowed in (("web", True), ("other", False)):
        said = town.ovsnet("why", f"{NAMESPACE}/{source}", DB, "--port", "sql", "--json")
        assert said.status == 0, said
        assert said.document["allowed"] is allowed
        assert [a["family"] for a in said.document["answers"]] == ["IPv4", "IPv6"]
        assert town.answers(source, "db", 5432) is allowed
    said = town.ovsnet("why", WEB, DB)
    assert "by lab/open ingress rule 1" in said.output
    assert said.output.endswith("the flows of the switches agree\n")
    said = town.ovsnet("why", OTHER, DB)
    assert said.status == 0
    assert "isolated by lab/deny, lab/open" in said.output
    assert "owner  pod lab/db, isolated for ingress by policy lab/deny, lab/open" in said.output


@pytest.mark.parametrize(
    ("source", "destination", "options", "allowed"),
    [
        (WEB, DB, ("--protocol", "icmp"), False),
        (WEB, DB, ("--protocol", "udp", "--port", "53"), False),
        (DB, WEB, ("--port", "80"), True),
        ("node/node1", DB, ("--port", "5432"), False),
        ("node/node2", DB, ("--port", "5432"), True),
        (f"{NAMESPACE}/agent", DB, ("--port", "5432"), True),
        (WEB, "node/node2", ("--port", "22"), True),
        (WEB, "203.0.113.7", ("--port", "443"), True),
        ("203.0.113.7", DB, ("--port", "5432"), False),
        (DB, DB, ("--port", "5432"), True),
    ],
)
def test_every_kind_of_ends(
    town: Town, source: str, destination: str, options: tuple[str, ...], allowed: bool
) -> None:
    town.apply(DENY)
    said = town.ovsnet("why", source, destination, *options, "--json")
    assert said.status == 0, said
    assert said.document["allowed"] is allowed


def test_a_flow_that_is_missing_is_found(town: Town) -> None:
    town.apply(DENY)
    try:
        town.lab.meddle("node2", "del-flows", "table=ingress_isolation,ip")
        said = town.ovsnet("why", WEB, DB, "--port", "5432")
        assert said.status == 1
        problem = "ingress policies deny it on node2, and the first packet arrives at lab/db"
        assert f"DISAGREE: {problem}" in said.output
        assert "by this flow of node2, table ingress_isolation:" in said.output
        assert "owner  node node2" in said.output
        assert said.output.endswith("DO NOT DO WHAT THE POLICIES SAY\n")
        assert town.answers("web", "db", 5432), "it is no false alarm"
        assert town.ovsnet("why", DB, WEB, "--port", "80").status == 0
    finally:
        town.lab.compare_all()
    assert town.ovsnet("why", WEB, DB, "--port", "5432").status == 0
    assert not town.answers("web", "db", 5432)


def test_a_flow_that_should_not_be_there_is_found(town: Town) -> None:
    try:
        town.lab.meddle(
            "node1", "add-flow", "table=route,priority=999,tcp,tp_dst=5432,actions=drop"
        )
        said = town.ovsnet("why", WEB, DB, "--port", "5432")
        assert said.status == 1
        assert "DISAGREE: policies allow it, and the first packet is dropped on node1 in route" in (
            said.output
        )
        assert "owner  nobody that ovsnet knows" in said.output
        assert town.ovsnet("why", WEB, DB, "--port", "5433").status == 0
    finally:
        town.lab.compare_all()


def test_a_flow_that_cannot_be_followed_leaves_it_open(town: Town) -> None:
    try:
        town.lab.meddle(
            "node1", "add-flow", "table=route,idle_timeout=900,priority=1,tcp,actions=drop"
        )
        said = town.ovsnet("why", WEB, DB, "--port", "5432")
        assert said.status == 1
        assert "unknown: node1 holds a flow in table" in said.output
    finally:
        town.lab.compare_all()


def test_a_switch_that_is_away_leaves_only_the_policies(town: Town) -> None:
    town.apply(DENY)
    switch = node.process_name(node.SWITCH, "node2")

    def away() -> bool:
        nodes = {n["name"]: n for n in town.lab.status()["nodes"]}
        return bool(nodes["node2"]["session"] == "none")

    with town.lab.stopped(switch):
        wait_for(away, "the controller to lose the switch of node2")
        said = town.ovsnet("why", WEB, DB, "--port", "5432", "--json")
        assert said.status == 1
        assert (said.document["allowed"], said.document["agree"]) == (False, False)
        flows = said.document["answers"][0]["flows"]
        assert (flows["agree"], flows["problem"]) == (None, "node2: its switch is not connected")
    town.lab.wait_until_steady()


def test_names_that_are_not_there(town: Town) -> None:
    said = town.ovsnet("why", f"{NAMESPACE}/wbe", DB, "--port", "1")
    assert said.status == 2
    assert "there is no pod 'wbe' in namespace 'lab'; did you mean lab/web?" in said.error
    said = town.ovsnet("why", WEB, "node/node9", "--port", "1")
    assert said.status == 2
    assert "there is no node 'node9'; did you mean node/node" in said.error


def test_a_plan_is_what_happens_then_and_nothing_before(town: Town, tmp_path: Path) -> None:
    town.apply(OPEN)
    before = {name: town.flows(name) for name in town.lab.nodes}
    other = {**OPEN, "spec": {**OPEN["spec"], "policyTypes": ["Ingress", "Egress"]}}  # type: ignore[dict-item]
    file = tmp_path / "policies.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [other]}))
    said = town.ovsnet("plan", str(file), "-n", NAMESPACE, "--json")
    assert said.status == 0, said
    plan = said.document
    assert [(p["name"], p["action"], p["pods"]) for p in plan["policies"]] == [
        ("lab/open", "changed", 1)
    ]
    assert {tuple(s["sources"]) for s in plan["denied"]} == {(DB,)}
    assert plan["allowed"] == []
    (changes,) = plan["flows"]
    assert changes["node"] == "node2"
    assert {name: town.flows(name) for name in town.lab.nodes} == before
    assert town.lab.api("GET", f"{POLICIES}/open")["spec"]["policyTypes"] == ["Ingress"]
    assert town.ovsnet("why", DB, WEB, "--port", "80", "--json").document["allowed"]
    town.apply(other)
    now = {name: town.flows(name) for name in town.lab.nodes}
    assert now["node1"] == before["node1"]
    assert now["node2"] - before["node2"] == changes["added"] - changes["deleted"]
    assert not town.ovsnet("why", DB, WEB, "--port", "80", "--json").document["allowed"]
    said = town.ovsnet("plan", str(file), "-n", NAMESPACE, "--delete")
    assert said.status == 0
    assert "lab/open  deleted" in said.output
    assert said.output.endswith("nothing has been changed\n")


def test_live_connections_that_a_plan_would_cut(town: Town) -> None:
    with contextlib.ExitStack() as stack:
        for source in ("web", "other"):
            stack.enter_context(_connected(town, source))
        said = town.ovsnet("plan", "-", "-n", NAMESPACE, "--json", given=json.dumps(OPEN))
    assert said.status == 0, said
    ends = {
        (c["protocol"], c["source_pod"], c["destination_pod"], c["port"])
        for c in said.document["cut"]
    }
    assert ends == {("tcp", OTHER, DB, 5432)}


@contextlib.contextmanager
def _connected(town: Town, source: str) -> Iterator[None]:
    """A connection from a pod to the database, for as long as this lasts."""
    program = (
        "import socket, sys; "
        "made = socket.create_connection((sys.argv[1], 5432), timeout=10); "
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, town.pods["db"].address(4)]
    pod = town.pods[source]
    process = pod.within(
        lambda: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield
        process.kill()


def test_a_plan_shows_what_of_a_policy_cannot_be_done(town: Town) -> None:
    wrong = {**DENY, "spec": {**DENY["spec"], "colour": "red"}}  # type: ignore[dict-item]
    said = town.ovsnet("plan", "-", "-n", NAMESPACE, given=json.dumps(wrong))
    assert said.status == 1
    assert "lab/deny: spec.colour: unknown field" in said.output
    said = town.ovsnet("plan", "-", given="kind: Pod\napiVersion: v1\nmetadata: {name: x}\n")
    assert said.status == 2
    assert "is Pod (v1) x: expected NetworkPolicy" in said.error


def test_without_a_controller(town: Town) -> None:
    with town.lab.stopped("controller"):
        assert town.ovsnet("why", WEB, DB, "--port", "1").status == 3
        assert town.ovsnet("plan", "-", given=json.dumps(DENY)).status == 3
    town.lab.wait_until_steady()
