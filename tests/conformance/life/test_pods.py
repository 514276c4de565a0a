"""Pods of all kinds that a kubelet runs."""

from __future__ import annotations

import json
import re
import subprocess

from tests.conformance.cluster.cluster import Cluster, wait_until
from tests.conformance.cluster.workload import PORT, Bench, bracketed, deployment, pod

MOST = 110
"""Pods of a node, as kubelet is configured here and by default."""

MEGABIT = 1_000_000


def fetched(cluster: Cluster, host: str, port: int) -> str:
    """What HTTP answers at /hostname to somebody who is outside of the cluster."""
    url = f"http://{bracketed(host)}:{port}/hostname"
    command = cluster.within_control(["curl", "-gsS", "-m", "3", url])
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_a_host_port_from_everywhere(bench: Bench) -> None:
    cluster = bench.cluster
    ports = {"ports": [{"containerPort": PORT, "hostPort": 8081}]}
    bench.apply(pod("server", "node1", container=ports), pod("near", "node1"), pod("far", "node2"))
    bench.ready("server", "near", "far")
    host = cluster.host("node1")
    for address in (str(host.ipv4), str(host.ipv6)):
        wait_until(
            cluster,
            lambda address=address: fetched(cluster, address, 8081) == "server",
            f"{address}:8081 to be answered outside",
            30.0,
        )
        for caller in ("near", "far"):
            bench.until(caller, address, 8081)
    bench.kubectl("delete", "pod", "server", "--timeout=60s")
    assert fetched(cluster, str(host.ipv4), 8081) == ""


def test_bandwidth_by_annotation(bench: Bench) -> None:
    """As much as the annotations allow, in both directions, and not much more."""
    slow = {
        "kubernetes.io/ingress-bandwidth": "20M",
        "kubernetes.io/egress-bandwidth": "20M",
    }
    serve = {"command": ["iperf", "-s"], "args": [], "readinessProbe": None}
    bench.apply(
        pod("slow", "node1", annotations=slow, container=serve),
        pod("free", "node2", container=serve),
    )
    bench.ready("slow", "free")
    for caller, server in (("free", "slow"), ("slow", "free")):
        said = bench.exec(
            *(caller, "iperf", "-c", bench.addresses(server)[0], "-t", "5", "-y", "C")
        )
        rate = int(said.strip().splitlines()[-1].split(",")[-1])
        assert 8 * MEGABIT < rate < 30 * MEGABIT, (caller, server, rate)


def test_a_pod_on_the_host_s_network(bench: Bench) -> None:
    bench.apply(
        pod(
            "host",
            "node1",
            command=("netexec", "--http-port=8082"),
            container={"readinessProbe": None},
            hostNetwork=True,
        ),
        pod("near", "node1"),
        pod("far", "node2"),
    )
    bench.ready("host", "near", "far")
    for caller in ("near", "far"):
        for address in bench.addresses("host"):
            bench.until(caller, address, 8082)
    # And from there to pods here and elsewhere.
    for server in ("near", "far"):
        for address in bench.addresses(server):
            bench.until("host", address)


def test_init_containers_and_several_containers_share_one_address(bench: Bench) -> None:
    """The first thing that runs in a pod has the network already."""
    bench.apply(pod("server", "node2"))
    bench.ready("server")
    address = bench.addresses("server")[0]
    made = pod("several", "node1")
    main = made["spec"]["containers"][0]
    first = {
        "name": "first",
        "image": main["image"],
        "command": ["curl", "-gsSf", "-m", "5", f"http://{bracketed(address)}:{PORT}/hostname"],
    }
    second = main | {
        "name": "second",
        "args": ["netexec", "--http-port=8083", "--udp-port=8083"],
        "readinessProbe": None,
    }
    made["spec"]["initContainers"] = [first]
    made["spec"]["containers"].append(second)
    bench.apply(made)
    bench.ready("several")
    assert bench.kubectl("logs", "several", "--container=first").strip() == "server"
    for own in bench.addresses("several"):
        bench.until("server", own)
        bench.until("server", own, 8083)


def test_as_many_pods_as_a_node_takes(bench: Bench) -> None:
    """All get an address of their own and are reached; afterwards nothing of them is left."""
    cluster = bench.cluster
    taken = json.loads(
        cluster.kubectl(
            *("get", "pods", "--all-namespaces", "--output=json"),
            *("--field-selector", "spec.nodeName=node2"),
        )
    )["items"]
    count = MOST - len(taken)
    spec = pod("many", "node2", container={"readinessProbe": None})["spec"]
    bench.apply(pod("caller", "node1"), deployment("many", count, spec))
    bench.kubectl("rollout", "status", "deployment/many", "--timeout=600s")
    bench.ready("caller")
    pods = json.loads(bench.kubectl("get", "pods", "-l", "app=many", "--output=json"))["items"]
    addresses = [each["ip"] for one in pods for each in one["status"]["podIPs"]]
    assert len(set(addresses)) == 2 * count
    urls = " ".join(f"http://{bracketed(address)}:{PORT}/hostname" for address in addresses)
    loop = f"for u in {urls}; do curl -gsS -m 5 -o /dev/null -w '%{{http_code}}\\n' $u; done"
    answers = bench.exec("caller", "bash", "-c", loop).split()
    assert answers == ["200"] * len(addresses)
    bench.kubectl("delete", "deployment", "many", "--timeout=60s")
    wait_until(
        cluster,
        lambda: not re.search(r"many-", bench.kubectl("get", "pods", "--output=name")),
        "all of them to be gone",
        300.0,
    )
