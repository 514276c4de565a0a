"""Parts of the network killed, stopped and started again, under traffic and in the middle of work.

What runs goes on, nothing half-done stays, and whoever comes back changes only what differs.
"""

from __future__ import annotations

import contextlib
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from switch_state import ages, compare, desired, dump, expect_exact_flows, stamp

from ovsnet.names import GATEWAY_PORT, Table, port_name
from ovsnet.sandbox import netns
from ovsnet.sandbox.demo.continuity import PingStream, Traffic
from ovsnet.sandbox.kubelet.sandboxes import Target

TRY_AGAIN_LATER = 11
STEPS = ("begun", "addressed", "linked", "plugged", "configured", "answered")
REMOVING = ("removing", "unplugged", "unlinked")
_WRITTEN = re.compile(r'event="flows acknowledged" node=(\S+) .*written=(\d+)')


@pytest.fixture
def c1(whole: Lab) -> PodPlace:
    return whole.running(["c1"])["c1"]


@pytest.fixture
def c2(whole: Lab) -> PodPlace:
    return whole.running(["c2"])["c2"]


@pytest.fixture
def d1(whole: Lab) -> PodPlace:
    return whole.running(["d1"])["d1"]


@contextlib.contextmanager
def no_packet_lost(lab: Lab, source: PodPlace, target: PodPlace) -> Iterator[None]:
    """Pings every 20 ms, from pod to pod and from the target's node, of which none may be lost.

    To a pod on another node only in tests that make no pod: whenever a link appears or goes,
    userspace Open vSwitch reads its routes anew, and has none for the tunnel until it is done.
    """
    host = lab.host(target.node)
    lab.wait_for_links()
    for place in (source, host):
        place.run("ping", "-n", "-c", "3", "-i", "0.05", target.address(4), check=False)
    streams = [
        PingStream("pod to pod", source.netns, target.address(4)),
        PingStream("pod to pod, IPv6", target.netns, source.address(6)),
        PingStream("node to pod", host.netns, target.address(4)),
    ]
    with Traffic(streams) as traffic:
        yield
        for count in traffic.stop():
            assert count.sent > 0
            assert count.lost == 0, count


def written(lab: Lab, since: int) -> list[tuple[str, int]]:
    """How many messages the controller has written to whom."""
    found = _WRITTEN.findall(lab.log("controller", since))
    return [(name, int(count)) for name, count in found]


def reaches(source: PodPlace, target: PodPlace) -> bool:
    return all(
        source.run("ping", "-n", "-c", "1", "-W", "1", target.address(v), check=False).returncode
        == 0
        for v in (4, 6)
    )


def expect_reach(*pods: PodPlace) -> None:
    for source in pods:
        for target in pods:
            wait_for(lambda s=source, t=target: reaches(s, t), f"{source.name} to {target.name}")


def test_a_controller_that_is_killed_is_not_missed_and_rewrites_nothing(
    whole: Lab, c1: PodPlace, c2: PodPlace
) -> None:
    whole.wait_until_steady()
    before = {name: ages(whole, name) for name in whole.nodes}
    with no_packet_lost(whole, c1, c2):
        whole.kill("controller")
        since = whole.log_size("controller")
        host = whole.host("node1")
        host.run("ping", "-n", "-c", "10", "-i", "0.05", c1.address(4))
        whole.start("controller")
        whole.wait_until_steady()
    for name in whole.nodes:
        whole.wait_for_log("controller", f'event="switch is in step" node={name}', since)
        after = ages(whole, name)
        assert after.keys() == before[name].keys()
        assert all(after[flow] >= age for flow, age in before[name].items())
    assert written(whole, since) == []


def test_what_changed_while_the_controller_was_away_is_all_that_is_written(
    whole: Lab, c1: PodPlace, d1: PodPlace, c2: PodPlace
) -> None:
    whole.pods([("old", "node1")])
    whole.wait_until_steady()
    before = {name: ages(whole, name) for name in whole.nodes}
    with no_packet_lost(whole, c1, d1):
        whole.kill("controller")
        whole.delete_pods(["old"])
        whole.post_pod("new", "node1")
        since = whole.log_size("controller")
        whole.start("controller")
        new = whole.running(["new"])["new"]
        expect_reach(new, c1, c2)
    expect_exact_flows(whole)
    for name in whole.nodes:
        after = ages(whole, name)
        kept = before[name].keys() & after.keys()
        assert all(after[flow] >= before[name][flow] for flow in kept)
        gone, come = before[name].keys() - kept, after.keys() - kept
        if name == "node1":
            assert len(gone) == len(come) > 1
        else:
            assert not gone | come
    assert {name for name, _ in written(whole, since)} == {"node1"}


