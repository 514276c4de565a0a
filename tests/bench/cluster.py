"""The whole network on one node: from a pod's port to its flows, and a burst of pods.

The real controller, agent and plugin run in a sandbox of their own. Its kubelet stand-in is
stopped: this executes the plugin itself, as many at once as a burst has.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from ovsnet.sandbox.openvswitch import network_namespace
from tests.bench.figures import Figure, figure, show, write
from tests.bench.ports import port_seconds

BURST = 200
AT_ONCE = 32
_INSTANCE = "benchcluster"
_NAMESPACE = "default"


def figures(rounds: int) -> list[Figure]:
    """Time from a port to its flows, and of a burst."""
    served = [s.seconds * 1000 for s in port_seconds(rounds * 100)]
    bursts, adds = _bursts(rounds)
    return [
        figure("pod's port to its flows acknowledged", "ms", served),
        figure(f"burst of {BURST} pods, first exec to all reachable", "s", bursts),
        figure(f"ADD within the burst, {AT_ONCE} at once", "ms", adds),
    ]


def _bursts(rounds: int) -> tuple[list[float], list[float]]:
    bursts: list[float] = []
    adds: list[float] = []
    with _sandbox() as (state, kubectl):
        for number in range(rounds):
            names = [f"burst-{number}-{i}" for i in range(BURST)]
            objects = _create(kubectl, names)
            with contextlib.ExitStack() as stack:
                for name in names:
                    stack.enter_context(network_namespace(f"obb-{name}"))
                took, seconds = _burst(state, objects)
                _delete(state, objects)
            bursts.append(seconds)
            adds += took
            subprocess.run(
                [*kubectl, "delete", "pods", "--all", "--force", "--grace-period=0"],
                check=True, capture_output=True,
            )  # fmt: skip
    return bursts, adds


@contextlib.contextmanager
def _sandbox() -> Iterator[tuple[dict[str, Any], list[str]]]:
    """A sandbox of one node whose kubelet stand-in is stopped."""
    environment = os.environ | {"OVSNET_SANDBOX": _INSTANCE}
    ovsnet = [str(Path(sys.executable).parent / "ovsnet")]

    def run(*words: str) -> None:
        subprocess.run([*ovsnet, *words], env=environment, check=True, capture_output=True)

    run("sandbox", "up", "--nodes", "1")
    try:
        run("sandbox", "process", "kill", "kubelet-node1")
        state = json.loads(Path(f"/run/ovsnet/{_INSTANCE}/state.json").read_text())
        yield state, ["kubectl", f"--kubeconfig={state['kubeconfig']}", "-n", _NAMESPACE]
    finally:
        run("sandbox", "down")


def _create(kubectl: list[str], names: list[str]) -> list[dict[str, Any]]:
    """Pods that are scheduled to the node, as the API server has them."""
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"nodeName": "node1", "containers": [{"name": "web", "image": "web"}]},
        }
        for name in names
    ]
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    subprocess.run([*kubectl, "create", "-f", "-"], input=given.encode(), check=True,
                   capture_output=True)  # fmt: skip
    done = subprocess.run(
        [*kubectl, "get", "pods", "-o", "json"], check=True, capture_output=True, text=True
    )
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items


def _burst(state: dict[str, Any], pods: list[dict[str, Any]]) -> tuple[list[float], float]:
    """Milliseconds of every ADD, and seconds until the last pod answered a ping of the node."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(lambda pod: _execute(state, "ADD", pod), pods))
        addresses = [result["ips"][0]["address"].split("/")[0] for _, result in done]
        list(pool.map(lambda address: _ping(state, address), addresses))
    return [took for took, _ in done], time.perf_counter() - begun


def _delete(state: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda pod: _execute(state, "DEL", pod), pods))


def _execute(state: dict[str, Any], verb: str, pod: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    node = Path(state["nodes"][0]["ovs_rundir"]).parent
    metadata = pod["metadata"]
    container = metadata["uid"].replace("-", "") * 2
    environment = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": f"/run/netns/obb-{metadata['name']}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(node / "cni" / "bin"),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={metadata['namespace']};"
        f"K8S_POD_NAME={metadata['name']};K8S_POD_INFRA_CONTAINER_ID={container};"
        f"K8S_POD_UID={metadata['uid']}",
    }
    conf = json.loads((node / "cni" / "net.d" / "10-ovsnet.conflist").read_text())
    given = conf["plugins"][0] | {"name": conf["name"], "cniVersion": conf["cniVersion"]}
    begun = time.perf_counter()
    done = subprocess.run(
        [node / "cni" / "bin" / "ovsnet"],
        env=environment, input=json.dumps(given), capture_output=True, text=True, check=False,
    )  # fmt: skip
    took = (time.perf_counter() - begun) * 1000
    assert done.returncode == 0, done.stdout
    return took, json.loads(done.stdout or "{}")


def _ping(state: dict[str, Any], address: str) -> None:
    netns = state["nodes"][0]["netns"]
    subprocess.run(
        ["nsenter", f"--net={netns}", "ping", "-c", "1", "-W", "5", address],
        check=True, capture_output=True,
    )  # fmt: skip


if __name__ == "__main__":
    found = figures(rounds=1)
    show(found, Console())
    write(found, Path("build/bench/cluster.json"))
