"""Nodes that come, go, are drained, get another name, and lose their power."""

from __future__ import annotations

import json

from tests.conformance.cluster import cluster as clusters
from tests.conformance.cluster import machine, network
from tests.conformance.cluster.cluster import Cluster, wait_until
from tests.conformance.cluster.network import not_ready
from tests.conformance.cluster.traffic import pinging
from tests.conformance.cluster.workload import Bench, deployment, pod

BACK_SECONDS = 240.0


def ready_again(cluster: Cluster) -> None:
    wait_until(
        cluster,
        lambda: not not_ready(cluster),
        "all nodes to be ready",
        BACK_SECONDS,
        lambda: not_ready(cluster),
    )


def test_a_node_that_is_drained_and_comes_back(bench: Bench) -> None:
    cluster = bench.cluster
    bench.apply(pod("caller", "node1"), deployment("moved", 3, pod("moved")["spec"]))
    bench.ready("caller")
    bench.kubectl("rollout", "status", "deployment/moved", "--timeout=180s")
    try:
        cluster.kubectl(
            *("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--force"),
            "--timeout=180s",
        )
        bench.kubectl("rollout", "status", "deployment/moved", "--timeout=180s")
        listed = json.loads(bench.kubectl("get", "pods", "-l", "app=moved", "--output=json"))
        running = [p for p in listed["items"] if "deletionTimestamp" not in p["metadata"]]
        assert {p["spec"]["nodeName"] for p in running} <= {"node1", "node3"}
        for each in running:
            bench.until("caller", each["status"]["podIP"])
    finally:
        cluster.kubectl("uncordon", "node2")
    bench.apply(pod("back", "node2"))
    bench.ready("back")
    bench.until("caller", bench.addresses("back")[0])


def test_a_machine_without_power_comes_back(bench: Bench) -> None:
    """Its processes, its network and /run are gone; its disk is there. Others notice nothing."""
    cluster = bench.cluster
    bench.apply(pod("caller", "node1"), pod("other", "node3"), pod("there", "node2"))
    bench.ready("caller", "other", "there")
    with pinging(bench, ("caller", bench.addresses("other")[0])) as (stream,):
        clusters.power_cycle(cluster, "node2")
        ready_again(cluster)
    assert stream.lost == 0

    def reached() -> bool:
        # It has none until the node has given it a new sandbox.
        addresses = bench.get("pod", "there")["status"].get("podIPs", [])
        return any(bench.reaches("caller", each["ip"]) for each in addresses)

    wait_until(
        cluster,
        reached,
        "the pod of the machine to be reached again",
        BACK_SECONDS,
        lambda: bench.kubectl("get", "pods", "-o", "wide"),
    )


def test_a_node_that_is_removed_and_one_of_another_name_in_its_place(bench: Bench) -> None:
    """The machine registers under another name: ranges, flows and ways are those of a new node."""
    cluster = bench.cluster
    bench.apply(pod("caller", "node1"))
    bench.ready("caller")
    host = cluster.host("node3")
    machine.kill(cluster.machine("node3"), "kubelet")
    cluster.kubectl("delete", "node", "node3")
    try:
        clusters.register(cluster, host, "renamed")
        wait_until(
            cluster,
            lambda: "renamed" in cluster.kubectl("get", "nodes", "-o", "name"),
            "the node to register",
        )
        ready_again(cluster)
        bench.apply(pod("guest", "renamed"))
        bench.ready("guest")
        for address in bench.addresses("guest"):
            bench.until("caller", address)
    finally:
        bench.kubectl("delete", "pod", "guest", "--ignore-not-found", "--timeout=60s")
        machine.kill(cluster.machine("node3"), "kubelet")
        cluster.kubectl("delete", "node", "renamed", "--ignore-not-found")
        clusters.register(cluster, host, "node3")
        ready_again(cluster)


def test_a_node_that_is_added_and_removed_for_good(bench: Bench) -> None:
    cluster = bench.cluster
    bench.apply(pod("caller", "node1"))
    bench.ready("caller")
    larger = clusters.add(cluster)
    try:
        clusters.load(larger.machine("node4"), network.image(print))
        ready_again(larger)
        bench.apply(pod("guest", "node4"))
        bench.ready("guest")
        for address in bench.addresses("guest"):
            bench.until("caller", address)
    finally:
        bench.kubectl("delete", "pod", "guest", "--ignore-not-found", "--force", "--timeout=60s")
        clusters.remove(larger, "node4")
    # Whoever is left forgets the way to it, and goes on.
    ready_again(cluster)
    wait_until(
        cluster, lambda: not ways_to(cluster, larger), "the ways to the removed node to be gone"
    )


def ways_to(cluster: Cluster, larger: Cluster) -> str:
    """The flows on a node by which it reaches the last node of `larger`."""
    gone = larger.hosts.nodes[-1].ipv4
    flows = network.on_switch(cluster, "node1", "ovs-ofctl", "-O", "OpenFlow15", "dump-flows")
    return "".join(line for line in flows.splitlines() if f"{gone}" in line)