def test_without_a_controller_a_new_pod_is_cleanly_refused(whole: Lab, c1: PodPlace) -> None:
    before = whole.leftovers("node1")
    with whole.stopped("kubelet-node1"):
        uid = whole.post_pod("early", "node1")["metadata"]["uid"]
        target = whole.container("node1", NAMESPACE, "early", uid)
        with whole.stopped("controller"):
            refused = whole.plugin("node1", "ADD", target)
            assert (refused.status, refused.code) == (1, TRY_AGAIN_LATER)
            assert "controller" in refused.message
            left = whole.leftovers("node1")
            left["namespaces"] -= {target.netns.rsplit("/", 1)[-1]}
            assert left == before
        whole.wait_until_steady()
        assert whole.plugin("node1", "ADD", target).status == 0
        assert whole.plugin("node1", "DEL", target).status == 0
        netns.delete(target_path(target))
    assert whole.running(["early"])


def target_path(target: Target) -> Path:
    return Path(target.netns)


def test_a_switch_that_is_killed_gets_all_its_flows_back(
    whole: Lab, c1: PodPlace, c2: PodPlace
) -> None:
    digest = stamp(whole, "node1")
    whole.kill("ovs-vswitchd-node1")
    whole.start("ovs-vswitchd-node1")
    expect_exact_flows(whole)
    assert stamp(whole, "node1") == digest
    expect_reach(c1, c2)
    made = whole.pods([("after", "node1")])["after"]
    expect_reach(made, c1, c2)


def test_a_database_that_is_killed_disturbs_nothing(
    whole: Lab, c1: PodPlace, d1: PodPlace, c2: PodPlace
) -> None:
    before = ages(whole, "node1")
    with no_packet_lost(whole, c1, d1):
        whole.kill("ovsdb-server-node1")
        socket = whole.layout.node("node1").ovs / "db.sock"
        socket.unlink(missing_ok=True)
        whole.start("ovsdb-server-node1")
        wait_for(socket.is_socket, "the database's socket")
        made = whole.pods([("after", "node1")])["after"]
    expect_reach(made, c1, c2)
    after = ages(whole, "node1")
    assert all(after[flow] >= age for flow, age in before.items() if flow.table != Table.STAMP)


def test_an_agent_that_is_killed_takes_up_what_is_there(
    whole: Lab, c1: PodPlace, c2: PodPlace
) -> None:
    before, flows = whole.leftovers("node1"), ages(whole, "node1")
    since = whole.log_size("controller")
    with no_packet_lost(whole, c1, c2):
        whole.kill("agent-node1")
        whole.start("agent-node1")
        whole.wait_for_agent("node1")
    assert whole.leftovers("node1") == before
    after = ages(whole, "node1")
    assert after.keys() == flows.keys()
    assert all(after[flow] >= age for flow, age in flows.items())
    assert written(whole, since) == []


@pytest.mark.parametrize("step", STEPS)
def test_an_agent_that_dies_within_an_add_leaves_a_pod_that_works(
    whole: Lab, c1: PodPlace, c2: PodPlace, step: str
) -> None:
    before = whole.leftovers("node1")
    normal = whole.command("agent-node1")
    whole.agent_that_dies_at("node1", step)
    try:
        whole.wait_for_agent("node1")
        whole.post_pod("unlucky", "node1")
        wait_for(lambda: not whole.alive("agent-node1"), f"the agent to die at {step!r}")
    finally:
        whole.restart_with("agent-node1", *normal)
    made = whole.running(["unlucky"])["unlucky"]
    expect_reach(made, c1, c2)
    left = whole.leftovers("node1")
    port = port_name(NAMESPACE, "unlucky", made.uid)
    assert left["ports"] - before["ports"] == {port}
    assert left["veths"] - before["veths"] == {port}
    assert left["addresses"] == before["addresses"] + len((made.ipv4, made.ipv6))


