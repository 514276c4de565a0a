"""What the agent finds when it starts, and what it keeps in shape while it runs."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys

import datapath
import pytest
from cni_node import Pod, TestNode

from ovsnet import names
from ovsnet.sandbox.openvswitch import inside

COMPLETE = (
    *("10.77.0.1", "fd00:77::1", "169.254.1.1", "10.77.0.0/16 via", "10.96.0.0/12 via"),
    *("fd00:10:96::/112 via", "default via 169.254.1.1", "default via fe80", "lookup 28534"),
    *("iifgroup", "dnat ip6 to", "tcp reset", "masquerade"),
)


def works(node: TestNode, pod: Pod) -> bool:
    return node.call("CHECK", pod).status == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pods_run_on_over_a_restart(node: TestNode, pod: Pod, number: int) -> None:
    before = node.add(pod)
    rows = node.ovs.vsctl("--columns=_uuid", "list", "Bridge", names.BRIDGE)
    rows += node.ovs.vsctl("--columns=_uuid", "list", "Controller")
    node.stop_agent(number)
    logged = len(node.log())
    node.start_agent()
    assert works(node, pod)
    assert node.add(pod) == before
    # Neither the bridge nor its controllers were written anew, nor the node's own addresses.
    assert rows == node.ovs.vsctl(
        "--columns=_uuid", "list", "Bridge", names.BRIDGE
    ) + node.ovs.vsctl("--columns=_uuid", "list", "Controller")
    assert "bridge configured" not in node.log()[logged:]
    assert "gateway configured" not in node.log()[logged:]


def test_pods_whose_records_were_lost_are_taken_in(node: TestNode, pod: Pod) -> None:
    before = node.add(pod)
    node.stop_agent()
    for file in node.state.parent.glob("agent.db*"):
        file.unlink()
    node.start_agent()
    assert works(node, pod)
    assert node.add(pod) == before
    with node.pod(name="next") as other:
        assert node.add(other)["ips"] != before["ips"]
        node.delete(other)


def test_pods_that_ended_meanwhile_are_removed(node: TestNode) -> None:
    with node.pod() as pod:
        node.add(pod)
        node.stop_agent()
    node.start_agent()
    node.expect_nothing_left()


def test_pods_of_before_a_reboot_are_removed(node: TestNode) -> None:
    """After a reboot the database lists ports whose pairs are gone, and records say they run."""
    with node.pod() as pod:
        node.add(pod)
        node.stop_agent()
    with contextlib.closing(sqlite3.connect(node.state)) as db:
        db.execute("UPDATE attachment SET boot_id = 'another'")
        db.commit()
    node.start_agent()
    node.expect_nothing_left()


def test_a_port_taken_off_the_bridge_is_put_back(node: TestNode, pod: Pod) -> None:
    node.add(pod)
    node.ovs.vsctl("del-port", names.BRIDGE, pod.port)
    node.wait(lambda: works(node, pod), "the port to come back")


def test_the_ports_of_others_are_left_alone(node: TestNode) -> None:
    node.run("ip", "link", "add", "stranger", "type", "veth", "peer", "name", "stranger-p")
    try:
        node.ovs.vsctl("add-port", names.BRIDGE, "stranger")
        node.wait(lambda: 'event="port is not ours' in node.log(), "the warning")
        assert "stranger" in node.ports()
        node.ovs.vsctl("del-port", names.BRIDGE, "stranger")
    finally:
        node.run("ip", "link", "delete", "stranger")


def test_a_new_switch_daemon_gets_the_gateway_back(node: TestNode, pod: Pod) -> None:
    """With the userspace datapath the gateway's interface ends with ovs-vswitchd."""
    node.add(pod)
    node.ovs.stop_switch()
    node.ovs.start_switch()
    node.wait(lambda: "10.77.0.0/16 via" in node.run("ip", "route"), "the route")
    assert "10.77.0.1/32" in node.run("ip", "addr", "show", names.GATEWAY_PORT)


@pytest.mark.parametrize(
    ("damage", "repaired"),
    [
        (("nft", "flush", "ruleset"), ("nft", "list", "chain", "inet", "ovsnet", "wall")),
        (("nft", "delete", "chain", "inet", "ovsnet", "postrouting"), ("nft", "list", "chain",
         "inet", "ovsnet", "postrouting")),
        (("nft", "flush", "chain", "inet", "ovsnet", "node_ports"), ()),
        (("nft", "flush", "chain", "inet", "ovsnet", "refusals"), ()),
        (("nft", "add", "rule", "inet", "ovsnet", "answers", "accept"), ()),
        (("ip", "route", "del", "10.77.0.0/16"), ("ip", "route", "get", "10.77.1.1")),
        (("ip", "route", "del", "10.96.0.0/12"), ("ip", "route", "get", "10.96.0.1")),
        (("ip", "-6", "route", "del", "fd00:10:96::/112"), ()),
        (("ip", "route", "flush", "table", "28534"), ()),
        (("ip", "-6", "route", "flush", "table", "28534"), ()),
        (("ip", "rule", "del", "pref", "97"), ()),
        (("ip", "-6", "rule", "del", "pref", "97"), ()),
        (("ip", "rule", "add", "from", "10.77.0.9", "pref", "5", "lookup", "28534"), ()),
        (("sysctl", "-qw", "net.ipv4.conf.ovsnet-gw0.rp_filter=1"), ()),
        (("ip", "addr", "del", "10.77.0.1/32", "dev", "ovsnet-gw0"), ()),
        (("ip", "neigh", "del", "169.254.1.1", "dev", "ovsnet-gw0"), ()),
        (("ip", "link", "set", "ovsnet-gw0", "down"), ()),
    ],
)  # fmt: skip
def test_what_others_undo_is_done_again(
    node: TestNode, damage: tuple[str, ...], repaired: tuple[str, ...]
) -> None:
    def state() -> str:
        shown = node.run("ip", "-j", "addr", "show", "ovsnet-gw0")
        link = json.loads(shown)[0]
        addresses = sorted(a["local"] for a in link["addr_info"])
        neighbours = node.run("ip", "neigh", "show", "dev", "ovsnet-gw0", "nud", "permanent")
        routes = [
            node.run("ip", version, "route", "show", "table", "all", "dev", "ovsnet-gw0")
            for version in ("-4", "-6")
        ]
        rules = node.run("ip", "rule") + node.run("ip", "-6", "rule")
        table = node.run("nft", "list", "ruleset")
        setting = node.run("sysctl", "net.ipv4.conf.ovsnet-gw0.rp_filter")
        seen = (addresses, neighbours, routes, rules, table, setting)
        return repr((link["mtu"], link["operstate"], *seen))

    node.wait(lambda: all(part in state() for part in COMPLETE), "the node to be whole")
    before = state()
    # Held still meanwhile, for the agent may repair the damage before anybody has seen it.
    with node.agent_held():
        node.run(*damage)
        assert state() != before
    node.wait(lambda: state() == before, f"the repair of {damage}")
    if repaired:
        node.run(*repaired)


