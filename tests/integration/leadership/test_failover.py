"""Several controllers, of which one leads: what becomes of the network when that one is gone."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from places import PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from switch_state import ages, expect_exact_flows

from ovsnet.sandbox import state
from ovsnet.sandbox.demo.continuity import PingStream, Traffic

pytestmark = pytest.mark.timeout(300)

_WRITTEN = re.compile(r'event="flows acknowledged" node=(\S+) .*written=(\d+)')
_POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
_CLOSED = {"metadata": {"name": "closed"}, "spec": {"podSelector": {"matchLabels": {"x": "y"}}}}


@contextlib.contextmanager
def no_packet_lost(lab: Lab, pods: dict[str, PodPlace]) -> Iterator[None]:
    """Pings every 20 ms, of which none may be lost, between pods of one node and of two."""
    lab.wait_for_links()
    c1, d1, c2 = (pods[name] for name in ("c1", "d1", "c2"))
    for source, target in ((c1, d1), (c1, c2)):
        source.run("ping", "-n", "-c", "3", "-i", "0.05", target.address(4), check=False)
    streams = [
        PingStream("on one node", c1.netns, d1.address(4)),
        PingStream("between nodes", c1.netns, c2.address(4)),
        PingStream("node to pod", lab.host("node2").netns, c2.address(4)),
    ]
    with Traffic(streams) as traffic:
        yield
        for count in traffic.stop():
            assert count.sent > 0
            assert count.lost == 0, count


@contextlib.contextmanager
def no_pod_comes_or_goes(lab: Lab, pods: dict[str, PodPlace]) -> Iterator[None]:
    """As `no_packet_lost`, and no flow of any switch may be written anew."""
    before = {name: ages(lab, name) for name in lab.nodes}
    with no_packet_lost(lab, pods):
        yield
    for name in lab.nodes:
        after = ages(lab, name)
        assert after.keys() == before[name].keys()
        assert all(after[flow] >= age for flow, age in before[name].items())


@contextlib.contextmanager
def flow_changes(lab: Lab, name: str) -> Iterator[list[str]]:
    """Every change of a switch's flows, as lines, from the beginning of the context to its end."""
    seen: list[str] = []
    with tempfile.TemporaryFile("w+") as out:
        monitor = subprocess.Popen(
            ["ovs-ofctl", "-O", "OpenFlow15", "monitor", "br-int", "watch:"],
            env=dict(lab.environment(name)),
            stdout=out,
            stderr=out,
        )

        def lines() -> list[str]:
            out.seek(0)
            return [line for line in out.read().splitlines() if "event=" in line]

        try:
            # It begins with all flows that there are.
            wait_for(lines, "the switch to begin to tell of its flows")
            yield seen
        finally:
            monitor.terminate()
            monitor.wait()
            seen += [line for line in lines() if "event=INITIAL" not in line]


def written(lab: Lab, replica: str, since: int) -> list[tuple[str, int]]:
    found = _WRITTEN.findall(lab.log(replica, since))
    return [(name, int(count)) for name, count in found]


def test_one_leads_and_the_others_know_all_it_knows(replicated, pods) -> None:
    lab = replicated.lab
    leader = replicated.wait_for_leader()
    assert replicated.leaders() == [leader]
    documents = {replica: replicated.status(replica) for replica in replicated.replicas}
    terms = {document["leadership"]["term"] for document in documents.values()}
    assert terms == {replicated.lease()["leaseTransitions"] + 1}
    leading = {document["leadership"]["leader"] for document in documents.values()}
    assert leading == {documents[leader]["leadership"]["identity"]}
    assert {replicated.metric(r, "ovsnet_leader") for r in replicated.replicas} == {0.0, 1.0}
    for name in lab.nodes:
        others = {replicated.target(each): "slave" for each in replicated.replicas}
        expected = others | {replicated.target(leader): "master"}
        # The database has it every 5 s.
        wait_for(
            lambda name=name, expected=expected: replicated.roles(name) == expected,
            lambda name=name: f"{name} to have one master: {replicated.roles(name)}",
        )

    def same_everywhere() -> bool:
        known = [replicated.status(replica) for replica in replicated.replicas]
        told = [
            [(n["name"], n["flows"], n["ports"], n["refused"]) for n in each["nodes"]]
            for each in known
        ]
        return told[0] == told[1] == told[2]

    wait_for(same_everywhere, "all controllers to know the same")
    for replica in set(replicated.replicas) - {leader}:
        assert replicated.get(replica, "/readyz") == (200, b"ok\n")
        assert replicated.get(replica, "/healthz") == (200, b"ok\n")
        code, body = replicated.get(replica, "/why?source=lab/c1&destination=lab/c2")
        assert code == 503
        said = json.loads(body)["error"]
        assert f"kubectl -n ovsnet-system exec {leader} -- ovsnet why" in said


