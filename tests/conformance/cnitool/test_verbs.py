"""add, check and del: as they succeed, as they fail, and what stays behind (nothing)."""

from __future__ import annotations

import json

import pytest

from ovsnet import names
from ovsnet.sandbox import netns
from tests.conformance.cnitool.node import NODE, Cluster, Container

OURS = {"type": "ovsnet"}
TAKEN = "ip link add eth0 type veth peer name x"


def test_a_container_from_add_to_del(cluster: Cluster, container: Container) -> None:
    result = cluster.cnitool("add", container).result
    assert cluster.ports() == {container.port}
    cluster.ping(container, result)
    assert cluster.cnitool("check", container).status == 0
    assert cluster.cnitool("del", container).status == 0
    assert cluster.ports() == set()


def test_the_result_is_what_the_container_has(cluster: Cluster, container: Container) -> None:
    result = cluster.cnitool("add", container).result
    host, inside = result["interfaces"]
    assert (host["name"], "sandbox" in host) == (container.port, False)
    assert (inside["name"], inside["sandbox"]) == ("eth0", str(container.netns))
    (eth0,) = json.loads(cluster.in_container(container, "ip", "-j", "addr", "show", "eth0"))
    assert (eth0["address"], eth0["mtu"]) == (inside["mac"], inside["mtu"])
    has = {f"{a['local']}/{a['prefixlen']}" for a in eth0["addr_info"] if a["scope"] == "global"}
    assert has == {ip["address"] for ip in result["ips"]}
    assert {ip["interface"] for ip in result["ips"]} == {1}
    assert [r["dst"] for r in result["routes"]] == ["0.0.0.0/0", "::/0"]
    for option, route in zip(("-4", "-6"), result["routes"], strict=True):
        command = ("ip", option, "-j", "route", "show", "default")
        (default,) = json.loads(cluster.in_container(container, *command))
        assert default["gateway"] == route["gw"]
    cluster.cnitool("del", container)


def test_the_same_add_twice_gives_the_same(cluster: Cluster, container: Container) -> None:
    first = cluster.cnitool("add", container).result
    assert cluster.cnitool("add", container).result == first
    assert cluster.ports() == {container.port}
    cluster.cnitool("del", container)


def test_del_succeeds_when_repeated_and_when_there_never_was_an_add(
    cluster: Cluster, container: Container
) -> None:
    assert cluster.cnitool("del", container).status == 0
    cluster.cnitool("add", container)
    for _ in range(2):
        assert cluster.cnitool("del", container).status == 0


def test_del_succeeds_when_the_namespace_is_gone(cluster: Cluster, container: Container) -> None:
    assert cluster.cnitool("add", container).status == 0
    netns.delete(container.netns)
    assert cluster.cnitool("del", container).status == 0


def test_del_without_the_cached_result(cluster: Cluster, container: Container) -> None:
    assert cluster.cnitool("add", container).status == 0
    cluster.forget()
    assert cluster.cnitool("del", container).status == 0


def test_libcni_keeps_the_result_until_del(cluster: Cluster, container: Container) -> None:
    result = cluster.cnitool("add", container).result
    kept = cluster.cached(container)
    assert json.loads(kept.read_text())["result"] == result
    cluster.cnitool("del", container)
    assert not kept.exists()


# --- check ---


def test_check_compares_with_the_cached_result(cluster: Cluster, container: Container) -> None:
    cluster.cnitool("add", container)
    kept = cluster.cached(container)
    value = json.loads(kept.read_text())
    value["result"]["ips"][0]["address"] = "10.244.0.250/32"
    kept.write_text(json.dumps(value))
    assert cluster.cnitool("check", container).failed_with("prevResult", "ips")
    cluster.cnitool("del", container)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ip link set eth0 down", "eth0 is down"),
        ("ip addr flush dev eth0", "eth0 lacks address"),
        ("ip route del default", "route 0.0.0.0/0"),
        ("ip link set eth0 address 0a:58:01:02:03:04", "has MAC"),
        ("ip link set eth0 name eth9", "eth0 is gone"),
    ],
)
def test_check_tells_what_changed_inside(
    cluster: Cluster, container: Container, command: str, words: str
) -> None:
    cluster.cnitool("add", container)
    cluster.in_container(container, *command.split())
    assert cluster.cnitool("check", container).failed_with(words)
    assert cluster.cnitool("del", container).status == 0