def test_a_repair_touches_nothing_else(node: TestNode) -> None:
    logged = len(node.log())
    with node.agent_held():
        node.run("ip", "rule", "del", "pref", "97")
    node.wait(lambda: "28534" in node.run("ip", "rule"), "the rule")
    changes = [line for line in node.log()[logged:].splitlines() if "logger=keeper" in line]
    assert len(changes) == 1
    (change,) = changes
    assert change.endswith('changes="add rule IPv4 97: fwmark 0x1000/0x1000 iif lo lookup 28534"')


def test_ranges_that_are_not_configured_any_more_lose_their_routes(node: TestNode) -> None:
    node.stop_agent()
    node.options["services"] = ["10.96.0.0/16"]
    try:
        node.start_agent()
        routes = node.run("ip", "route") + node.run("ip", "-6", "route")
        assert "10.96.0.0/16 via" in routes
        assert "10.96.0.0/12" not in routes
        assert "fd00:10:96::" not in routes
        assert "ip6 daddr { fd00:10:96" not in node.run("nft", "list", "table", "inet", "ovsnet")
    finally:
        node.stop_agent()
        del node.options["services"]
        node.start_agent()
    assert "10.96.0.0/12 via" in node.run("ip", "route")


def test_the_network_of_another_device_is_not_cut_off(node: TestNode) -> None:
    """Whoever lists the network between the nodes as external would lose the node."""
    node.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "lan-p")
    node.run("ip", "addr", "add", "198.18.5.1/24", "dev", "lan")
    node.run("ip", "link", "set", "lan", "up")
    node.stop_agent()
    node.options["external"] = ["198.18.5.0/24"]
    try:
        node.start_agent(ready=False)
        node.wait(lambda: "198.18.5.0/24, of cluster_cidrs" in node.log(), "the reason")
        assert "198.18.5.0/24 dev lan proto kernel" in node.run("ip", "route")
    finally:
        node.stop_agent()
        del node.options["external"]
        node.run("ip", "link", "delete", "lan")
        node.start_agent()


def test_the_network_configuration_is_written_again(node: TestNode) -> None:
    path = next(node.conf_dir.glob("*"))
    text = path.read_text()
    path.unlink()
    node.wait(path.exists, "the file")
    assert path.read_text() == text


def test_the_configuration_waits_for_the_controller() -> None:
    with TestNode(controller=False) as lonely:
        lonely.start_agent()
        lonely.wait(lambda: "not programmed the switch" in lonely.log(), "the reason")
        assert not any(lonely.conf_dir.glob("*"))
        lonely.start_controller()
        lonely.wait(lambda: any(lonely.conf_dir.glob("*")), "the configuration")


def test_the_bridge_is_as_it_must_be(node: TestNode) -> None:
    def get(*columns: str) -> list[str]:
        return node.ovs.vsctl("get", "Bridge", names.BRIDGE, *columns).split("\n")[:-1]

    present = get("fail_mode", "protocols", "datapath_type")
    assert present == ["secure", "[OpenFlow15]", datapath.TYPE]
    other = "other_config:"
    assert get(f"{other}datapath-id", f"{other}dp-desc", f"{other}disable-in-band") == [
        f'"{names.datapath_id("node-1"):016x}"',
        "node-1",
        '"true"',
    ]
    shown = node.ovs.ofctl("dump-flows", names.BRIDGE, "--names")
    assert "classify" in node.ovs.vsctl("list", "Flow_Table"), shown


def test_a_bridge_that_others_changed_is_corrected(node: TestNode) -> None:
    node.ovs.vsctl("set-fail-mode", names.BRIDGE, "standalone")
    node.ovs.vsctl("set-controller", names.BRIDGE, "tcp:192.0.2.1:6653")
    node.wait(lambda: node.ovs.vsctl("get-fail-mode", names.BRIDGE) == "secure\n", "fail_mode")
    node.wait(
        lambda: node.ovs.vsctl("get-controller", names.BRIDGE) == "tcp:127.0.0.1:6653\n",
        "the controller",
    )


def test_a_second_agent_on_the_same_socket_does_not_start(node: TestNode) -> None:
    config = str(node.directory / "agent.toml")
    command = [sys.executable, "-m", "ovsnet.cni.agent", "--config", config]
    done = subprocess.run(
        inside(node.netns, command), capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert "another agent listens" in done.stderr
    assert node.call("VERSION").status == 0