def test_a_leader_that_is_killed_is_not_missed_and_nothing_is_written(replicated, pods) -> None:
    lab = replicated.lab
    old = replicated.wait_for_leader()
    term = replicated.lease()["leaseTransitions"]
    marks = {replica: lab.log_size(replica) for replica in replicated.replicas}
    with no_pod_comes_or_goes(lab, pods):
        lab.kill(old)
        new = replicated.wait_for_leader(old)
    assert replicated.lease()["leaseTransitions"] == term + 1
    for name in lab.nodes:
        lab.wait_for_log(new, f'event="switch is in step" node={name}', marks[new])
    assert written(lab, new, marks[new]) == []
    # One that is started anew finds a leader, and leaves it alone.
    with no_pod_comes_or_goes(lab, pods):
        lab.start(old)
        replicated.wait_until_warm(old)
    assert replicated.leaders() == [new]
    lab.pods([("late", "node1")])
    expect_exact_flows(lab)


def test_a_leader_that_ends_hands_over(replicated, pods) -> None:
    lab = replicated.lab
    old = replicated.wait_for_leader()
    mark = lab.log_size(old)
    with no_pod_comes_or_goes(lab, pods):
        replicated.end_gracefully(old)
        new = replicated.wait_for_leader(old)
    assert "lease released" in lab.log(old, mark)
    assert replicated.leaders() == [new]


def test_pods_that_come_while_nobody_leads_get_their_network(replicated, pods) -> None:
    lab = replicated.lab
    old = replicated.wait_for_leader()
    lab.kill(old)
    lab.post_pod("orphan", "node1")
    lab.post_pod("other", "node2")
    lab.delete_pods(["other"])
    new = replicated.wait_for_leader(old)
    found = lab.running(["orphan"])
    pods["c1"].run("ping", "-n", "-c", "3", "-i", "0.05", found["orphan"].address(4))
    assert replicated.leaders() == [new]
    expect_exact_flows(lab)


@pytest.mark.parametrize("connected", [True, False], ids=["connections live on", "all are cut"])
def test_an_old_leader_that_wakes_up_writes_nothing(replicated, pods, connected) -> None:
    """While it is stopped, another takes over, and policies and pods change."""
    lab = replicated.lab
    old = replicated.wait_for_leader()
    lab.pods([("going", "node1")])
    replicated.wait_for_leader()
    mark = lab.log_size(old)
    with no_packet_lost(lab, pods), contextlib.ExitStack() as watching:
        with replicated.paused(old):
            new = replicated.wait_for_leader(old)
            lab.api("POST", _POLICIES, _CLOSED)
            isolated = {"metadata": {"labels": {"x": "y"}}}
            lab.api("PATCH", f"/api/v1/namespaces/{NAMESPACE}/pods/going", isolated, kind="merge")
            lab.wait_for_log(new, 'event="flows acknowledged" node=node1', 0)
            expect_exact_flows(lab)
            if not connected:
                target = replicated.target(old)
                for name in lab.nodes:
                    wait_for(
                        lambda name=name: not replicated.roles(name)[target],
                        f"the switch of {name} to give its old leader up",
                        60,
                    )
            seen = {n: watching.enter_context(flow_changes(lab, n)) for n in lab.nodes}
        replicated.wait_until_warm(old)
        # What it might have sent before it knew has arrived by then.
        time.sleep(1)
        watching.close()
        assert seen == {name: [] for name in lab.nodes}
        expect_exact_flows(lab)
        # Such a watch sees what is written, as the new leader does now.
        with flow_changes(lab, "node1") as changes:
            lab.api("DELETE", f"{_POLICIES}/closed")
            expect_exact_flows(lab)
    assert changes
    assert "flows acknowledged" not in lab.log(old, mark)
    assert replicated.leaders() == [new]
    lab.delete_pods(["going"])
    expect_exact_flows(lab)


