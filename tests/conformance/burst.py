"""How long a burst of pods takes from scheduled to ready: here, and with Debian's bridge plugin."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from tests.conformance.cluster import machine
from tests.conformance.cluster.cluster import Cluster, wait_until
from tests.conformance.cluster.network import not_ready
from tests.conformance.cluster.stock import AGNHOST
from tests.conformance.cluster.workload import Bench, deployment

PODS = 300
DEBIAN_PLUGINS = Path("/usr/lib/cni")
_PLUGINS = ("loopback", "bridge", "host-local", "portmap")


class Burst(msgspec.Struct, frozen=True):
    """Seconds: of each pod from scheduled to ready, and of all from the first to the last."""

    pods: int
    median: float
    p99: float
    longest: float
    altogether: float


def with_bridge(cluster: Cluster) -> None:
    """Give every node Debian's bridge plugin, with addresses of its own range, as its network."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    for node in nodes:
        made = cluster.machine(node["metadata"]["name"])
        ranges = [[{"subnet": cidr}] for cidr in node["spec"]["podCIDRs"]]
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipam": {"type": "host-local", "ranges": ranges},
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        conf = {"cniVersion": "1.0.0", "name": "bridge", "plugins": [bridge, portmap]}
        for name in _PLUGINS:
            machine.write(made, f"/opt/cni/bin/{name}", (DEBIAN_PLUGINS / name).read_bytes())
            machine.run(made, "chmod", "755", f"/opt/cni/bin/{name}")
        path = "/etc/cni/net.d/10-bridge.conflist"
        machine.write(made, path, json.dumps(conf).encode())
    wait_until(cluster, lambda: not not_ready(cluster), "every node to be ready")


def measure(cluster: Cluster, pods: int = PODS) -> Burst:
    """Start so many pods at once, and take them away again."""
    with Bench.made(cluster) as bench:
        container = {
            "name": "main",
            "image": AGNHOST,
            "imagePullPolicy": "IfNotPresent",
            "args": ["pause"],
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        began = time.monotonic()
        bench.apply(deployment("burst", pods, spec))
        bench.kubectl("rollout", "status", "deployment/burst", "--timeout=900s")
        altogether = time.monotonic() - began
        found = json.loads(bench.kubectl("get", "pods", "-l", "app=burst", "--output=json"))
    seconds = sorted(_seconds(each["status"]["conditions"]) for each in found["items"])
    return Burst(
        len(seconds),
        statistics.median(seconds),
        seconds[int(0.99 * (len(seconds) - 1))],
        seconds[-1],
        altogether,
    )


def _seconds(conditions: list[dict[str, str]]) -> float:
    times = {
        each["type"]: datetime.fromisoformat(each["lastTransitionTime"]) for each in conditions
    }
    return (times["Ready"] - times["PodScheduled"]).total_seconds()


def table(results: dict[str, Burst], say: Callable[[str], None]) -> None:
    """Print the figures side by side."""
    say(f"{'network':10} {'pods':>5} {'median':>8} {'p99':>8} {'longest':>8} {'altogether':>11}")
    for network, burst in results.items():
        say(
            f"{network:10} {burst.pods:5} {burst.median:7.1f}s {burst.p99:7.1f}s"
            f" {burst.longest:7.1f}s {burst.altogether:10.1f}s"
        )
