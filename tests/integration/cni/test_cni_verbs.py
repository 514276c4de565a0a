"""The verbs as a container runtime uses them, when all is well."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
from cni_node import GATEWAY4, GATEWAY6, Pod, TestNode

from ovsnet import names


def address_of(result: dict) -> str:
    return result["ips"][0]["address"].split("/")[0]


def test_a_pod_gets_what_the_result_says(node: TestNode, pod: Pod) -> None:
    result = node.add(pod)
    host, inside = result["interfaces"]
    ipv4, ipv6 = (ip["address"] for ip in result["ips"])

    assert host["name"] == pod.port
    assert node.ports() == {pod.port}
    found = json.loads(node.run("ip", "-j", "link", "show", pod.port))[0]
    assert (found["address"], found["mtu"], found["operstate"]) == (host["mac"], 1450, "UP")

    eth0 = json.loads(node.in_pod(pod, "ip", "-j", "addr", "show", "eth0").stdout)[0]
    assert (eth0["address"], eth0["mtu"]) == (inside["mac"], 1450)
    have = {f"{a['local']}/{a['prefixlen']}" for a in eth0["addr_info"]}
    assert have == {ipv4, ipv6, f"{names.link_local(inside['mac'])}/64"}
    lo = json.loads(node.in_pod(pod, "ip", "-j", "addr", "show", "lo").stdout)[0]
    assert "127.0.0.1" in {a["local"] for a in lo["addr_info"]}

    routes = json.loads(node.in_pod(pod, "ip", "-j", "route").stdout)
    assert {(r["dst"], r.get("gateway")) for r in routes} == {
        ("default", GATEWAY4),
        (GATEWAY4, None),
    }
    known = json.loads(node.in_pod(pod, "ip", "-j", "neigh", "show", "nud", "permanent").stdout)
    assert {(n["dst"], n["lladdr"]) for n in known} == {
        (GATEWAY4, names.ROUTER_MAC),
        (GATEWAY6, names.ROUTER_MAC),
    }
    ids = node.ovs.vsctl("get", "Interface", pod.port, "external_ids")
    for part in (pod.namespace, pod.name, pod.uid, pod.container):
        assert part in ids


def test_the_macs_carry_the_address(node: TestNode, pod: Pod) -> None:
    result = node.add(pod)
    host, inside = result["interfaces"]
    assert str(names.address_of_host_mac(host["mac"])) == address_of(result)
    assert host["mac"].replace("0e:", "0a:", 1) == inside["mac"]


def test_pods_reach_each_other_when_add_has_returned(node: TestNode, pod: Pod) -> None:
    with node.pod(name="web-1") as other:
        node.add(pod)
        target = address_of(node.add(other))
        # The stand-in lets IPv4 through after it answers ARP: give it a moment, not a reason.
        node.wait(
            lambda: node.in_pod(pod, "ping", "-c1", "-W1", target).returncode == 0, "an answer"
        )
        full = node.in_pod(pod, "ping", "-c1", "-W2", "-M", "do", "-s", str(1450 - 28), target)
        assert full.returncode == 0, full.stdout
        too_big = node.in_pod(pod, "ping", "-c1", "-W1", "-M", "do", "-s", "1423", target)
        assert too_big.returncode != 0
        node.delete(other)


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_every_version_gets_its_own_form(node: TestNode, pod: Pod, version: str) -> None:
    result = node.add(pod, {"cniVersion": version})
    assert result["cniVersion"] == version
    assert [ip.get("version") for ip in result["ips"]] == (
        ["4", "6"] if version in {"0.3.1", "0.4.0"} else [None, None]
    )
    assert all(("mtu" in i) == (version == "1.1.0") for i in result["interfaces"])


def test_version_names_all_versions(node: TestNode) -> None:
    outcome = node.call("VERSION", conf={"cniVersion": "0.2.0"})
    assert outcome.output == {
        "cniVersion": "0.2.0",
        "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


def test_the_same_add_again_gives_the_same(node: TestNode, pod: Pod) -> None:
    assert node.add(pod) == node.add(pod)


def test_an_add_whose_port_was_lost_is_done_anew(node: TestNode, pod: Pod) -> None:
    node.add(pod)
    node.run("ip", "link", "delete", pod.port)
    # The userspace datapath at times receives nothing on an interface that is made anew under a
    # name that it lost milliseconds ago. The ADD then asks to be tried again, as kubelet does,
    # and takes another name.
    first = node.call("ADD", pod)
    if first.status:
        assert first.code == 11, first
        node.add(pod)
    assert node.call("CHECK", pod).status == 0


def test_delete_succeeds_twice_and_for_the_unknown(node: TestNode, pod: Pod) -> None:
    node.add(pod)
    node.delete(pod)
    node.delete(pod)
    node.delete(replace(pod, container="unknown"))


def test_delete_when_the_namespace_is_gone(node: TestNode) -> None:
    with node.pod() as pod:
        node.add(pod)
    node.delete(pod)
    node.expect_nothing_left()


def test_delete_needs_neither_pod_nor_namespace(node: TestNode, pod: Pod) -> None:
    node.add(pod)
    outcome = node.call("DEL", pod, CNI_ARGS=None, CNI_NETNS=None, CNI_PATH=None)
    assert outcome.status == 0


@pytest.mark.parametrize("same_uid", [True, False])
def test_the_newest_sandbox_wins(node: TestNode, pod: Pod, same_uid: bool) -> None:
    with node.pod() as newer_netns:
        newer = replace(newer_netns, uid=pod.uid) if same_uid else newer_netns
        old_address = address_of(node.add(pod))
        result = node.add(newer)
        assert node.ports() == {newer.port} == node.links()
        assert address_of(result) != old_address

        # The old one's late verbs touch nothing of the new.
        assert node.call("ADD", pod).code == 3
        assert node.call("CHECK", pod).code == 3
        node.delete(pod)
        assert node.ports() == {newer.port}
        assert node.call("CHECK", newer).status == 0
        node.delete(newer)


def test_a_second_interface_is_refused(node: TestNode, pod: Pod) -> None:
    node.add(pod)
    outcome = node.call("ADD", pod, ifname="eth1")
    assert (outcome.code, "CNI_IFNAME" in outcome.message) == (4, True)
    assert node.call("CHECK", pod).status == 0


def test_an_interface_of_somebody_else_is_left_alone(node: TestNode, pod: Pod) -> None:
    node.in_pod(pod, "ip", "link", "add", "eth0", "type", "bridge")
    outcome = node.call("ADD", pod)
    assert (outcome.code, "CNI_IFNAME" in outcome.message) == (4, True)
    assert "bridge" in node.in_pod(pod, "ip", "-d", "link", "show", "eth0").stdout


# Older kernels rename only what is down already.
RENAMED = "ip link set eth0 down && ip link set eth0 name eth9"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (("ip", "addr", "del", "IPV4/32", "dev", "eth0"), "address 10.77.0."),
        (("ip", "-6", "addr", "del", "IPV6/128", "dev", "eth0"), "address fd00:77::"),
        (("ip", "route", "del", "default"), "route 0.0.0.0/0"),
        (("ip", "-6", "route", "del", "default"), "route ::/0"),
        (("ip", "neigh", "del", GATEWAY4, "dev", "eth0"), f"neighbour {GATEWAY4} at"),
        (("ip", "neigh", "del", GATEWAY6, "dev", "eth0"), f"neighbour {GATEWAY6} at"),
        (("ip", "link", "set", "eth0", "down"), "is down"),
        (("ip", "link", "set", "eth0", "address", "02:00:00:00:00:01"), "has MAC"),
        (("sh", "-c", RENAMED), "interface eth0 is gone"),
    ],
)
def test_check_names_what_changed_in_the_pod(
    node: TestNode, pod: Pod, damage: tuple[str, ...], named: str
) -> None:
    result = node.add(pod)
    assert node.call("CHECK", pod, {"prevResult": result}).status == 0
    ipv4, ipv6 = (ip["address"].split("/")[0] for ip in result["ips"])
    command = [part.replace("IPV4", ipv4).replace("IPV6", ipv6) for part in damage]
    done = node.in_pod(pod, *command)
    assert done.returncode == 0, done.stderr
    outcome = node.call("CHECK", pod, {"prevResult": result})
    assert outcome.code == 101
    assert named in outcome.output["details"]


def test_check_notices_a_result_of_another(node: TestNode, pod: Pod) -> None:
    result = node.add(pod)
    result["ips"][0]["address"] = "10.77.0.250/32"
    outcome = node.call("CHECK", pod, {"prevResult": result})
    assert (outcome.code, "prevResult" in outcome.output["details"]) == (101, True)


def test_check_of_the_unknown(node: TestNode, pod: Pod) -> None:
    assert node.call("CHECK", pod).code == 3


def test_gc_keeps_what_is_valid(node: TestNode, pod: Pod) -> None:
    with node.pod(name="gone") as other:
        node.add(pod)
        node.add(other)
        valid = [{"containerID": pod.container, "ifname": "eth0"}]
        outcome = node.call("GC", conf={"cni.dev/valid-attachments": valid})
        assert outcome.status == 0
        assert node.ports() == {pod.port} == node.links()
        # Another network's collection does not concern ours.
        outcome = node.call("GC", conf={"name": "other", "cni.dev/valid-attachments": []})
        assert outcome.status == 0
        assert node.ports() == {pod.port}


@pytest.mark.parametrize("conf", [{}, {"cni.dev/valid-attachments": None}])
def test_gc_without_a_list_removes_nothing_that_runs(node: TestNode, pod: Pod, conf: dict) -> None:
    node.add(pod)
    assert node.call("GC", conf=conf).status == 0
    assert node.ports() == {pod.port}


def test_status_of_a_node_that_is_ready(node: TestNode) -> None:
    # The database tells of a connection up to 5 s late.
    node.wait(lambda: node.call("STATUS").status == 0, "STATUS to succeed")


def test_many_at_once_get_addresses_of_their_own(node: TestNode) -> None:
    count = 32
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        pods = [stack.enter_context(node.pod(name=f"web-{i}")) for i in range(count)]
        results = list(pool.map(node.add, pods))
        assert len({address_of(result) for result in results}) == count
        assert node.ports() == {pod.port for pod in pods}
        list(pool.map(node.delete, pods))
    node.expect_nothing_left()


def test_the_same_add_many_times_at_once(node: TestNode, pod: Pod) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(node.add, [pod] * 8))
    assert all(result == results[0] for result in results)
    assert node.ports() == {pod.port}


def test_an_address_rests_before_it_is_used_again(node: TestNode, pod: Pod) -> None:
    first = address_of(node.add(pod))
    node.delete(pod)
    assert address_of(node.add(pod)) != first


def test_a_pod_cannot_go_round_the_switch(node: TestNode, pod: Pod) -> None:
    """With the userspace datapath the node's own stack sees a pod's packets as well."""
    result = node.add(pod)
    host_mac = result["interfaces"][0]["mac"]
    node.in_pod(pod, "ip", "neigh", "replace", GATEWAY4, "lladdr", host_mac, "dev", "eth0")
    assert node.in_pod(pod, "ping", "-c2", "-i0.2", "-W1", GATEWAY4).returncode != 0
    node.in_pod(pod, "ip", "neigh", "replace", GATEWAY6, "lladdr", host_mac, "dev", "eth0")
    assert node.in_pod(pod, "ping", "-c2", "-i0.2", "-W1", GATEWAY6).returncode != 0
    node.in_pod(pod, "ip", "neigh", "del", GATEWAY4, "dev", "eth0")
    asked = node.in_pod(pod, "arping", "-c2", "-w1", "-I", "eth0", "10.77.0.1").stdout
    assert host_mac not in asked.lower()