def test_a_leader_goes_on_while_the_api_server_is_away(replicated, pods) -> None:
    lab = replicated.lab
    leader = replicated.wait_for_leader()
    term = replicated.lease()["leaseTransitions"]
    marks = {replica: lab.log_size(replica) for replica in replicated.replicas}
    with no_pod_comes_or_goes(lab, pods):
        with replicated.paused(state.API_SERVER):
            for replica in replicated.replicas:
                lab.wait_for_log(replica, "lease cannot be looked after", marks[replica])
            # Longer than the Lease lasts.
            time.sleep(4)
            assert replicated.leaders() == [leader]
            # What happens on a node it still answers.
            assert replicated.status(leader)["nodes"][0]["session"] == "steady"
        for replica in replicated.replicas:
            lab.wait_for_log(replica, "lease can be looked after again", marks[replica])
        time.sleep(4)
    assert replicated.leaders() == [leader]
    assert replicated.lease()["leaseTransitions"] == term


def test_a_lease_that_is_deleted_comes_back_with_a_later_term(replicated, pods) -> None:
    lab = replicated.lab
    before = replicated.lease()["leaseTransitions"]
    with no_pod_comes_or_goes(lab, pods):
        replicated.delete_lease()

        def back() -> bool:
            with contextlib.suppress(Exception):
                return replicated.lease()["leaseTransitions"] > before
            return False

        wait_for(back, "a new Lease")
        replicated.wait_for_leader()
        # If another made it, the old leader has yet to look.
        wait_for(lambda: len(replicated.leaders()) == 1, lambda: f"{replicated.statuses()}")


def test_switches_that_have_seen_a_later_term_than_any_lease_are_led_again(
    replicated, pods
) -> None:
    """As when everything in the cluster is installed anew, and the switches have lived on."""
    lab = replicated.lab
    before = replicated.lease()["leaseTransitions"]
    for replica in replicated.replicas:
        lab.kill(replica)
    replicated.delete_lease()
    with no_packet_lost(lab, pods):
        for replica in replicated.replicas:
            lab.start(replica)
        replicated.mend()
    assert replicated.lease()["leaseTransitions"] > before
    expect_exact_flows(lab)


def test_agents_follow_the_service(replicated, pods) -> None:
    """A controller that is taken away and comes back costs the others not even a connection."""
    lab = replicated.lab
    leader = replicated.wait_for_leader()
    gone = next(replica for replica in replicated.replicas if replica != leader)
    mark = lab.log_size(leader)
    with no_pod_comes_or_goes(lab, pods):
        replicated.withdraw(gone)
        for name in lab.nodes:
            wait_for(
                lambda name=name: replicated.target(gone) not in replicated.roles(name),
                f"the switch of {name} to forget {gone}",
            )
        # An agent that starts while the API server is away knows those that it knew.
        with replicated.paused(state.API_SERVER):
            lab.kill("agent-node1")
            lab.start("agent-node1")
            lab.wait_for_agent("node1")
            assert len(replicated.roles("node1")) == len(replicated.replicas) - 1
        replicated.publish(gone)
        replicated.wait_until_warm(gone)
    assert "switch lost" not in lab.log(leader, mark)
    assert replicated.leaders() == [leader]

    def settled() -> bool:
        return all(
            node["revision"]["settled"] == node["revision"]["desired"]
            for node in replicated.status(leader)["nodes"]
        )

    wait_for(settled, "the agents' reports to reach the leader")
