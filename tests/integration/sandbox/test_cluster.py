"""A whole sandbox of two nodes: its commands, its network, and what happens when parts end."""

from __future__ import annotations

import json
import shutil
import subprocess
from ipaddress import ip_network
from typing import Any

import pytest

from ovsnet.names import GATEWAY_PORT
from ovsnet.sandbox import plan
from ovsnet.sandbox.layout import FABRIC
from ovsnet.sandbox.node import kernel_datapath
from tests.integration.sandbox.conftest import Sandbox

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "spec": {"containers": [{"name": "m", "image": "x", "ports": [{"containerPort": 80}]}]},
}


@pytest.fixture(scope="module")
def cluster(sandbox: Sandbox) -> Sandbox:
    sandbox.run("up", "--nodes", "2")
    return sandbox


def create(cluster: Sandbox, name: str, node: str, **spec: Any) -> None:
    pod = {**POD, "metadata": {"name": name}, "spec": {**POD["spec"], "nodeName": node, **spec}}
    path = cluster.layout.root / f"{name}.json"
    path.write_text(json.dumps(pod))
    cluster.run("kubectl", "apply", "-f", str(path))


def running(cluster: Sandbox, name: str) -> list[str]:
    def addresses() -> list[str]:
        pod = cluster.kubectl("get", "pod", name)
        ready = pod.get("status", {}).get("phase") == "Running"
        return [entry["ip"] for entry in pod["status"]["podIPs"]] if ready else []

    return cluster.until(addresses)


@pytest.fixture(scope="module")
def pods(cluster: Sandbox) -> dict[str, list[str]]:
    create(cluster, "one", "node1")
    create(cluster, "two", "node2")
    create(cluster, "host", "node2", hostNetwork=True)
    return {name: running(cluster, name) for name in ("one", "two", "host")}


