"""The real controller killed at every step of an ADD, and as many pods as a node may have.

A sandbox of one node whose kubelet stand-in is stopped; the tests execute the plugin in its place.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ovsnet.names import BRIDGE, RESERVED_PORTS
from ovsnet.sandbox import cluster, netns, process, teardown
from ovsnet.sandbox.layout import Layout, layout
from ovsnet.sandbox.node import ovs_environment
from ovsnet.sandbox.process import Spec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

NODE = "node1"
AGENT = f"agent-{NODE}"
PODS_OF_A_FULL_NODE = 110
"""What kubelet allows by default."""

AGENT_THAT_KILLS = """
import sys
from pathlib import Path
from ovsnet import logs
from ovsnet.cni import agent, config
from ovsnet.sandbox import process
from ovsnet.sandbox.layout import layout

root = layout({instance!r})
order = root.root / "kill-at"

def checkpoint(step):
    if order.exists() and order.read_text() == step:
        order.unlink()
        process.end(process.known(root, "controller"))

logs.configure(sys.stderr)
agent.run(config.load(Path({file!r})), checkpoint)
"""


@dataclass(frozen=True)
class Pod:
    """A pod of the API, and its network namespace."""

    namespace: str
    name: str
    uid: str
    netns: Path
    container: str


@dataclass
class Node:
    """The sandbox."""

    layout: Layout
    instance: str
    api: str = ""

    def start(self) -> None:
        self.api = cluster.up(self.layout, 1, lambda _: None).apiserver.url
        process.end(process.known(self.layout, f"kubelet-{NODE}"))
        process.end(process.known(self.layout, AGENT), signal.SIGTERM)
        file = self.layout.node(NODE).agent / "agent.toml"
        file.write_text(file.read_text() + "deadline = 3.0\n")
        code = AGENT_THAT_KILLS.format(instance=self.instance, file=str(file))
        command = (sys.executable, "-c", code)
        process.start(self.layout, Spec(AGENT, command, str(self.layout.netns(NODE))))
        self.wait(lambda: self.call("STATUS")[0] == 0, "the agent to be ready")

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 30
        while not ready():
            assert time.monotonic() < end, f"waited in vain for {what}"
            time.sleep(0.05)

    def kill_controller_at(self, step: str) -> None:
        (self.layout.root / "kill-at").write_text(step)

    def controller_runs(self) -> bool:
        return process.alive(process.known(self.layout, "controller"))

    def restart_controller(self) -> None:
        cluster.start_process(self.layout, "controller")

    def request(self, method: str, path: str, body: Any) -> Any:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        question = urllib.request.Request(self.api + path, data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(question, timeout=10) as answer:
            return json.load(answer)

    @contextmanager
    def pod(self, name: str, namespace: str = "default") -> Iterator[Pod]:
        pods = f"/api/v1/namespaces/{namespace}/pods"
        spec = {"nodeName": NODE, "containers": [{"name": "main", "image": "any"}]}
        value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        uid = self.request("POST", pods, value)["metadata"]["uid"]
        container = secrets.token_hex(32)
        path = self.layout.netns(f"pod-{container[:12]}")
        netns.create(path)
        try:
            yield Pod(namespace, name, uid, path, container)
        finally:
            netns.delete(path)
            self.request("DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})

    def call(self, verb: str, pod: Pod | None = None) -> tuple[int, Any]:
        """Exit status and output of one execution of the plugin."""
        variables = {"CNI_COMMAND": verb}
        if pod is not None:
            variables |= {
                "CNI_CONTAINERID": pod.container,
                "CNI_NETNS": str(pod.netns),
                "CNI_IFNAME": "eth0",
                "CNI_ARGS": f"K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name};"
                f"K8S_POD_UID={pod.uid}",
            }
        done = subprocess.run(
            [self.layout.node(NODE).cni_plugins / "ovsnet"],
            env=variables,
            input=b'{"cniVersion":"1.1.0","name":"ovsnet","type":"ovsnet"}',
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}

    def run(self, path: Path, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | ovs_environment(self.layout.node(NODE).ovs)
        return subprocess.run(
            ["nsenter", f"--net={path}", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def works(self, pod: Pod, result: Any) -> bool:
        """The node and the pod reach each other in both families."""
        addresses = [ip["address"].split("/")[0] for ip in result["ips"]]
        there = [self.run(self.layout.netns(NODE), "ping", "-c1", "-W2", a) for a in addresses]
        back = [self.run(pod.netns, "ping", "-c1", "-W2", ip["gateway"]) for ip in result["ips"]]
        return all(done.returncode == 0 for done in (*there, *back))

    def ports(self) -> set[str]:
        listed = self.run(self.layout.netns(NODE), "ovs-vsctl", "list-ports", BRIDGE).stdout
        return set(listed.split()) - RESERVED_PORTS

    def left(self) -> list[object]:
        """Ports, records and addresses that are in use."""
        with closing(sqlite3.connect(self.layout.node(NODE).agent / "agent.db")) as db:
            records = db.execute("SELECT container_id, state FROM attachment").fetchall()
            held = db.execute("SELECT * FROM address WHERE free_at IS NULL").fetchall()
        return [*self.ports(), *records, *held]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    instance = f"ctl{os.getpid()}"
    made = Node(layout(instance), instance)
    try:
        made.start()
        yield made
    finally:
        teardown.down(made.layout)


@pytest.mark.parametrize(
    ("step", "refused"),
    [
        ("begun", True),
        ("addressed", True),
        ("linked", True),
        ("plugged", None),
        ("configured", None),
        ("answered", False),
    ],
)
def test_the_controller_killed_in_an_add(node: Node, step: str, refused: bool | None) -> None:
    """Before the port is there the ADD must fail; then it is a race; later it must succeed."""
    with node.pod(f"pod-{step}") as pod:
        node.kill_controller_at(step)
        status, answer = node.call("ADD", pod)
        try:
            assert not node.controller_runs()
            assert refused is None or (status != 0) == refused, answer
            if status:
                assert answer["code"] == 11
                assert pod.name in answer["msg"]
                # At once: housekeeping would take it away too, but some seconds later.
                assert node.left() == []
            else:
                # Admitted is admitted, with or without a controller.
                assert node.works(pod, answer)
        finally:
            node.restart_controller()
        node.wait(lambda: node.call("ADD", pod)[0] == 0, "a repeated ADD to succeed")
        _, result = node.call("ADD", pod)
        assert node.works(pod, result)
        assert node.call("CHECK", pod) == (0, {})
        assert len(node.ports()) == 1
        assert node.call("DEL", pod)[0] == 0
    node.wait(lambda: not node.left(), "nothing to be left")


def test_a_pod_with_the_longest_names(node: Node) -> None:
    """63 characters of namespace, 253 of name (RFC 1123)."""
    namespace = "n" * 63
    value = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    node.request("POST", "/api/v1/namespaces", value)
    name = ".".join(["p" * 62] * 4) + "q"
    assert len(name) == 252
    with node.pod(name + "r", namespace) as pod:
        status, result = node.call("ADD", pod)
        assert status == 0, result
        assert node.works(pod, result)
        assert node.call("DEL", pod)[0] == 0
    node.wait(lambda: not node.left(), "nothing to be left")


def test_a_full_node(node: Node) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        names = [f"full-{number}" for number in range(PODS_OF_A_FULL_NODE)]
        pods = [stack.enter_context(node.pod(name)) for name in names]
        answers = list(pool.map(lambda pod: node.call("ADD", pod), pods))
        assert [answer for status, answer in answers if status] == []
        results = [result for _, result in answers]
        addresses = {ip["address"] for result in results for ip in result["ips"]}
        assert len(addresses) == 2 * PODS_OF_A_FULL_NODE
        assert len(node.ports()) == PODS_OF_A_FULL_NODE
        for index in (0, PODS_OF_A_FULL_NODE // 2, -1):
            assert node.works(pods[index], results[index])
        deleted = list(pool.map(lambda pod: node.call("DEL", pod)[0], pods))
        assert set(deleted) == {0}
    node.wait(lambda: not node.left(), "nothing to be left")
