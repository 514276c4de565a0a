"""Limits of a pod's bandwidth, which the runtime hands on as a capability."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from cni_node import Pod, TestNode

from ovsnet import names
from ovsnet.cni import netns as namespaces

RATE = 8_000_000
BYTES = 3_000_000
LEAST_SECONDS = 2.0
"""For so many bytes at that rate, less what may come at once. No machine is too slow for that."""

INTO, OUT = {"ingressRate": RATE}, {"egressRate": RATE}


def limited(bandwidth: dict[str, Any]) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "runtimeConfig": {"bandwidth": bandwidth}}


def within(pod: Pod, action: Callable[[], socket.socket]) -> socket.socket:
    fd = os.open(f"/run/netns/{pod.netns}", os.O_RDONLY)
    try:
        with namespaces.entered(fd):
            return action()
    finally:
        os.close(fd)


def seconds(sender: Pod, receiver: Pod, address: str) -> float:
    """How long a transfer of `BYTES` from one pod to another takes."""
    with within(receiver, lambda: socket.create_server((address, 0))) as listener:
        to = listener.getsockname()
        near = within(sender, lambda: socket.create_connection(to, 10))
        far, _ = listener.accept()
    began = time.monotonic()

    def send() -> None:
        with near:
            near.sendall(bytes(BYTES))

    sending = threading.Thread(target=send)
    sending.start()
    got = 0
    with far:
        while data := far.recv(1 << 16):
            got += len(data)
    sending.join()
    assert got == BYTES
    return time.monotonic() - began


def address(result: dict[str, Any]) -> str:
    return str(result["ips"][0]["address"].split("/")[0])


def limits(node: TestNode) -> str:
    return node.ovs.vsctl("--columns=external_ids", "--no-headings", "list", "QoS")


def test_both_directions_are_limited(node: TestNode, pod: Pod) -> None:
    mine = address(node.add(pod, limited(INTO | OUT)))
    with node.pod(name="other") as other:
        its = address(node.add(other))
        assert seconds(pod, other, its) > LEAST_SECONDS
        assert seconds(other, pod, mine) > LEAST_SECONDS
        node.delete(other)
    assert pod.port in limits(node)
    node.delete(pod)
    assert limits(node) == ""


@pytest.mark.parametrize("bandwidth", [{}, OUT, INTO], ids=["none", "out", "into"])
def test_only_what_is_asked_for(node: TestNode, pod: Pod, bandwidth: dict[str, Any]) -> None:
    node.add(pod, limited(bandwidth))
    into = node.run("tc", "qdisc", "show", "dev", pod.port)
    out = node.in_pod(pod, "tc", "qdisc", "show", "dev", "eth0").stdout
    assert ("htb" in into, "tbf" in out) == (bandwidth == INTO, bandwidth == OUT)


def test_the_limit_stays_when_the_switch_is_started_anew(node: TestNode, pod: Pod) -> None:
    node.add(pod, limited(INTO | OUT))
    assert node.ovs.switch_pid is not None
    os.kill(node.ovs.switch_pid, signal.SIGKILL)
    node.ovs.stop_switch()
    node.ovs.start_switch()
    assert "htb" in node.run("tc", "qdisc", "show", "dev", pod.port)
    assert "tbf" in node.in_pod(pod, "tc", "qdisc", "show", "dev", "eth0").stdout


def test_the_limit_comes_back_with_a_port_that_somebody_removes(node: TestNode, pod: Pod) -> None:
    node.add(pod, limited(INTO))
    node.ovs.vsctl("del-port", names.BRIDGE, pod.port)
    node.wait(lambda: pod.port in node.ports(), "the port to be put back")
    node.wait(
        lambda: "htb" in node.run("tc", "qdisc", "show", "dev", pod.port), "the limit to be back"
    )


def test_no_limit_stays_of_a_port_that_is_gone_already(node: TestNode, pod: Pod) -> None:
    node.add(pod, limited(INTO))
    with node.agent_held():
        node.ovs.vsctl("del-port", names.BRIDGE, pod.port)
    node.delete(pod)
    node.wait(lambda: limits(node) == "", "the limit to go")


def test_a_limit_that_makes_no_sense(node: TestNode, pod: Pod) -> None:
    outcome = node.call("ADD", pod, limited({"ingressRate": "10M"}))
    assert outcome.code == 7
    assert "runtimeConfig.bandwidth.ingressRate" in outcome.message
    assert not node.leftovers()