@pytest.mark.parametrize("step", REMOVING)
def test_an_agent_that_dies_within_a_delete_leaves_nothing(
    whole: Lab, c1: PodPlace, step: str
) -> None:
    before = whole.leftovers("node1")
    whole.pods([("leaving", "node1")])
    normal = whole.command("agent-node1")
    whole.agent_that_dies_at("node1", step)
    try:
        whole.wait_for_agent("node1")
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/leaving"
        whole.api("DELETE", path, {"gracePeriodSeconds": 1})
        wait_for(lambda: not whole.alive("agent-node1"), f"the agent to die at {step!r}")
    finally:
        whole.restart_with("agent-node1", *normal)
    wait_for(
        lambda: whole.leftovers("node1") == before,
        lambda: f"nothing to be left; {whole.leftovers('node1')}",
    )


def test_flows_of_strangers_go_and_ours_come_back(whole: Lab, c1: PodPlace, c2: PodPlace) -> None:
    """The audit finds what somebody did by hand, mends exactly that, and says so."""
    whole.wait_until_steady()
    before = ages(whole, "node1")
    since = whole.log_size("controller")
    ofctl = ("ovs-ofctl", "-O", "OpenFlow15")
    for flow in (
        "table=0,priority=65535,ip,nw_dst=10.244.0.0/16 actions=NORMAL",
        "table=9,priority=50,ip actions=drop",
        "table=77,priority=1 actions=drop",
        "cookie=0x1234,table=5,priority=9,tcp,tp_dst=80,idle_timeout=600 actions=drop",
    ):
        whole.ovs("node1", *ofctl, "add-flow", "br-int", flow)
    whole.ovs("node1", *ofctl, "del-flows", "br-int", "table=2")
    whole.ovs(
        "node1", *ofctl, "mod-flows", "br-int", f"in_port={GATEWAY_PORT},table=0 actions=drop"
    )
    expect_exact_flows(whole)
    whole.wait_for_log("controller", "flows compared.*node=node1.*audit.*strangers=[1-9]", since)
    after = ages(whole, "node1")
    touched = {Table.CLASSIFY, Table.NEIGHBOUR, Table.ROUTE, Table.STAMP}
    assert all(after[f] >= age for f, age in before.items() if f.table not in touched)
    expect_reach(c1, c2)


def test_all_flows_deleted_by_hand_come_back(whole: Lab, c1: PodPlace, c2: PodPlace) -> None:
    whole.ovs("node1", "ovs-ofctl", "-O", "OpenFlow15", "del-flows", "br-int")
    expect_exact_flows(whole)
    expect_reach(c1, c2)


def test_while_the_api_server_is_silent_nothing_changes(
    whole: Lab, c1: PodPlace, c2: PodPlace
) -> None:
    whole.wait_until_steady()
    before = {name: ages(whole, name) for name in whole.nodes}
    since = whole.log_size("controller")
    with no_packet_lost(whole, c1, c2):
        with whole.silent_api_server():
            whole.kill("controller")
            whole.start("controller")
            whole.wait_for_log("controller", 'event="watch interrupted"', since)
        whole.wait_for_log("controller", "event=ready", since)
        whole.wait_until_steady()
    assert written(whole, since) == []
    for name in whole.nodes:
        after = ages(whole, name)
        assert after.keys() == before[name].keys()
        assert all(after[flow] >= age for flow, age in before[name].items())


def test_a_watch_that_has_expired_costs_exactly_the_difference(
    whole: Lab, c1: PodPlace, d1: PodPlace, c2: PodPlace
) -> None:
    """The controller sleeps, its watches are cut, and what it has missed is forgotten."""
    whole.pods([("old", "node1")])
    whole.wait_until_steady()
    before = ages(whole, "node1")
    since = whole.log_size("controller")
    with no_packet_lost(whole, c1, d1):
        whole.kill("controller", signal.SIGSTOP)
        try:
            with whole.forgotten():
                whole.delete_pods(["old"])
                whole.post_pod("new", "node1")
        finally:
            whole.kill("controller", signal.SIGCONT)
        new = whole.running(["new"])["new"]
        expect_reach(new, c1, c2)
    expect_exact_flows(whole)
    whole.wait_for_log("controller", "event=listed kind=Pod", since)
    after = ages(whole, "node1")
    assert all(after[f] >= before[f] for f in before.keys() & after.keys())
    assert {name for name, _ in written(whole, since)} == {"node1"}


