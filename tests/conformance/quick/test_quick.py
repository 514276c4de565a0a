"""A cluster that was installed as the README says does what it is for."""

from __future__ import annotations

import json

from tests.conformance.cluster.cluster import Cluster
from tests.conformance.cluster.workload import Bench, pod, policy, service


def test_every_node_is_ready_and_runs_ours(kubernetes: Cluster) -> None:
    nodes = json.loads(kubernetes.kubectl("get", "nodes", "--output=json"))["items"]
    for node in nodes:
        ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        assert ready["status"] == "True", ready
    status = kubernetes.kubectl(
        *("--namespace=ovsnet-system", "get", "daemonset", "ovsnet-node", "--output=json")
    )
    assert json.loads(status)["status"]["numberReady"] == len(nodes)


def test_pods_across_nodes_a_policy_and_a_service(bench: Bench) -> None:
    bench.apply(
        pod("near", "node1"),
        pod("server", "node1", labels={"role": "server"}),
        pod("far", "node2", labels={"may": "call"}),
        pod("other", "node3"),
        service("served", {"role": "server"}),
    )
    bench.ready("near", "server", "far", "other")
    found = bench.get("service", "served")["spec"]["clusterIPs"]
    addresses = (*bench.addresses("server"), *found)
    assert len(addresses) == 4, "a pod and a service have two addresses each"
    callers = ("near", "far", "other")
    for host in bench.addresses("server"):
        for caller in callers:
            bench.until(caller, host)
    for host in found:
        for caller in callers:
            bench.until(caller, host, 80)
    # By its name, which CoreDNS knows: a service beside it.
    bench.until("far", f"served.{bench.namespace}.svc.cluster.local", 80)
    allowed = [{"from": [{"podSelector": {"matchLabels": {"may": "call"}}}]}]
    bench.apply(policy("only-far", {"role": "server"}, allowed))
    for host in bench.addresses("server"):
        bench.until("near", host, reached=False)
        bench.until("other", host, reached=False)
        assert bench.reaches("far", host)
    for host in found:
        bench.until("near", host, 80, reached=False)
        assert bench.reaches("far", host, 80)
    bench.kubectl("delete", "networkpolicy", "only-far")
    for host in bench.addresses("server"):
        bench.until("near", host)
