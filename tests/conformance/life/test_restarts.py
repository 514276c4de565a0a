"""What runs on goes on while parts of the cluster and of the network are started anew."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.conformance.cluster import cluster as clusters
from tests.conformance.cluster import machine
from tests.conformance.cluster.cluster import Cluster, wait_until
from tests.conformance.cluster.network import NEXT_VERSION, SYSTEM, install, not_ready, upgrade
from tests.conformance.cluster.traffic import pinging
from tests.conformance.cluster.workload import Bench, pod, service

PROGRAMS = ("daemonset/ovsnet-node", "deployment/ovsnet-controller")
AFTER = 5.0
"""Seconds that traffic goes on after something was done."""


@pytest.fixture
def pair(bench: Bench) -> Iterator[Bench]:
    """Two pods on two nodes that reach each other, and a service."""
    bench.apply(
        pod("caller", "node1"), pod("server", "node2"), service("served", {"app": "server"})
    )
    bench.ready("caller", "server")
    yield bench
    wait_until(bench.cluster, lambda: not not_ready(bench.cluster), "all nodes to be ready again")


def ways(bench: Bench) -> list[tuple[str, str]]:
    return [("caller", address) for address in bench.addresses("server")]


def rollout(cluster: Cluster, what: str) -> None:
    cluster.kubectl("--namespace", SYSTEM, "rollout", "restart", what)
    rolled(cluster, what)


def rolled(cluster: Cluster, what: str) -> None:
    """Wait until all of its pods are of its newest version."""
    cluster.kubectl("--namespace", SYSTEM, "rollout", "status", what, "--timeout=300s")


@pytest.mark.parametrize("what", PROGRAMS)
def test_nothing_is_lost_while_ours_is_rolled(pair: Bench, what: str) -> None:
    with pinging(pair, *ways(pair)) as streams:
        rollout(pair.cluster, what)
        time.sleep(AFTER)
    assert all(stream.sent > 200 for stream in streams)
    assert [stream.lost for stream in streams] == [0] * len(streams)
    # And what is new is let in again.
    pair.apply(pod("new", "node3"))
    pair.ready("new")
    for _, host in ways(pair):
        pair.until("new", host)


def test_nothing_is_lost_while_another_version_is_rolled_out(pair: Bench) -> None:
    cluster = pair.cluster
    with pinging(pair, *ways(pair)) as streams:
        upgrade(cluster, print)
        for what in PROGRAMS:
            rolled(cluster, what)
        time.sleep(AFTER)
    assert [stream.lost for stream in streams] == [0] * len(streams)
    for component in ("node", "controller"):
        assert versions(cluster, component) == {f"ovsnet, version {NEXT_VERSION}\n"}
    pair.apply(pod("new", "node3"))
    pair.ready("new")
    for _, host in ways(pair):
        pair.until("new", host)
    install(cluster, print)


def versions(cluster: Cluster, component: str) -> set[str]:
    """What the programs of ours say that run."""
    command = ("--", "ovsnet", "--version")
    return {
        cluster.kubectl("--namespace", SYSTEM, "exec", each, *command)
        for each in names(cluster, component)
    }


def test_open_vswitch_started_anew_needs_no_controller(pair: Bench) -> None:
    """It has the flows that it had; only what begins meanwhile waits for a controller."""
    cluster = pair.cluster
    scale = ("--namespace", SYSTEM, "scale", "deployment/ovsnet-controller")
    cluster.kubectl(*scale, "--replicas=0")
    try:
        wait_until(cluster, lambda: not names(cluster, "controller"), "the controllers to be gone")
        (former,) = names(cluster, "openvswitch", "node2")
        cluster.kubectl("--namespace", SYSTEM, "delete", former)
        wait_until(
            cluster,
            lambda: names(cluster, "openvswitch", "node2") not in ([], [former]),
            "another pod in its place",
        )
        for caller, host in ways(pair):
            pair.until(caller, host)
        assert not names(cluster, "controller")
    finally:
        cluster.kubectl(*scale, "--replicas=2")
        rolled(cluster, "deployment/ovsnet-controller")
    pair.apply(pod("new", "node2"))
    pair.ready("new")
    for _, host in ways(pair):
        pair.until("new", host)


def names(cluster: Cluster, component: str, node: str = "") -> list[str]:
    """The pods of a component of ours, on one node or on all."""
    chosen = ("--selector", f"app.kubernetes.io/component={component}")
    where = ("--field-selector", f"spec.nodeName={node}") if node else ()
    listed = cluster.kubectl(
        *("--namespace", SYSTEM, "get", "pods", "--output=name", *chosen, *where)
    )
    return listed.split()


def test_nothing_is_lost_while_kubelet_and_containerd_are_started_anew(pair: Bench) -> None:
    with pinging(pair, *ways(pair)) as streams:
        # Not the caller's: kubectl exec goes through these.
        clusters.restart_programs(pair.cluster, "node2")
        time.sleep(AFTER)
    assert [stream.lost for stream in streams] == [0] * len(streams)
    pair.apply(pod("new", "node2"))
    pair.ready("new")
    pair.until("caller", pair.addresses("new")[0])


def test_without_an_api_server_what_runs_goes_on(pair: Bench) -> None:
    cluster = pair.cluster
    hosts = [
        *(host for _, host in ways(pair)),
        *pair.get("service", "served")["spec"]["clusterIPs"],
    ]
    caller = container(cluster, "node1", pair.namespace, "caller")
    clusters.stop_control_plane(cluster)
    try:
        time.sleep(AFTER)
        for host in hosts:
            port = 80 if host in hosts[2:] else 8080
            assert answers(cluster, "node1", caller, host, port), host
    finally:
        clusters.start_control_plane(cluster)
    pair.apply(pod("new", "node3"))
    pair.ready("new")
    pair.until("new", hosts[0])


def container(cluster: Cluster, node: str, namespace: str, name: str) -> str:
    """The process id of a pod's program on its node, where there is no API server to ask."""
    made = cluster.machine(node)
    listed = machine.run(made, "ctr", "--namespace=k8s.io", "containers", "list", "--quiet")
    for each in listed.split():
        info = machine.run(made, "ctr", "--namespace=k8s.io", "containers", "info", each)
        if all(
            f'"io.kubernetes.{key}": "{value}"' in info
            for key, value in (
                ("pod.namespace", namespace),
                ("pod.name", name),
                ("container.name", "main"),
            )
        ):
            tasks = machine.run(made, "ctr", "--namespace=k8s.io", "tasks", "list")
            return next(line.split()[1] for line in tasks.splitlines() if line.startswith(each))
    raise AssertionError(f"{node} has no container of {namespace}/{name}")


def answers(cluster: Cluster, node: str, pid: str, host: str, port: int) -> bool:
    """Whether HTTP is answered to a pod that is known by a process id on its node."""
    url = f"http://[{host}]:{port}/hostname" if ":" in host else f"http://{host}:{port}/hostname"
    command = ("nsenter", f"--target={pid}", "--net", "--mount", "curl", "-gsS", "-m", "3", url)
    try:
        machine.run(cluster.machine(node), *command)
    except machine.MachineError:
        return False
    return True
