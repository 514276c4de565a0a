"""Host ports of pods, by the plugin portmap behind ours: from everywhere, with the caller's address
where nobody hides it, and inside the policies.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place, PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from test_reachability import ask, client_of

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
HOST_PORT = 8080
PORTMAP = Path("/usr/lib/cni/portmap")

FAMILIES = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def called(whole: Lab) -> PodPlace:
    """A pod of node1 with a host port."""
    paths = whole.layout.node("node1")
    if not (paths.cni_plugins / "portmap").exists():
        shutil.copy(PORTMAP, paths.cni_plugins)
    wait_for(
        lambda: any("portmap" in f.read_text() for f in paths.cni_configuration.glob("*.conflist")),
        "the agent to chain portmap",
    )
    port = {"containerPort": 80, "hostPort": HOST_PORT, "protocol": "TCP"}
    container = {"name": "main", "image": "none", "ports": [port]}
    whole.api(
        "POST",
        PODS,
        {
            "metadata": {"name": "called", "labels": {"app": "called"}},
            "spec": {
                "nodeName": "node1",
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
            },
        },
    )
    return whole.running(["called"])["called"]


@pytest.fixture
def isolated(whole: Lab) -> Iterator[None]:
    """Nobody but the pod `friend` may call it."""
    friend = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}
    policy = {
        "metadata": {"name": "friends-only"},
        "spec": {"podSelector": {"matchLabels": {"app": "called"}}, "ingress": [friend]},
    }
    whole.api("POST", POLICIES, policy)
    yield
    whole.api("DELETE", f"{POLICIES}/friends-only")


def expect(caller: Place, node: Place, version: int, seen_as: str) -> None:
    address = node.address(version)
    assert ask(caller, address, "/hostname", HOST_PORT)[0] == b"called"
    assert client_of(ask(caller, address, "/clientip", HOST_PORT)[0]) == seen_as


@FAMILIES
def test_from_nodes_and_from_outside(whole: Lab, called: PodPlace, version: int) -> None:
    node1 = whole.underlay("node1")
    for caller in (node1, whole.underlay("node2"), whole.outside, whole.control):
        expect(caller, node1, version, caller.address(version))


@FAMILIES
def test_from_a_pod_of_another_node_with_that_nodes_address(
    whole: Lab, called: PodPlace, version: int
) -> None:
    far = whole.pods([("far", "node2")])["far"]
    expect(far, whole.underlay("node1"), version, whole.underlay("node2").address(version))


@FAMILIES
def test_from_a_pod_of_the_same_node_with_its_own_address(
    whole: Lab, called: PodPlace, version: int
) -> None:
    near = whole.pods([("near", "node1")])["near"]
    expect(near, whole.underlay("node1"), version, near.address(version))
    # They speak to each other without the host port as before.
    assert client_of(ask(near, called.address(version), "/clientip")[0]) == near.address(version)


@FAMILIES
def test_from_the_pod_itself(whole: Lab, called: PodPlace, version: int) -> None:
    answer = ask(called, whole.underlay("node1").address(version), "/hostname", HOST_PORT)
    assert answer[0] == b"called"


def test_policies_see_who_calls_on_the_same_node(
    whole: Lab, called: PodPlace, isolated: None
) -> None:
    for name in ("friend", "stranger"):
        whole.post_pod(name, "node1", labels={"app": name})
    callers = whole.running(["friend", "stranger"])
    node1 = whole.underlay("node1")
    whole.wait_until_steady()
    for version in (4, 6):
        expect(callers["friend"], node1, version, callers["friend"].address(version))
        with pytest.raises(TimeoutError):
            ask(callers["stranger"], node1.address(version), "/hostname", HOST_PORT)
