"""`ovsnet why` and `ovsnet explain` about services, in a sandbox: what they say is what happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from commands import Said, ovsnet
from in_effect import expect_settled
from places import Place, PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from sandbox_runs import introduce, sandbox

from ovsnet.model import ContainerPort

SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
WEB, API = f"{NAMESPACE}/web", f"service/{NAMESPACE}/api"
NODE_PORT = 30080
HTTP = ContainerPort("http", 8080, "TCP")
ONLY_WEB = {
    "metadata": {"name": "only-web"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "api"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
    },
}


@dataclass(frozen=True)
class Market:
    """A sandbox with a service, its two endpoints on two nodes, and two clients."""

    lab: Lab
    pods: dict[str, PodPlace]
    address: str

    def why(self, *arguments: str) -> Said:
        return ovsnet(self.lab.instance, "why", *arguments)

    def document(self, *arguments: str) -> dict[str, Any]:
        said = self.why(*arguments, "--json")
        assert said.status == 0, said
        return said.document

    def reaches(self, place: Place, address: str, port: int) -> str:
        """What comes of a connection in reality: `open`, `refused` or `silence`."""
        program = (
            "import socket, sys\n"
            "try:\n"
            "    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()\n"
            "    print('open')\n"
            "except ConnectionRefusedError:\n"
            "    print('refused')\n"
            "except TimeoutError:\n"
            "    print('silence')\n"
        )
        done = place.run(sys.executable, "-c", program, address, str(port))
        return done.stdout.strip()


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            **spec,
        },
    }


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    with sandbox("whysvc", "a", 2) as lab:
        for number in (1, 2):
            lab.post_pod(f"api-{number}", f"node{number}", labels={"app": "api"}, ports=[HTTP])
        lab.post_pod("web", "node1", labels={"app": "web"})
        lab.post_pod("other", "node2")
        ports = [{"name": "http", "port": 80, "targetPort": "http", "nodePort": NODE_PORT}]
        made = lab.api("POST", SERVICES, service("api", type="NodePort", ports=ports))
        lab.api("POST", SERVICES, service("nobody"))
        pods = lab.running(["api-1", "api-2", "web", "other"])
        introduce(pods.values())
        found = Market(lab, pods, made["spec"]["clusterIP"])

        def served() -> bool:
            said = found.why(WEB, API, "--json")
            return said.status == 0 and all(
                len(called["endpoints"]) == 2 for called in said.document["services"]
            )

        wait_for(served, "both endpoints to be served", 60)
        expect_settled(lab)
        yield found


@pytest.fixture(autouse=True)
def _without_policies(market: Market) -> Iterator[None]:
    yield
    for item in market.lab.api("GET", POLICIES)["items"]:
        market.lab.api("DELETE", f"{POLICIES}/{item['metadata']['name']}")
    expect_settled(market.lab)


def test_endpoints_flows_and_packets_say_the_same(market: Market) -> None:
    document = market.document(WEB, API)
    assert document["allowed"] is True
    called = document["services"][0]
    assert (called["face"], called["service_port"]) == ("cluster address", "http (80/TCP)")
    assert {(e["pod"], e["node"]) for e in called["endpoints"]} == {
        (f"{NAMESPACE}/api-1", "node1"),
        (f"{NAMESPACE}/api-2", "node2"),
    }
    assert market.reaches(market.pods["web"], market.address, 80) == "open"
    said = market.why(WEB, API)
    assert said.output.endswith("the flows of the switches agree\n")
    assert "by one of 2 endpoints" in said.output


@pytest.mark.parametrize("from_node", ["node1", "node2"])
def test_node_ports(market: Market, from_node: str) -> None:
    document = market.document(WEB, f"node/{from_node}", "--port", str(NODE_PORT))
    called = document["services"][0]
    assert (called["face"], called["node"]) == ("node port", from_node)
    assert called["relayed"] is (from_node != "node1")
    assert document["allowed"] is True
    assert market.reaches(market.pods["web"], called["destination"], NODE_PORT) == "open"


def test_policies_decide_behind_the_service(market: Market) -> None:
    market.lab.api("POST", POLICIES, ONLY_WEB)
    expect_settled(market.lab)
    for source, allowed in (("web", True), ("other", False)):
        document = market.document(f"{NAMESPACE}/{source}", API)
        assert document["allowed"] is allowed
        happened = market.reaches(market.pods[source], market.address, 80)
        assert happened == ("open" if allowed else "silence")
    said = market.why(f"{NAMESPACE}/other", API)
    assert said.status == 0
    assert f"isolated by {NAMESPACE}/only-web" in said.output


def test_a_service_without_endpoints_is_refused(market: Market) -> None:
    document = market.document(WEB, f"service/{NAMESPACE}/nobody")
    called = document["services"][0]
    assert (called["outcome"], document["allowed"]) == ("refused", False)
    assert market.reaches(market.pods["web"], called["destination"], 80) == "refused"
    assert market.document(WEB, market.address, "--port", "81")["services"][0]["outcome"] == (
        "refused"
    )
    assert market.reaches(market.pods["web"], market.address, 81) == "refused"


def test_a_flow_that_is_missing_is_found(market: Market) -> None:
    try:
        market.lab.meddle("node1", "del-flows", "table=endpoint,tcp")
        said = market.why(WEB, API)
        assert said.status == 1
        assert "DISAGREE: the first packet may be led to no endpoint" in said.output
        assert "by this flow of node1, table endpoint:" in said.output
        assert market.reaches(market.pods["web"], market.address, 80) == "silence"
        assert market.why(f"{NAMESPACE}/other", API).status == 0
    finally:
        market.lab.compare_all()
    assert market.document(WEB, API)["allowed"] is True


def test_names_and_ports_that_are_not_there(market: Market) -> None:
    said = market.why(WEB, f"service/{NAMESPACE}/apu")
    assert said.status == 2
    assert f"did you mean {API}?" in said.error
    said = market.why(WEB, API, "--port", "sql")
    assert said.status == 2
    assert "it has http=80/TCP" in said.error


def test_the_flows_of_a_service_in_words(market: Market) -> None:
    command = ("ovs-ofctl", "-O", "OpenFlow15", "--names", "dump-flows", "br-int")
    said = ovsnet(market.lab.instance, "explain", given=market.lab.ovs("node1", *command))
    assert said.status == 0
    assert "cannot be read" not in said.output
    lines = {line.strip() for line in said.output.splitlines()}
    takes = [line for line in lines if line.startswith("takes  ")]
    assert takes
    assert not [line for line in takes if "reg" in line]
    assert f"owner  service {NAMESPACE}/api" in lines
    assert f"takes  TCP over IPv4, destination {market.address}, destination port 80" in lines
    endpoints = f"for the endpoints of {NAMESPACE}/api, port http, over IPv4"
    assert f"takes  TCP over IPv4, {endpoints}" in lines
    assert any(line.startswith(f"does   noted: {endpoints}; tracked") for line in lines)
    assert "does   noted: one of 2 endpoints; one of 16 slots by a hash (group 1)" in lines
    assert "owner  all services with 2 endpoints" in lines
