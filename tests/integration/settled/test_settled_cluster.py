"""From a write at the API to `ovsnet status --wait`, while parts of the cluster come and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from places import PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from sandbox_runs import introduce, sandbox

from ovsnet.sandbox.cluster import AGENTS_PORT
from ovsnet.sandbox.layout import INSTANCE_VARIABLE

COMMAND = (sys.executable, "-c", "from ovsnet.cli.main import main; main()")
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": NAMESPACE},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with sandbox("settled", "a", 2) as made:
        yield made


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, PodPlace]:
    made = lab.pods([("a", "node1"), ("b", "node2")])
    introduce(made.values())
    return made


@pytest.fixture(autouse=True)
def _whole(lab: Lab) -> Iterator[None]:
    """No policy and every process, after each test as before it."""
    yield
    for name in ("controller", *(f"{part}-{n}" for part in PARTS for n in lab.nodes)):
        if not lab.alive(name):
            lab.start(name)
    for item in lab.api("GET", POLICIES)["items"]:
        lab.api("DELETE", f"{POLICIES}/{item['metadata']['name']}")
    assert waited(lab).returncode == 0


PARTS = ("agent", "ovs-vswitchd")


def run(lab: Lab, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*COMMAND, *arguments),
        input=stdin,
        env={**os.environ, INSTANCE_VARIABLE: lab.instance},
        capture_output=True,
        text=True,
        check=False,
    )


def waited(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(lab, "status", "--wait", "--json", *arguments)


def deny(lab: Lab) -> str:
    """Forbid what pods receive; the version of the policy."""
    version: str = lab.api("POST", POLICIES, DENY)["metadata"]["resourceVersion"]
    return version


def expect_in_effect(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    for node in document["nodes"]:
        revision = node["revision"]
        assert revision["desired"] == revision["acknowledged"] == revision["settled"], node
    return document


def policies_known(document: dict[str, Any]) -> int:
    return sum(w["objects"] for w in document["watches"] if w["kind"] == "NetworkPolicy")


def reaches(source: PodPlace, target: PodPlace) -> bool:
    ping = ("ping", "-n", "-c", "1", "-W", "1", target.address(4))
    return source.run(*ping, check=False).returncode == 0


def test_what_was_written_is_known_and_in_effect_after_the_wait(
    lab: Lab, pods: dict[str, PodPlace]
) -> None:
    a, b = pods["a"], pods["b"]
    for _ in range(5):
        deny(lab)
        assert policies_known(expect_in_effect(waited(lab))) == 1
        assert not reaches(a, b)
        lab.api("DELETE", f"{POLICIES}/deny")
        assert policies_known(expect_in_effect(waited(lab))) == 0
        assert reaches(a, b)


def test_a_version_is_known_and_in_effect_after_the_wait(
    lab: Lab, pods: dict[str, PodPlace]
) -> None:
    for _ in range(5):
        version = deny(lab)
        document = expect_in_effect(waited(lab, "--version", f"NetworkPolicy={version}"))
        assert policies_known(document) == 1
        assert not reaches(pods["a"], pods["b"])
        lab.api("DELETE", f"{POLICIES}/deny")


def test_a_controller_that_starts_anew_learns_what_is_in_effect(lab: Lab) -> None:
    deny(lab)
    expect_in_effect(waited(lab))
    lab.kill("controller")
    lab.api("DELETE", f"{POLICIES}/deny")
    lab.start("controller")
    wait_for(lambda: run(lab, "status").returncode != 3, "the controller to answer")
    assert policies_known(expect_in_effect(waited(lab))) == 0


def test_a_switch_that_starts_anew_is_waited_for(lab: Lab, pods: dict[str, PodPlace]) -> None:
    deny(lab)
    lab.kill("ovs-vswitchd-node2")
    lab.start("ovs-vswitchd-node2")
    document = expect_in_effect(waited(lab))
    assert {node["session"] for node in document["nodes"]} == {"steady"}
    assert not reaches(pods["a"], pods["b"])


def test_nothing_is_settled_that_no_agent_has_reported(lab: Lab) -> None:
    expect_in_effect(waited(lab))
    lab.kill("agent-node2")
    deny(lab)
    done = waited(lab, "--timeout", "2")
    assert done.returncode == 1
    assert "node2 has settled revision" in done.stderr
    assert "node1" not in done.stderr
    lab.start("agent-node2")
    expect_in_effect(waited(lab))


def test_a_nodes_agent_is_believed_about_no_other_node(lab: Lab) -> None:
    refused = lab.metric("ovsnet_reports_refused_total")
    address = lab.control.ipv4

    def report() -> tuple[int, str]:
        body = json.dumps({"node": "node1", "digest": "1", "serial": 1}).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{address}:{AGENTS_PORT}/settled", body, 20) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]

    assert lab.host("node1").within(report) == (204, "")
    code, words = lab.host("node2").within(report)
    assert code == 403
    assert "is no address of node node1, which has: " in words
    assert lab.metric("ovsnet_reports_refused_total") == refused + 1


def test_the_metrics_tell_what_is_settled_and_how_long_it_took(lab: Lab) -> None:
    took = lab.metric("ovsnet_settled_seconds_count")
    deny(lab)
    document = expect_in_effect(waited(lab))
    for node in document["nodes"]:
        sample = f'ovsnet_node_revision_settled{{node="{node["name"]}"}}'
        revision = node["revision"]["settled"]
        wait_for(lambda s=sample, r=revision: lab.metric(s) == r, f"{sample} to be {revision}")
    assert lab.metric("ovsnet_settled_seconds_count") >= took + len(document["nodes"])


def test_a_plan_names_live_connections_that_the_switches_track(
    lab: Lab, pods: dict[str, PodPlace]
) -> None:
    a, b = pods["a"], pods["b"]
    assert reaches(a, b)
    done = run(lab, "plan", "--json", "-", stdin=json.dumps(DENY))
    plan = json.loads(done.stdout)
    assert plan["silent"] == []
    cut = {(each["protocol"], each["source"], each["destination"]) for each in plan["cut"]}
    assert ("icmp", str(a.ipv4), str(b.ipv4)) in cut