def ask(cluster: Sandbox, pod: str, url: str) -> str:
    program = (
        "import sys, urllib.request;"
        "print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    )
    return cluster.run("exec", f"default/{pod}", "--", "python3", "-c", program, url).strip()


def url(address: str, path: str) -> str:
    return f"http://[{address}]/{path}" if ":" in address else f"http://{address}/{path}"


def test_status_for_programs(cluster: Sandbox, pods: dict[str, list[str]]) -> None:
    found = json.loads(cluster.run("status", "--json"))
    assert found["healthy"]
    assert [node["name"] for node in found["nodes"]] == ["node1", "node2"]
    assert all(node["ready"] and len(node["pod_cidrs"]) == 2 for node in found["nodes"])
    assert {p["name"]: p["addresses"] for p in found["pods"]} == pods
    assert all(each["alive"] for each in found["processes"])


def test_status_for_people(cluster: Sandbox, pods: dict[str, list[str]]) -> None:
    text = cluster.run("status")
    assert "11 of 11 processes run" in text
    for name, (ipv4, *_) in pods.items():
        assert name in text
        assert ipv4 in text


@pytest.mark.parametrize("number", [0, 1])
def test_external_addresses_lead_through_a_node_into_its_switch(
    cluster: Sandbox, number: int
) -> None:
    address = str(ip_network(plan.EXTERNAL_CIDRS[number])[9])
    hosts = plan.plan(2)
    node, source = ((host.ipv4, host.ipv6)[number] for host in (hosts.nodes[0], hosts.outside))
    fabric = cluster.layout.netns(FABRIC).name
    route = ("ip", "route", "get", address)
    done = subprocess.run(
        ["ip", "netns", "exec", fabric, *route], capture_output=True, text=True, check=True
    )
    assert f"via {node} " in done.stdout
    device = plan.UPLINK if kernel_datapath() else plan.UNDERLAY_BRIDGE
    coming = (*route, "from", str(source), "iif", device)
    for name in ("node1", "node2"):
        assert f"dev {GATEWAY_PORT}" in cluster.run("node-exec", name, "--", *coming)


def test_a_second_up_says_that_one_is_running(cluster: Sandbox) -> None:
    assert "has been running since" in cluster.run("up", status=1)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")
def test_kubectl_and_kubeconfig(cluster: Sandbox) -> None:
    assert cluster.run("kubeconfig").strip() == str(cluster.layout.kubeconfig)
    names = [item["metadata"]["name"] for item in cluster.kubectl("get", "nodes")["items"]]
    assert names == ["node1", "node2"]
    assert "not found" in cluster.run("kubectl", "get", "pod", "nobody", status=1)


def test_pods_of_two_nodes_reach_each_other(cluster: Sandbox, pods: dict[str, list[str]]) -> None:
    for source, target in (("one", "two"), ("two", "one")):
        for mine, theirs in zip(pods[source], pods[target], strict=True):
            assert ask(cluster, source, url(theirs, "hostname")) == target
            assert mine in ask(cluster, source, url(theirs, "clientip"))


def test_what_leaves_the_cluster_bears_the_nodes_address(
    cluster: Sandbox, pods: dict[str, list[str]]
) -> None:
    state = json.loads(cluster.layout.state.read_text())
    node = next(n for n in state["nodes"] if n["name"] == "node1")
    for address, seen in zip(state["outside"]["addresses"], node["addresses"], strict=True):
        assert seen in ask(cluster, "one", url(address, "clientip"))


def test_commands_run_where_they_should_and_return_their_status(
    cluster: Sandbox, pods: dict[str, list[str]]
) -> None:
    assert pods["one"][0] in cluster.run("exec", "default/one", "--", "ip", "address")
    assert pods["host"][0] in cluster.run("exec", "default/host", "--", "ip", "address")
    cluster.run("exec", "default/one", "--", "sh", "-c", "exit 7", status=7)
    cluster.run("node-exec", "node1", "--", "sh", "-c", "exit 8", status=8)
    assert "not found" in cluster.run("exec", "default/one", "--", "no-such-command", status=127)
    cluster.run("exec", "default/one", "--", "/etc/passwd", status=126)
    assert "nobody" in cluster.run("exec", "default/nobody", "--", "true", status=1)


def test_open_vswitchs_commands_reach_the_nodes_own_switch(cluster: Sandbox) -> None:
    dumps = [
        cluster.run(
            "node-exec", node, "--", "ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-int"
        )
        for node in ("node1", "node2")
    ]
    assert all("cookie=" in dump for dump in dumps)
    names = [
        cluster.run("node-exec", node, "ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids")
        for node in ("node1", "node2")
    ]
    assert "node1" in names[0]
    assert "node2" in names[1]


def test_an_agent_that_ends_makes_its_node_unready_until_it_is_back(cluster: Sandbox) -> None:
    cluster.run("process", "kill", "agent-node2")
    cluster.until(lambda: not node(cluster, "node2")["ready"])
    unwell = json.loads(cluster.run("status", "--json", status=1))
    assert [p["name"] for p in unwell["processes"] if not p["alive"]] == ["agent-node2"]
    assert "had ended before" in cluster.run("process", "kill", "agent-node2", status=1)
    cluster.run("process", "start", "agent-node2")
    assert "running already" in cluster.run("process", "start", "agent-node2", status=1)
    cluster.until(lambda: node(cluster, "node2")["ready"])


def node(cluster: Sandbox, name: str) -> Any:
    done = cluster.start("status", "--json")
    output, _ = done.communicate()
    return next(each for each in json.loads(output)["nodes"] if each["name"] == name)


def test_a_switch_that_ends_is_whole_again_when_it_is_started(
    cluster: Sandbox, pods: dict[str, list[str]]
) -> None:
    cluster.run("process", "kill", "ovs-vswitchd-node2")
    cluster.run("process", "start", "ovs-vswitchd-node2")

    def reached() -> bool:
        done = cluster.start(
            "exec", "default/one", "--", "ping", "-c", "1", "-W", "1", pods["two"][0]
        )
        done.communicate()
        return done.returncode == 0

    cluster.until(reached)


def test_a_deleted_pod_leaves_nothing(cluster: Sandbox, pods: dict[str, list[str]]) -> None:
    create(cluster, "brief", "node1")
    running(cluster, "brief")
    ports = cluster.run("node-exec", "node1", "ovs-vsctl", "list-ports", "br-int").split()
    cluster.run("kubectl", "delete", "pod", "brief")
    after = cluster.run("node-exec", "node1", "ovs-vsctl", "list-ports", "br-int").split()
    assert len(set(ports) - set(after)) == 1
    assert "brief" in cluster.run("exec", "default/brief", "--", "true", status=1)


def test_down_leaves_nothing_and_succeeds_twice(cluster: Sandbox) -> None:
    assert "is gone" in cluster.run("down")
    assert cluster.nothing_left()
    assert "no sandbox" in cluster.run("down")
    assert cluster.nothing_left()