def test_the_newest_sandbox_of_a_pod_wins_and_a_late_delete_touches_nothing_of_it(
    whole: Lab, c1: PodPlace, c2: PodPlace
) -> None:
    with whole.stopped("kubelet-node1"):
        uid = whole.post_pod("twice", "node1")["metadata"]["uid"]
        first = whole.container("node1", NAMESPACE, "twice", uid)
        second = whole.container("node1", NAMESPACE, "twice", uid)
        assert whole.plugin("node1", "ADD", first).status == 0
        once = whole.plugin("node1", "ADD", second)
        assert once.status == 0
        again = whole.plugin("node1", "ADD", second)
        assert (again.status, again.output) == (0, once.output)
        for _ in range(2):
            assert whole.plugin("node1", "DEL", first).status == 0
            netns.delete(target_path(first))
        address = once.output["ips"][0]["address"].split("/")[0]
        host = whole.host("node1")
        assert host.run("ping", "-n", "-c", "1", "-W", "2", address)
        assert c2.run("ping", "-n", "-c", "1", "-W", "2", address)
        expect_exact_flows(whole)
        for _ in range(2):
            assert whole.plugin("node1", "DEL", second).status == 0
            netns.delete(target_path(second))
        unknown = Target(uuid.uuid4().hex, "", NAMESPACE, "nobody", "")
        assert whole.plugin("node1", "DEL", unknown).status == 0
    whole.running(["twice"])


def test_a_pod_of_the_same_name_follows_at_once(whole: Lab, c1: PodPlace, c2: PodPlace) -> None:
    """Deleted by force and made anew before its kubelet has torn it down."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    whole.pods([("again", "node1")])
    for _ in range(3):
        whole.api("DELETE", f"{path}/again", {"gracePeriodSeconds": 0})
        made = whole.pods([("again", "node1")])["again"]
        expect_reach(made, c1, c2)


@pytest.mark.xfail(
    strict=True, reason="the agent lets the last ADD of a pod's name win, whichever pod it is for"
)
def test_a_late_add_of_a_pod_that_is_gone_takes_nothing_from_the_pod_that_followed(
    whole: Lab, c1: PodPlace
) -> None:
    """A kubelet still works on the pod that was deleted by force while its successor runs."""
    with whole.stopped("kubelet-node1"):
        uid = whole.post_pod("again", "node1")["metadata"]["uid"]
        late = whole.container("node1", NAMESPACE, "again", str(uuid.uuid4()))
        running = whole.container("node1", NAMESPACE, "again", uid)
        try:
            added = whole.plugin("node1", "ADD", running)
            assert added.status == 0
            assert whole.plugin("node1", "ADD", late).code == TRY_AGAIN_LATER
            address = added.output["ips"][0]["address"].split("/")[0]
            assert c1.run("ping", "-n", "-c", "1", "-W", "2", address)
        finally:
            for target in (late, running):
                whole.plugin("node1", "DEL", target)
                netns.delete(target_path(target))


def test_an_older_leader_cannot_write(whole: Lab, c1: PodPlace, c2: PodPlace) -> None:
    """A controller of a later term takes over; the one of the earlier term is shut out."""
    normal = whole.command("controller")
    since = whole.log_size("controller")
    try:
        whole.restart_with("controller", *normal, "--generation", "7")
        whole.wait_until_steady()
        assert written(whole, since) == []
        since = whole.log_size("controller")
        whole.restart_with("controller", *normal)
        for name in whole.nodes:
            whole.wait_for_log("controller", f"led by another.*node={name}", since)
        assert "switch admitted" not in whole.log("controller", since)
        for name, flows in desired(whole).items():
            assert compare(whole, name, flows).equal
    finally:
        whole.restart_with("controller", *normal, "--generation", "8")
    whole.wait_until_steady()
    expect_reach(c1, c2)


def test_the_switch_lets_nothing_pass_that_it_has_no_flows_for(whole: Lab, c1: PodPlace) -> None:
    """`fail_mode` is secure and stays so: without flows a bridge is no learning switch."""
    for name in whole.nodes:
        mode = whole.ovs(name, "ovs-vsctl", "--timeout=10", "get-fail-mode", "br-int").strip()
        assert mode == "secure"
        assert not [f for f in dump(whole, name) if "NORMAL" in str(f.flow.actions)]
