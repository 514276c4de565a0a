"""Together with Debian's plugins: the chain behind ours, and IPAM plugins that we delegate to."""

from __future__ import annotations

import json
from typing import Any

import cni_conflist
import pytest
from cni_conflist import PluginError
from cni_node import CNI_PLUGINS, Pod, TestNode

from ovsnet.sandbox.openvswitch import inside

CAPABILITIES = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
}


def conflist(node: TestNode, *chain: dict[str, Any]) -> dict[str, Any]:
    path = next(node.conf_dir.glob("*.conflist"))
    written = json.loads(path.read_text())
    return written | {"plugins": [*written["plugins"], *chain]}


class InNode:
    """Runs plugins inside the node's namespace, as a runtime on that node would."""

    def __init__(self, node: TestNode, monkeypatch: pytest.MonkeyPatch) -> None:
        run = cni_conflist.subprocess.run
        monkeypatch.setattr(
            cni_conflist.subprocess,
            "run",
            lambda command, **kw: run(inside(node.netns, [str(c) for c in command]), **kw),
        )
        self.directories = (node.bin_dir, CNI_PLUGINS)


@pytest.fixture
def runtime(node: TestNode, monkeypatch: pytest.MonkeyPatch) -> InNode:
    return InNode(node, monkeypatch)


CHAINS = {
    "portmap": {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    "tuning": {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}},
}


@pytest.mark.parametrize("kinds", [("portmap",), ("tuning",), tuple(CHAINS)])
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_a_chain_behind_ours(
    node: TestNode, pod: Pod, runtime: InNode, kinds: tuple[str, ...], version: str
) -> None:
    plugins = conflist(node, *(CHAINS[kind] for kind in kinds)) | {"cniVersion": version}
    environment = pod.environment("ADD", runtime.directories)
    result = cni_conflist.add(plugins, runtime.directories, environment, CAPABILITIES)
    assert {i["name"] for i in result["interfaces"]} >= {pod.port, "eth0"}
    if "portmap" in kinds:
        address = result["ips"][0]["address"].split("/")[0]
        assert f"{address}:80" in node.run("iptables", "-t", "nat", "-S")
    if "tuning" in kinds:
        assert node.in_pod(pod, "cat", "/proc/sys/net/core/somaxconn").stdout == "500\n"
    if "portmap" not in kinds:
        # portmap 1.1.1 looks for its IPv4 rules in ip6tables when a pod has both families.
        cni_conflist.check(plugins, runtime.directories, environment, result, CAPABILITIES)
    cni_conflist.delete(plugins, runtime.directories, environment, result, CAPABILITIES)
    cni_conflist.delete(plugins, runtime.directories, environment, result, CAPABILITIES)


def test_ours_behind_another_is_refused(node: TestNode, pod: Pod, runtime: InNode) -> None:
    written = conflist(node)
    first = {"type": "ptp", "ipam": {"type": "host-local", "subnet": "192.0.2.0/24"}}
    first["ipam"]["dataDir"] = str(node.directory / "ipam")
    plugins = written | {"plugins": [first, *written["plugins"]]}
    environment = pod.environment("ADD", runtime.directories)
    with pytest.raises(PluginError, match="prevResult"):
        cni_conflist.add(plugins, runtime.directories, environment)
    cni_conflist.delete(plugins, runtime.directories, environment, None)


def host_local(node: TestNode, *ranges: dict[str, str]) -> dict[str, Any]:
    directory = str(node.directory / "ipam-test")
    ipam = {"type": "host-local", "ranges": [[r] for r in ranges], "dataDir": directory}
    return {"cniVersion": "1.0.0", "ipam": ipam}


def leases(node: TestNode) -> list[str]:
    directory = node.directory / "ipam-test"
    for cursor in directory.rglob("last_reserved_ip.*"):
        cursor.unlink()
    return [p.name for p in directory.rglob("*") if p.name.startswith(("10.", "fd", "192."))]


def test_addresses_of_a_delegated_plugin(node: TestNode, pod: Pod) -> None:
    conf = host_local(
        node,
        {"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.100", "gateway": "10.77.0.1"},
        {"subnet": "fd00:77::/120", "rangeStart": "fd00:77::64", "gateway": "fd00:77::1"},
    )
    result = node.add(pod, conf)
    assert [ip["address"] for ip in result["ips"]] == ["10.77.0.100/32", "fd00:77::64/128"]
    assert node.call("CHECK", pod, conf | {"prevResult": result}).status == 0
    assert len(leases(node)) == 2
    node.delete(pod, conf)
    assert leases(node) == []


@pytest.mark.parametrize(
    ("ranges", "named"),
    [
        (
            [
                {"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.50"},
                {"subnet": "fd00:77::/120", "rangeStart": "fd00:77::64"},
            ],
            "offsets differ",
        ),
        ([{"subnet": "192.0.2.0/24"}, {"subnet": "fd00:77::/120"}], "not in the node's range"),
        ([{"subnet": "10.77.0.0/24"}], "one address each of IPv4 and IPv6"),
        (
            [
                {"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.2"},
                {"subnet": "fd00:77::/120", "rangeStart": "fd00:77::2"},
            ],
            "offset 2 is reserved (the node's service address)",
        ),
    ],
)
def test_addresses_that_the_node_cannot_use(
    node: TestNode, pod: Pod, ranges: list[dict[str, str]], named: str
) -> None:
    outcome = node.call("ADD", pod, host_local(node, *ranges))
    assert outcome.code == 7
    assert "ipam.type" in outcome.message
    assert named in outcome.message
    assert not node.leftovers()
    assert leases(node) == []


def test_a_delegated_address_that_another_pod_has(node: TestNode, pod: Pod) -> None:
    with node.pod(name="own") as other:
        taken = node.add(other)["ips"]
        four, six = (ip["address"].split("/")[0] for ip in taken)
        conf = host_local(
            node,
            {"subnet": "10.77.0.0/24", "rangeStart": four, "rangeEnd": four},
            {"subnet": "fd00:77::/120", "rangeStart": six, "rangeEnd": six},
        )
        outcome = node.call("ADD", pod, conf)
        assert (outcome.code, "another attachment" in outcome.message) == (7, True)
        assert leases(node) == []
        assert node.call("CHECK", other).status == 0
        node.delete(other)


def test_a_delegated_plugin_that_fails(node: TestNode, pod: Pod) -> None:
    conf = host_local(node, {"subnet": "10.77.0.0/24", "rangeStart": "192.0.2.1"})
    outcome = node.call("ADD", pod, conf)
    assert outcome.status == 1
    assert "host-local" in outcome.message
    assert not node.leftovers()
