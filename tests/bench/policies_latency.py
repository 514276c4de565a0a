"""How soon a change of policy, or of a pod's label, is in effect on all nodes of a sandbox.

A pod sends to one pod on each of three nodes, all the time. What is measured begins before the
write to the API server is sent: until every node's switch has acknowledged the new flows, until all
have settled (nothing cached before is used any more), and until the first packet that fares as it
must, for allowing and for forbidding.

Pods beyond `REAL_PODS` are objects of the API server alone, on nodes that have no switch: policies
know them by the addresses that kubelet would report.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from places import PodPlace, wait_for
from sandbox_lab import Lab
from sandbox_runs import introduce

from tests.bench.figures import Figure, figure, show, write
from tests.bench.probes import PORT, Probes, knock

NODES = 3
SIZES = (10, 100, 1_000)
REAL_PODS = 100
CACHED = 15_000
_CHANGES_A_ROUND = 4
_PODS_OF_A_RANGE = 250
_NAMESPACE = "latency"
_PODS = f"/api/v1/namespaces/{_NAMESPACE}/pods"
_POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{_NAMESPACE}/networkpolicies"
_REVISION = re.compile(
    r'time=(\S+) .* event="flows (acknowledged|in effect)" node=(\S+) revision=(\d+)'
)
_ALL_ARRIVED = 0.1


class Took(NamedTuple):
    """Milliseconds from a write to what came of it, on all nodes."""

    acknowledged: float
    settled: float
    probe: float


def figures(rounds: int) -> list[Figure]:
    """All rows: by number of pods, and of cached flows."""
    rows: list[Figure] = []
    with _bench() as bench:
        for size in SIZES:
            bench.grow(size)
            rows += bench.rows(rounds, f"{size:,} pods")
            if size == REAL_PODS:
                bench.fill_caches()
                rows += bench.rows(rounds, f"{size:,} pods, {CACHED:,} cached flows")
                bench.empty_caches()
    return rows


@contextlib.contextmanager
def _bench() -> Iterator[_Bench]:
    lab = Lab(f"benchpol{os.getpid()}")
    try:
        lab.up(NODES)
        lab.api("POST", "/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
        yield _Bench(lab)
    finally:
        lab.down()


class _Bench:
    """The sandbox, its pods, and what is changed in it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._admitting = False
        self._full = False
        names = [f"{role}-{node}" for role in ("server", "filler") for node in lab.nodes]
        for name in names:
            self._post(name, name.partition("-")[2], role=name.partition("-")[0])
        self._post("client", lab.nodes[0], access="yes")
        places = lab.running(["client", *names], _NAMESPACE)
        self.client = places["client"]
        self.servers = [places[f"server-{node}"] for node in lab.nodes]
        self._fillers = [places[f"filler-{node}"] for node in lab.nodes]
        self._size = len(places)
        introduce([self.client, *self.servers])
        # Its one rule has the switches look at ports.
        rule = {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": _ports(9)}
        self._write_policy("isolation", rule)

    def grow(self, size: int) -> None:
        """Have so many pods: more peers of the policy that comes and goes."""
        nodes = self._lab.nodes
        real = [f"peer-{k}" for k in range(self._size, min(size, REAL_PODS))]
        for number, name in enumerate(real):
            self._post(name, nodes[number % len(nodes)], access="yes")
        self._lab.running(real, _NAMESPACE, 120)
        self._imagine(range(max(self._size, REAL_PODS), size))
        self._size = max(self._size, size)

    def rows(self, rounds: int, size: str) -> Iterator[Figure]:
        """The rows of both kinds of change."""
        kinds: dict[str, Callable[[bool], None]] = {"policy": self._policy, "label": self._label}
        for kind, change in kinds.items():
            self._lab.api("PATCH", f"{_PODS}/client", _labels("yes"), "merge")
            self._policy(kind == "label")
            change(False)
            time.sleep(1)
            took: dict[bool, list[Took]] = {True: [], False: []}
            with Probes(self.client, self.servers) as probes:
                # Caches are thrown away with every change, and filling them takes seconds.
                changes = 1 if self._full else _CHANGES_A_ROUND
                for number in range(2 * changes * rounds):
                    allowed = number % 2 == 0
                    if self._full:
                        self.fill_caches()
                    took[allowed].append(self._measure(probes, change, allowed))
            self._policy(False)
            both = [*took[True], *took[False]]
            yield from (
                figure(f"{kind} to {what}, {size}", "ms", values)
                for what, values in {
                    "acknowledged": [each.acknowledged for each in both],
                    "settled": [each.settled for each in both],
                    "first packet that passes": [each.probe for each in took[True]],
                    "first packet that is dropped": [each.probe for each in took[False]],
                }.items()
            )

    def fill_caches(self) -> None:
        """Have every node's switch cache thousands of flows, until the next change."""
        self._full = True
        for node, filler, server in zip(self._lab.nodes, self._fillers, self.servers, strict=True):
            self._set_idle(node, "set", "Open_vSwitch", ".", "other_config:max-idle=600000")
            self._lab.ovs(node, "ovs-appctl", "upcall/set-flow-limit", "100000")

            def filled(node: str = node, filler: PodPlace = filler, to: PodPlace = server) -> bool:
                knock(filler, to, CACHED)
                return self._cached(node) >= CACHED

            wait_for(filled, lambda node=node: f"{node} to cache flows: {self._cached(node)}", 60)

    def empty_caches(self) -> None:
        """Let them go again."""
        self._full = False
        for node in self._lab.nodes:
            self._set_idle(node, "remove", "Open_vSwitch", ".", "other_config", "max-idle")

    def _set_idle(self, node: str, *words: str) -> None:
        self._lab.ovs(node, "ovs-vsctl", *words)

    def _cached(self, node: str) -> int:
        found = re.search(r"current (\d+)", self._lab.ovs(node, "ovs-appctl", "upcall/show"))
        assert found is not None
        return int(found[1])

    def _measure(self, probes: Probes, change: Callable[[bool], None], allowed: bool) -> Took:
        log_begin = self._lab.log_size("controller")
        begun = time.time()
        change(allowed)

        def moments() -> tuple[float, float] | None:
            found = _moments(self._lab.log("controller", log_begin))
            right = probes.now_right(allowed=allowed, within=_ALL_ARRIVED / 2)
            return found if right else None

        acknowledged, settled = wait_for(moments, "the change to be in effect on all nodes")
        time.sleep(_ALL_ARRIVED)
        probe = probes.first_right(begun, allowed=allowed)
        return Took((acknowledged - begun) * 1000, (settled - begun) * 1000, probe * 1000)

    def _policy(self, present: bool) -> None:
        """Have the policy that lets the client in, or have it no more."""
        if present == self._admitting:
            return
        self._admitting = present
        if present:
            access = {"podSelector": {"matchLabels": {"access": "yes"}}}
            self._write_policy("admission", {"from": [access], "ports": _ports(PORT)})
        else:
            self._lab.api("DELETE", f"{_POLICIES}/admission")

    def _label(self, allowed: bool) -> None:
        """Let the client be one of those that the policy lets in, or not."""
        self._lab.api("PATCH", f"{_PODS}/client", _labels("yes" if allowed else "no"), "merge")

    def _write_policy(self, name: str, rule: dict[str, Any]) -> None:
        selector = {"matchLabels": {"role": "server"}}
        spec = {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [rule]}
        self._lab.api("POST", _POLICIES, {"metadata": {"name": name}, "spec": spec})

    def _post(self, name: str, node: str, **labels: str) -> None:
        self._lab.post_pod(name, node, _NAMESPACE, labels=labels, ports=())

    def _imagine(self, numbers: range) -> None:
        """Pods with addresses, on nodes that there are only at the API server."""
        for start in range(numbers.start, numbers.stop, _PODS_OF_A_RANGE):
            third = 200 + start // _PODS_OF_A_RANGE
            node = f"imagined-{third}"
            self._lab.api(
                "POST",
                "/api/v1/nodes",
                {"metadata": {"name": node}, "spec": {"podCIDRs": [f"10.244.{third}.0/24"],
                                                      "podCIDR": f"10.244.{third}.0/24"}},
            )  # fmt: skip
            here = range(start, min(start + _PODS_OF_A_RANGE, numbers.stop))
            for host, number in enumerate(here, 2):
                self._post(f"peer-{number}", node, access="yes")
                ip = f"10.244.{third}.{host}"
                status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
                path = f"{_PODS}/peer-{number}/status"
                self._lab.api("PATCH", path, {"status": status}, "merge")


def _moments(log: str) -> tuple[float, float] | None:
    """When the last node acknowledged, and the last one settled, once all of them have."""
    acknowledged: dict[str, tuple[int, float]] = {}
    settled: dict[str, tuple[int, float]] = {}
    for line in log.splitlines():
        found = _REVISION.match(line)
        if found is not None:
            moment, event, node, revision = found.groups()
            seen = acknowledged if event == "acknowledged" else settled
            seen[node] = int(revision), datetime.fromisoformat(moment).timestamp()
    if len(acknowledged) < NODES:
        return None
    if any(settled.get(node, (0, 0))[0] < number for node, (number, _) in acknowledged.items()):
        return None
    return max(t for _, t in acknowledged.values()), max(t for _, t in settled.values())


def _labels(access: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"access": access}}}


def _ports(number: int) -> list[dict[str, Any]]:
    return [{"protocol": "UDP", "port": number}]


if __name__ == "__main__":
    found = figures(rounds=2)
    show(found, Console())
    write(found, Path("build/bench/policies_latency.json"))
