"""Packets that policies drop are counted, each once, for the pod and the policies that it is due
to: sent for real, read from the controller's metrics.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from in_effect import expect_settled
from places import Place, PodPlace, wait_for
from prometheus_client.parser import text_string_to_metric_families
from sandbox_lab import NAMESPACE, Lab
from sandbox_runs import introduce, sandbox

from ovsnet.sandbox.layout import INSTANCE_VARIABLE

POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
COMMAND = (sys.executable, "-c", "from ovsnet.cli.main import main; main()")
PODS = {"web": ("node1", "web"), "db": ("node1", "db"), "far": ("node2", "far")}
OPEN_PORT, SHUT_PORT = 80, 81
Samples = dict[tuple[str, str, str], float]


def policy(name: str, app: str, *directions: str, **rules: Any) -> dict[str, Any]:
    """A policy for the pods of an app; `rules` are its ingress and egress."""
    return {
        "metadata": {"name": name},
        "spec": {
            "podSelector": {"matchLabels": {"app": app}},
            "policyTypes": list(directions),
            **rules,
        },
    }


QUIET = policy("quiet", "web", "Egress")
SHUT = policy("shut", "db", "Ingress")
OPEN = policy(
    "open",
    "db",
    "Ingress",
    ingress=[{"ports": [{"protocol": "UDP", "port": OPEN_PORT}]}],
)


def post_pod(lab: Lab, name: str) -> None:
    node, app = PODS[name]
    lab.post_pod(name, node, labels={"app": app})


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A sandbox whose controller asks for the counters every second."""
    with sandbox("policydrop", "a", 2, "--counters", "1") as made:
        for name in PODS:
            post_pod(made, name)
        introduce(made.running([*PODS]).values())
        yield made


@pytest.fixture
def pods(lab: Lab) -> Iterator[dict[str, PodPlace]]:
    """The pods, without policies before and after the test."""
    yield lab.running([*PODS])
    for item in lab.api("GET", POLICIES)["items"]:
        lab.api("DELETE", f"{POLICIES}/{item['metadata']['name']}")
    expect_settled(lab)


def enforce(lab: Lab, *policies: dict[str, Any]) -> None:
    for each in policies:
        lab.api("POST", POLICIES, each)
    expect_settled(lab)


def samples(lab: Lab) -> Samples:
    """The drops by pod, policy and direction."""
    text = lab._ask_controller("/metrics").decode()
    return {
        (sample.labels["pod"], sample.labels["policy"], sample.labels["direction"]): sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "ovsnet_policy_drops"
        for sample in family.samples
    }


def expect(lab: Lab, wanted: Samples) -> None:
    wait_for(
        lambda: samples(lab) == wanted,
        lambda: f"the drops {wanted}: there are {samples(lab)}",
    )


def send(source: Place, target: Place, count: int, version: int = 4, port: int = SHUT_PORT) -> None:
    """Datagrams, each of a connection of its own, which nobody repeats."""

    def work() -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        for _ in range(count):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"forbidden", (target.address(version), port))

    source.within(work)


def echo(source: Place, target: Place) -> bytes:
    """The answer of a responder to a datagram."""

    def work() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(b"allowed", (target.address(4), OPEN_PORT))
            return sock.recv(100)

    return source.within(work)


def test_every_dropped_packet_counts_once_for_each_policy_that_isolates_the_pod(
    lab: Lab, pods: dict[str, PodPlace]
) -> None:
    enforce(lab, QUIET, SHUT, OPEN)
    nothing = {
        ("web", f"{NAMESPACE}/quiet", "egress"): 0.0,
        ("db", f"{NAMESPACE}/shut", "ingress"): 0.0,
        ("db", f"{NAMESPACE}/open", "ingress"): 0.0,
    }
    expect(lab, nothing)
    # What web sends is dropped before it comes to db's policies.
    send(pods["web"], pods["db"], 20)
    send(pods["web"], pods["far"], 5, version=6)
    send(pods["far"], pods["db"], 30)
    send(pods["far"], pods["db"], 3, version=6)
    # What is allowed counts for nobody.
    assert echo(pods["far"], pods["db"]) == b"db allowed"
    assert echo(pods["db"], pods["far"]) == b"far allowed"
    of_web, of_db = 25.0, 33.0
    expect(lab, dict(zip(nothing, (of_web, of_db, of_db), strict=True)))
    # Had anything been counted twice by now, this would never be met.
    send(pods["far"], pods["db"], 7)
    expect(lab, dict(zip(nothing, (of_web, of_db + 7, of_db + 7), strict=True)))
    drops = lab.status()["drops"]
    assert [(d["pod"], d["node"], d["direction"], d["packets"]) for d in drops] == [
        (f"{NAMESPACE}/db", "node1", "ingress", 40),
        (f"{NAMESPACE}/web", "node1", "egress", 25),
    ]
    assert drops[0]["policies"] == [f"{NAMESPACE}/open", f"{NAMESPACE}/shut"]
    done = subprocess.run(
        [*COMMAND, "status", "--drops"],
        env={**os.environ, INSTANCE_VARIABLE: lab.instance},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [f"{NAMESPACE}/db", "node1", "ingress", "40", *drops[0]["policies"]] in rows


def test_samples_go_with_policies_labels_and_pods(lab: Lab, pods: dict[str, PodPlace]) -> None:
    enforce(lab, SHUT, OPEN)
    send(pods["far"], pods["db"], 4)
    shut = ("db", f"{NAMESPACE}/shut", "ingress")
    expect(lab, {shut: 4.0, ("db", f"{NAMESPACE}/open", "ingress"): 4.0})
    lab.api("DELETE", f"{POLICIES}/open")
    expect(lab, {shut: 4.0})

    at = f"/api/v1/namespaces/{NAMESPACE}/pods/db"
    lab.api("PATCH", at, {"metadata": {"labels": {"app": "nothing"}}}, "merge")
    expect(lab, {})
    lab.api("PATCH", at, {"metadata": {"labels": {"app": "db"}}}, "merge")
    expect(lab, {shut: 0.0})

    send(pods["far"], pods["db"], 2)
    expect(lab, {shut: 2.0})
    lab.delete_pods(["db"])
    expect(lab, {})
    post_pod(lab, "db")
    again = lab.running(["db"])["db"]
    expect(lab, {shut: 0.0})
    send(pods["far"], again, 3)
    expect(lab, {shut: 3.0})


def test_a_switch_that_is_restarted_begins_anew_and_a_controller_goes_on(
    lab: Lab, pods: dict[str, PodPlace]
) -> None:
    enforce(lab, QUIET)
    quiet = ("web", f"{NAMESPACE}/quiet", "egress")
    send(pods["web"], pods["db"], 9)
    expect(lab, {quiet: 9.0})

    with lab.stopped("controller"):
        send(pods["web"], pods["db"], 3)
    lab.wait_until_steady()
    expect(lab, {quiet: 12.0})

    since = lab.log_size("controller")
    with lab.stopped("ovs-vswitchd-node1"):
        pass
    lab.wait_for_log("controller", "switch admitted.* node=node1", since)
    lab.wait_until_steady()
    expect_settled(lab)
    expect(lab, {quiet: 0.0})
    send(pods["web"], pods["db"], 4)
    expect(lab, {quiet: 4.0})