def test_check_tells_that_nothing_answers(cluster: Cluster, container: Container) -> None:
    cluster.cnitool("add", container)
    cluster.kill("controller")
    try:
        ofctl = ("ovs-ofctl", "-O", "OpenFlow15")
        cluster.on_node(*ofctl, "del-flows", names.BRIDGE, f"in_port={container.port}")
        assert cluster.cnitool("check", container).failed_with("gateway does not answer")
    finally:
        cluster.start_controller()
    assert cluster.cnitool("check", container).status == 0
    cluster.cnitool("del", container)


def test_check_of_what_was_never_added(cluster: Cluster, container: Container) -> None:
    assert cluster.cnitool("check", container).failed_with("has no interface eth0 here")


# --- how add fails ---


def test_a_pod_that_the_api_does_not_know(cluster: Cluster) -> None:
    with cluster.container(known=False) as stranger:
        outcome = cluster.cnitool("add", stranger)
        assert outcome.failed_with("installed no flows", stranger.pod, "refused ports")
        assert cluster.cnitool("del", stranger).status == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("IgnoreUnknown=1", "K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_UID"),
        ("K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", "CNI_ARGS lacks K8S_POD_UID"),
    ],
)
def test_a_pod_that_is_not_named(
    cluster: Cluster, container: Container, args: str, words: str
) -> None:
    assert cluster.cnitool("add", container, args=args).failed_with(words)


def test_a_namespace_that_is_gone(cluster: Cluster, container: Container) -> None:
    netns.delete(container.netns)
    assert cluster.cnitool("add", container).failed_with("CNI_NETNS", str(container.netns))


def test_an_interface_name_that_is_in_use(cluster: Cluster, container: Container) -> None:
    cluster.in_container(container, *TAKEN.split())
    assert cluster.cnitool("add", container).failed_with("CNI_IFNAME", "has already")


def test_a_second_interface(cluster: Cluster, container: Container) -> None:
    cluster.cnitool("add", container)
    outcome = cluster.cnitool("add", container, ifname="net1")
    assert outcome.failed_with("CNI_IFNAME", "one interface")
    cluster.cnitool("del", container)


def test_a_field_that_is_not_known(cluster: Cluster, container: Container) -> None:
    conf = cluster.conf({**OURS, "mtu": 9000})
    assert cluster.cnitool("add", container, conf).failed_with("mtu: 9000 is not supported")
    assert cluster.cnitool("del", container, conf).status == 0


def test_ours_is_not_the_first_plugin(cluster: Cluster, container: Container) -> None:
    conf = cluster.conf({"type": "tuning"}, OURS, version="1.0.0")
    outcome = cluster.cnitool("add", container, conf)
    assert outcome.status != 0
    cluster.cnitool("del", container, conf)


def test_an_ipam_plugin_that_is_missing(cluster: Cluster, container: Container) -> None:
    conf = cluster.conf({**OURS, "ipam": {"type": "no-such-ipam"}})
    assert cluster.cnitool("add", container, conf).failed_with("ipam.type", "no-such-ipam")


def test_an_ipam_plugin_gives_the_address(cluster: Cluster, container: Container) -> None:
    ranges = [
        [{"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.77"}],
        [{"subnet": "fd00:10:244::/64", "rangeStart": "fd00:10:244::4d"}],
    ]
    data = cluster.layout.root / "ipam"
    ours = {**OURS, "ipam": {"type": "host-local", "ranges": ranges, "dataDir": str(data)}}
    conf = cluster.conf(ours, version="1.0.0")
    result = cluster.cnitool("add", container, conf).result
    assert [ip["address"] for ip in result["ips"]] == ["10.244.0.77/32", "fd00:10:244::4d/128"]
    cluster.ping(container, result)
    assert cluster.cnitool("check", container, conf).status == 0
    reserved = data / "ovsnet" / "10.244.0.77"
    assert reserved.exists()
    assert cluster.cnitool("del", container, conf).status == 0
    assert not reserved.exists()


def test_a_node_without_its_agent(cluster: Cluster, container: Container) -> None:
    cluster.kill(f"agent-{NODE}")
    try:
        outcome = cluster.cnitool("add", container)
        assert outcome.failed_with("the node agent is not running")
        assert cluster.cnitool("del", container).failed_with("the node agent is not running")
    finally:
        cluster.start_again(f"agent-{NODE}")
    cluster.until(cluster.is_ready, "the agent to be ready", cluster.status)


def test_a_node_without_the_controller(cluster: Cluster, container: Container) -> None:
    cluster.kill("controller")
    try:
        assert cluster.cnitool("add", container).status != 0
        assert cluster.ports() == set()
    finally:
        cluster.start_controller()
    result = cluster.cnitool("add", container).result
    cluster.ping(container, result)
    cluster.cnitool("del", container)
