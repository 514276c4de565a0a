"""Parts that are missing: an ADD is refused within its deadline, says why, and leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest
from cni_node import CNI_PLUGINS, Pod, TestNode

from ovsnet import names


@pytest.fixture(scope="module")
def node() -> Iterator[TestNode]:
    with TestNode(options={"deadline": 1.5}) as started:
        started.start_agent()
        started.wait(lambda: connected(started), "the connection")
        yield started


def connected(node: TestNode) -> bool:
    """Whether a controller is connected, as the database tells, up to 5 s late."""
    rows = node.ovs.vsctl("--no-headings", "--columns=is_connected", "list", "Controller")
    return "true" in rows


@pytest.fixture
def refusing(node: TestNode) -> Iterator[TestNode]:
    node.let_in = lambda port: False
    yield node
    node.let_in = lambda port: True


def test_without_an_agent_the_answer_is_an_error_at_once(node: TestNode, pod: Pod) -> None:
    node.stop_agent()
    try:
        for verb, code in (("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)):
            outcome = node.call(verb, pod)
            assert (outcome.status, outcome.code) == (1, code)
            assert "the node agent is not running" in outcome.message
        version = node.call("VERSION", conf={"cniVersion": "0.4.0"})
        assert (version.status, version.output["cniVersion"]) == (0, "0.4.0")
        assert "1.1.0" in version.output["supportedVersions"]
    finally:
        node.start_agent()


def test_a_port_that_the_controller_refuses(refusing: TestNode, pod: Pod) -> None:
    outcome = refusing.call("ADD", pod)
    assert outcome.code == 11
    assert pod.port in outcome.message
    assert "`ovsnet status`" in outcome.message
    assert not refusing.leftovers()


def test_the_next_attempt_uses_another_name(refusing: TestNode, pod: Pod) -> None:
    second = names.port_name(pod.namespace, pod.name, pod.uid, 1)
    assert pod.port in refusing.call("ADD", pod).message
    refusing.let_in = lambda port: port == second
    assert refusing.add(pod)["interfaces"][0]["name"] == second
    refusing.delete(pod)
    # Success ends the count.
    refusing.let_in = lambda port: True
    assert refusing.add(pod)["interfaces"][0]["name"] == pod.port


def test_without_a_controller(node: TestNode, pod: Pod) -> None:
    """No pod starts, but the node stays ready: from one that is not, running pods are evicted."""
    node.stop_controller()
    try:
        node.wait(lambda: not connected(node), "the loss to be known")
        outcome = node.call("ADD", pod)
        assert outcome.code == 11
        assert "no connection to a controller (tcp:127.0.0.1:6653)" in outcome.message
        assert not node.leftovers()
        assert node.call("STATUS").status == 0
    finally:
        node.start_controller()
        node.wait(lambda: connected(node), "the connection")


def test_a_switch_that_nobody_has_programmed(node: TestNode) -> None:
    node.stop_controller()
    try:
        node.ovs.ofctl("del-flows", names.BRIDGE)
        outcome = node.call("STATUS")
        assert outcome.code == 50
        assert "no controller has programmed the switch yet" in outcome.message
    finally:
        node.start_controller()
        node.wait(lambda: connected(node), "the connection")
    node.wait(lambda: node.call("STATUS").status == 0, "STATUS to recover")


def test_running_pods_stay_when_the_controller_is_gone(node: TestNode, pod: Pod) -> None:
    node.add(pod)
    node.stop_controller()
    try:
        assert node.call("CHECK", pod).status == 0
    finally:
        node.start_controller()


def test_without_the_switch(node: TestNode, pod: Pod) -> None:
    node.ovs.stop_switch()
    try:
        outcome = node.call("ADD", pod)
        assert (outcome.code, "ovs-vswitchd" in outcome.message) == (11, True)
        assert node.call("STATUS").code == 51
        assert not node.leftovers()
    finally:
        node.ovs.start_switch()
        node.wait(lambda: node.call("STATUS").status == 0, "STATUS to recover")


def test_without_the_database(node: TestNode, pod: Pod) -> None:
    with node.pod(name="runs") as running:
        node.add(running)
        node.ovs.stop_server()
        try:
            outcome = node.call("ADD", pod)
            assert (outcome.code, "database" in outcome.message) == (11, True)
            # A pod can be deleted all the same: its pair is gone at once.
            node.delete(running)
            assert running.port not in node.links()
        finally:
            node.ovs.start_server()
        node.expect_nothing_left()
        node.wait(lambda: node.call("ADD", pod).status == 0, "ADD to work again")


def test_the_plugin_killed_while_it_waits(refusing: TestNode, pod: Pod) -> None:
    """Nobody waits for the answer any more, so the attempt is undone before its deadline."""
    process = subprocess.Popen(
        [refusing.plugin],
        env=pod.environment("ADD", (CNI_PLUGINS,)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b'{"cniVersion":"1.0.0","name":"ovsnet","type":"ovsnet"}')
    process.stdin.close()
    refusing.wait(lambda: pod.port in refusing.ports(), "the port")
    process.kill()
    process.wait()
    refusing.wait(lambda: "gave up" in refusing.log(), "the agent to notice")
    refusing.expect_nothing_left()


def test_the_agent_killed_while_the_plugin_waits(refusing: TestNode, pod: Pod) -> None:
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(refusing.call("ADD", pod)))
    waiting.start()
    refusing.wait(lambda: pod.port in refusing.ports(), "the port")
    refusing.stop_agent(signal.SIGKILL)
    waiting.join()
    assert (answers[0].status, answers[0].code) == (1, 11)
    assert "ended before it answered" in answers[0].message
    refusing.start_agent()
    refusing.expect_nothing_left()


def test_an_exhausted_range(node: TestNode) -> None:
    options = {"quarantine": 2.0, "deadline": 2.0}
    with TestNode(cidrs=("10.77.1.0/29",), options=options) as small, small.pod() as late:
        small.start_agent()
        with small.pod(name="a") as first:
            others = [first]
            small.add(first)
            for name in "bcd":
                other = Pod(first.netns, name=name)
                assert small.call("ADD", other, ifname=f"eth{name}").status == 0
                others.append(other)
            outcome = small.call("ADD", late)
            assert outcome.code == 11
            assert "10.77.1.0/29" in outcome.message
            assert "of 4, 4 are in use and 0 in quarantine" in outcome.message
            assert small.call("STATUS").status == 0
            assert small.call("DEL", others[1], ifname="ethb").status == 0
            # The address counts as in use until the link, which goes in the background, is gone.
            small.wait(
                lambda: "3 are in use and 1 in quarantine" in small.call("ADD", late).message,
                "the link to go",
            )
            small.wait(lambda: small.call("ADD", late).status == 0, "quarantine to end")
            for other, name in zip(others, ["0", "b", "c", "d"], strict=True):
                small.call("DEL", other, ifname=f"eth{name}")
            small.delete(late)
        small.expect_nothing_left()


def test_a_node_without_podcidr() -> None:
    """The API server does not answer, so nothing is known."""
    with TestNode() as unknown, unknown.pod() as pod:
        kubeconfig = unknown.directory / "kubeconfig"
        kubeconfig.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
            "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
        )
        unknown.options |= {"pod_cidrs": [], "kubeconfig": str(kubeconfig)}
        unknown.start_agent(ready=False)
        unknown.wait(unknown.plugin.exists, "the plugin")
        unknown.wait(lambda: "podCIDR" in unknown.call("ADD", pod).message, "the reason")
        outcome = unknown.call("ADD", pod)
        assert (outcome.code, "node-1" in outcome.message) == (11, True)
        assert unknown.call("STATUS").code == 50
        assert not any(unknown.conf_dir.glob("*"))
