"""portmap, bandwidth and tuning after ours: each gets our result and passes it on."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ovsnet.sandbox import netns, plan
from ovsnet.sandbox.layout import OUTSIDE
from tests.conformance.cnitool.node import DEBIAN_PLUGINS, NODE, Cluster, Container, Outcome

OURS = {"type": "ovsnet"}
VERSION = "1.0.0"
"""The newest that Debian's plugins speak."""
HOST_PORT = 8080
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
MAPPINGS = {"portMappings": [{"hostPort": HOST_PORT, "containerPort": 80, "protocol": "tcp"}]}


@contextmanager
def web_server(container: Container, directory: Path) -> Iterator[None]:
    """Something that answers HTTP in the container, on port 80."""
    command = [
        *("nsenter", f"--net={container.netns}"),
        *(
            "python3",
            "-u",
            "-m",
            "http.server",
            "--bind",
            "::",
            "--directory",
            str(directory),
            "80",
        ),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            assert server.stdout is not None
            assert b"Serving" in server.stdout.readline()
            yield
        finally:
            server.kill()


def ask(cluster: Cluster, address: str, port: int) -> int:
    """The status of a request from outside the cluster."""

    def request() -> int:
        connection = http.client.HTTPConnection(address, port, timeout=5)
        connection.request("HEAD", "/")
        return connection.getresponse().status

    return netns.within(cluster.layout.netns(OUTSIDE), request)


def expect_check(outcome: Outcome) -> None:
    """CHECK of a list with portmap.

    Debian's portmap 1.1.1 looks for its IPv4 rules in ip6tables too and so always fails, after
    whatever plugin it stands; as ours is asked before it, its words mean that ours was content.
    """
    assert outcome.status == 0 or outcome.failed_with("could not check ipv6 dnat")


def rules(cluster: Cluster) -> str:
    return cluster.on_node("iptables", "-t", "nat", "-S")


def test_portmap(cluster: Cluster, container: Container, tmp_path: Path) -> None:
    conf = cluster.conf(OURS, PORTMAP, version=VERSION)
    result = cluster.cnitool("add", container, conf, capabilities=MAPPINGS).result
    assert [i["name"] for i in result["interfaces"]] == [container.port, "eth0"]
    node = str(plan.plan(1).nodes[0].ipv4)
    with web_server(container, tmp_path):
        assert ask(cluster, node, HOST_PORT) == 200
    expect_check(cluster.cnitool("check", container, conf, capabilities=MAPPINGS))
    assert cluster.cnitool("del", container, conf, capabilities=MAPPINGS).status == 0
    assert str(HOST_PORT) not in rules(cluster)


def test_bandwidth(cluster: Cluster, container: Container) -> None:
    conf = cluster.conf(
        OURS, {"type": "bandwidth", "capabilities": {"bandwidth": True}}, version=VERSION
    )
    rates = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
    rates |= {"egressRate": 8_000_000, "egressBurst": 800_000}
    limits = {"bandwidth": rates}
    result = cluster.cnitool("add", container, conf, capabilities=limits).result
    cluster.ping(container, result)
    assert "8Mbit" in cluster.on_node("tc", "qdisc", "show", "dev", container.port)
    assert cluster.cnitool("check", container, conf, capabilities=limits).status == 0
    assert cluster.cnitool("del", container, conf, capabilities=limits).status == 0
    links = json.loads(cluster.on_node("ip", "-j", "link", "show", "type", "ifb") or "[]")
    assert [link for link in links if link] == []


def test_tuning(cluster: Cluster, container: Container) -> None:
    key = "net.ipv4.conf.eth0.arp_filter"
    conf = cluster.conf(OURS, {"type": "tuning", "sysctl": {key: "1"}}, version=VERSION)
    result = cluster.cnitool("add", container, conf).result
    cluster.ping(container, result)
    path = "/proc/sys/" + key.replace(".", "/")
    assert cluster.in_container(container, "cat", path).strip() == "1"
    assert cluster.cnitool("check", container, conf).status == 0
    cluster.in_container(container, "sh", "-c", f"echo 0 > {path}")
    assert cluster.cnitool("check", container, conf).failed_with("arp_filter")
    assert cluster.cnitool("del", container, conf).status == 0


def all_three() -> list[dict[str, Any]]:
    bandwidth = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
    return [OURS, PORTMAP, bandwidth, {"type": "tuning"}]


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_all_three_in_every_version(cluster: Cluster, container: Container, version: str) -> None:
    conf = cluster.conf(*all_three(), version=version)
    rates = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
    capabilities = {**MAPPINGS, "bandwidth": rates}
    result = cluster.cnitool("add", container, conf, capabilities=capabilities).result
    assert result["cniVersion"] == version
    cluster.ping(container, result)
    if version != "0.3.1":
        expect_check(cluster.cnitool("check", container, conf, capabilities=capabilities))
    for _ in range(2):
        assert cluster.cnitool("del", container, conf, capabilities=capabilities).status == 0


def test_a_later_plugin_fails(cluster: Cluster, container: Container) -> None:
    """The runtime's del after a failed add takes ours down again."""
    broken = {"type": "tuning", "sysctl": {"net.no.such": "1"}}
    conf = cluster.conf(OURS, broken, version=VERSION)
    assert cluster.cnitool("add", container, conf).status != 0
    assert cluster.cnitool("del", container, conf).status == 0


def test_the_agent_chains_portmap_where_it_is_installed(
    cluster: Cluster, container: Container, tmp_path: Path
) -> None:
    """It offers only versions that portmap speaks too, as one version goes to the whole list."""
    plugin = cluster.layout.node(NODE).cni_plugins / "portmap"
    file = cluster.agents_conf / "10-ovsnet.conflist"
    before = file.read_text()
    plugin.symlink_to(DEBIAN_PLUGINS / "portmap")
    try:
        cluster.until(lambda: "portmap" in file.read_text(), "the agent to chain portmap")
        assert json.loads(file.read_text())["cniVersions"] == ["0.3.1", "0.4.0", "1.0.0"]
        result = cluster.cnitool("add", container, capabilities=MAPPINGS).result
        assert result["cniVersion"] == "1.0.0"
        with web_server(container, tmp_path):
            assert ask(cluster, str(plan.plan(1).nodes[0].ipv4), HOST_PORT) == 200
        assert cluster.cnitool("del", container, capabilities=MAPPINGS).status == 0
    finally:
        plugin.unlink()
    cluster.until(lambda: file.read_text() == before, "the agent to leave portmap out again")
