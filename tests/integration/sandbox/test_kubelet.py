"""The kubelet stand-in against the embedded API server, with Debian's CNI plugins."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from ovsnet.sandbox import fabric, netns, plan, process
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.process import Spec

DEBIAN_PLUGINS = Path("/usr/lib/cni")
NODE = "host"
ADDRESS = "127.0.0.1"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        not DEBIAN_PLUGINS.exists(), reason="containernetworking-plugins is missing"
    ),
]

RECORDER = f"""#!{sys.executable} -IS
import json, os, sys
stdin = json.load(sys.stdin)
directory = os.path.dirname(os.path.realpath(__file__))
verb = os.environ["CNI_COMMAND"]
names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")
line = {{"verb": verb, "stdin": stdin, **{{n: os.environ[n] for n in names}}}}
with open(directory + "/record", "a") as record:
    record.write(json.dumps(line) + "\\n")
if os.path.exists(directory + "/fail-" + verb):
    print(json.dumps({{"cniVersion": "1.0.0", "code": 11, "msg": "not now"}}))
    sys.exit(1)
if verb == "ADD":
    print(json.dumps(stdin["prevResult"]))
"""


class Cluster:
    """One node in a namespace: API server and kubelet."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root, f"ovsnet.test{os.getpid()}")
        self.netns = self.layout.netns(NODE)
        self.plugins = root / "bin"
        self.configuration = root / "net.d"
        self.kubeconfig = root / "kubeconfig"

    def start(self) -> None:
        netns.create(self.netns)
        fabric.settle(self.netns, plan.HOST_SETTINGS)
        self.plugins.mkdir(parents=True)
        self.configuration.mkdir()
        for name in ("bridge", "host-local"):
            (self.plugins / name).symlink_to(DEBIAN_PLUGINS / name)
        recorder = self.plugins / "recorder"
        recorder.write_text(RECORDER)
        recorder.chmod(0o755)
        self.python("api", "ovsnet.sandbox.apiserver", [
            "--listen", f"{ADDRESS}:6443", "--kubeconfig-out", str(self.kubeconfig),
        ])  # fmt: skip
        self.until(self.kubeconfig.exists)

    def start_kubelet(self) -> None:
        self.python("kubelet", "ovsnet.sandbox.kubelet", [
            "--node", NODE, "--address", ADDRESS, "--kubeconfig", str(self.kubeconfig),
            "--cni-conf-dir", str(self.configuration), "--cni-bin-dir", str(self.plugins),
            "--state-dir", str(self.layout.root / "kubelet"),
            "--netns-prefix", str(self.layout.netns("pod")),
        ])  # fmt: skip

    def python(self, name: str, module: str, arguments: list[str]) -> None:
        command = (sys.executable, "-m", module, *arguments)
        process.start(self.layout, Spec(name, command, netns=str(self.netns)))

    def kill_kubelet(self) -> None:
        process.end(process.known(self.layout, "kubelet"))

    def configure(self) -> None:
        ranges = [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]]
        ipam = {"type": "host-local", "ranges": ranges, "dataDir": str(self.layout.root / "ipam")}
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
        recorder = {"type": "recorder", "capabilities": {"portMappings": True}}
        conf = {"cniVersion": "1.0.0", "name": "test", "plugins": [bridge, recorder]}
        (self.configuration / "10-test.conflist").write_text(json.dumps(conf))

    def stop(self) -> None:
        process.end_all(self.layout.root)
        for path in self.pod_namespaces():
            netns.delete(path)
        netns.delete(self.netns)
        shutil.rmtree(self.layout.root, ignore_errors=True)

    def pod_namespaces(self) -> list[Path]:
        pods = self.layout.netns("pod")
        return sorted(pods.parent.glob(f"{pods.name}-*"))

    def inside(self, work: Callable[[], Any]) -> Any:
        return netns.within(self.netns, work)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        def ask() -> Any:
            with urllib3.PoolManager() as pool:
                answer = pool.request(method, f"http://{ADDRESS}:6443{path}", json=body)
                return answer.status, answer.json()

        return self.inside(ask)

    def until(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.02)
        return found

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self.layout.logs.glob("*"))

    def create_pod(self, name: str, **spec: Any) -> None:
        ports = [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]
        container = {"name": "main", "image": "any", "ports": ports}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"nodeName": NODE, "containers": [container], **spec},
        }
        status, answer = self.api("POST", "/api/v1/namespaces/default/pods", pod)
        assert status == 201, answer

    def pod(self, name: str) -> Any:
        status, answer = self.api("GET", f"/api/v1/namespaces/default/pods/{name}")
        return answer if status == 200 else None

    def running(self, name: str) -> Any:
        pod = self.pod(name)
        return pod if pod and pod.get("status", {}).get("phase") == "Running" else None

    def delete_pod(self, name: str) -> None:
        self.api("DELETE", f"/api/v1/namespaces/default/pods/{name}")

    def node_ready(self) -> bool:
        _, node = self.api("GET", f"/api/v1/nodes/{NODE}")
        conditions = node.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def http(self, address: str, path: str = "/hostname") -> str:
        def ask() -> str:
            connection = http.client.HTTPConnection(address, 80, timeout=5)
            connection.request("GET", path)
            return connection.getresponse().read().decode()

        return self.inside(ask)

    def udp(self, address: str, payload: bytes) -> bytes:
        def ask() -> bytes:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(5)
                client.connect((address, 53))
                client.send(payload)
                return client.recv(2048)

        return self.inside(ask)

    def record(self) -> list[Any]:
        path = self.plugins / "record"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "sandbox")
    try:
        made.start()
        made.start_kubelet()
        yield made
    finally:
        made.stop()


