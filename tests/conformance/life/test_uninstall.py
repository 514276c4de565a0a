"""What installing has brought to cluster and nodes, uninstalling takes away."""

from __future__ import annotations

import subprocess

from ovsnet.sandbox import plan
from tests.conformance.cluster import machine
from tests.conformance.cluster.cluster import Cluster
from tests.conformance.cluster.machine import Machine
from tests.conformance.cluster.network import COREDNS, install, uninstall
from tests.conformance.cluster.workload import Bench, pod

OURS = ("ovsnet", "br-int", "br-phy", "ovs-netdev", "ovs-system", "28534", "openvswitch")
LOOKS = (
    "ip -oneline link",
    "ip -oneline address",
    "ip rule",
    "ip -6 rule",
    "ip route show table all",
    "ip -6 route show table all",
    "nft list ruleset",
    "find /etc/cni /opt/cni /var/lib /run -xdev -not -path */kubelet/* -not -path */containerd/*",
)


def traces(made: Machine) -> list[str]:
    """What there is of ours on a machine."""
    lines: list[str] = []
    for look in LOOKS:
        command = machine.inside(made, look.split())
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # The machine's own device has a name like ours.
        found = ((line, line.replace(plan.UPLINK, "")) for line in said.splitlines())
        lines += [line for line, rest in found if any(word in rest for word in OURS)]
    return lines


def in_cluster(cluster: Cluster) -> str:
    kinds = "namespaces,clusterroles,clusterrolebindings,priorityclasses"
    return "".join(
        line
        for line in cluster.kubectl("get", kinds, "--output=name").splitlines()
        if "ovsnet" in line
    )


def test_uninstalling_leaves_nothing_and_it_can_be_installed_again(bench: Bench) -> None:
    cluster = bench.cluster
    assert all(traces(made) for made in cluster.machines)
    # To its end: without the plugin nobody can take its pods off the network.
    cluster.kubectl("delete", "--cascade=foreground", "-f", str(COREDNS))
    uninstall(cluster)
    assert {made.name: traces(made) for made in cluster.machines} == {
        made.name: [] for made in cluster.machines
    }
    assert in_cluster(cluster) == ""
    install(cluster, print)
    bench.apply(pod("caller", "node1"), pod("server", "node2"))
    bench.ready("caller", "server")
    for address in bench.addresses("server"):
        bench.until("caller", address)