def addresses(pod: Any) -> list[str]:
    return [entry["ip"] for entry in pod["status"]["podIPs"]]


def test_a_pod_from_first_to_last(cluster: Cluster) -> None:
    cluster.until(lambda: cluster.api("GET", f"/api/v1/nodes/{NODE}")[0] == 200)
    assert not cluster.node_ready()
    cluster.configure()
    cluster.until(cluster.node_ready)

    cluster.create_pod("web")
    pod = cluster.until(lambda: cluster.running("web"))
    for address in addresses(pod):
        assert cluster.http(address) == "web"
        assert cluster.udp(address, b"hello") == b"web hello"
        seen = json.loads(cluster.http(address, "/"))
        assert (seen["pod"], seen["namespace"], seen["node"]) == ("web", "default", NODE)
    assert len(addresses(pod)) == 2

    (add,) = cluster.record()
    container = add["CNI_CONTAINERID"]
    assert len(container) == 64
    assert add["CNI_IFNAME"] == "eth0"
    assert add["CNI_ARGS"] == (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
        f"K8S_POD_INFRA_CONTAINER_ID={container};K8S_POD_UID={pod['metadata']['uid']}"
    )
    assert add["stdin"]["name"] == "test"
    assert add["stdin"]["cniVersion"] == "1.0.0"
    assert [a["address"].split("/")[0] for a in add["stdin"]["prevResult"]["ips"]] == addresses(pod)

    cluster.delete_pod("web")
    cluster.until(lambda: cluster.pod("web") is None)
    assert cluster.pod_namespaces() == []
    deletion = cluster.record()[-1]
    assert (deletion["verb"], deletion["CNI_CONTAINERID"]) == ("DEL", container)
    assert deletion["stdin"]["prevResult"] == add["stdin"]["prevResult"]


def test_a_failed_add_is_undone_reported_and_tried_again(cluster: Cluster) -> None:
    cluster.configure()
    (cluster.plugins / "fail-ADD").touch()
    cluster.create_pod("web")
    cluster.until(lambda: sum(r["verb"] == "ADD" for r in cluster.record()) >= 2)
    tried = cluster.record()
    first, second = [r for r in tried if r["verb"] == "ADD"][:2]
    assert first["CNI_CONTAINERID"] != second["CNI_CONTAINERID"]
    assert any(r["verb"] == "DEL" and r["CNI_NETNS"] == first["CNI_NETNS"] for r in tried)
    _, events = cluster.api("GET", "/api/v1/namespaces/default/events")
    assert any(
        e["reason"] == "FailedCreatePodSandBox" and "not now" in e["message"]
        for e in events["items"]
    )
    (cluster.plugins / "fail-ADD").unlink()
    cluster.until(lambda: cluster.running("web"))
    assert len(cluster.pod_namespaces()) == 1


def test_a_restarted_kubelet_takes_over_and_clears_up(cluster: Cluster) -> None:
    cluster.configure()
    for name in ("stays", "goes"):
        cluster.create_pod(name)
    stays = cluster.until(lambda: cluster.running("stays"))
    cluster.until(lambda: cluster.running("goes"))
    before = [r["CNI_CONTAINERID"] for r in cluster.record() if r["verb"] == "ADD"]

    cluster.kill_kubelet()
    cluster.api("DELETE", "/api/v1/namespaces/default/pods/goes", {"gracePeriodSeconds": 0})
    cluster.start_kubelet()
    cluster.until(lambda: len(cluster.pod_namespaces()) == 1)
    address = addresses(stays)[0]

    def answers() -> bool:
        try:
            return cluster.http(address) == "stays"
        except OSError:
            return False

    cluster.until(answers)
    assert [r["CNI_CONTAINERID"] for r in cluster.record() if r["verb"] == "ADD"] == before
    assert addresses(cluster.running("stays")) == addresses(stays)


def test_what_an_interrupted_kubelet_left_is_removed(cluster: Cluster) -> None:
    slow = cluster.plugins / "recorder"
    slow.write_text(
        RECORDER.replace('if verb == "ADD":', 'import time; time.sleep(2)\nif verb == "ADD":')
    )
    cluster.configure()
    cluster.create_pod("web")
    cluster.until(lambda: [r for r in cluster.record() if r["verb"] == "ADD"])
    cluster.kill_kubelet()
    (left,) = cluster.pod_namespaces()
    slow.write_text(RECORDER)
    cluster.start_kubelet()
    cluster.until(lambda: cluster.running("web"))
    (current,) = cluster.pod_namespaces()
    assert current != left
    assert any(r["verb"] == "DEL" and r["CNI_NETNS"] == str(left) for r in cluster.record())


def test_a_pod_with_the_hosts_network(cluster: Cluster) -> None:
    cluster.configure()
    cluster.create_pod("agent", hostNetwork=True)
    pod = cluster.until(lambda: cluster.running("agent"))
    assert addresses(pod) == [ADDRESS]
    assert cluster.http(ADDRESS) == "agent"
    # The reply must come from the address that was asked, whichever of the node's it is.
    assert cluster.udp("127.0.0.9", b"x") == b"agent x"
    assert cluster.record() == []
    cluster.delete_pod("agent")
    cluster.until(lambda: cluster.pod("agent") is None)
