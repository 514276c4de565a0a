"""Health checks of services as they come from the switch, in a node with its agent."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest
from cni_node import Pod, TestNode
from host_side import GATEWAY, OWN, RANGES, HostSide, host_side
from places import Place

from ovsnet import names
from ovsnet.cni.health import MOST

VERSIONS = (4, 6)
ANSWERS = {names.HEALTHY_PORT: 200, names.UNHEALTHY_PORT: 503}


@pytest.fixture(scope="module")
def side() -> Iterator[HostSide]:
    with host_side() as made:
        yield made


@pytest.fixture
def asker(side: HostSide) -> Iterator[Place]:
    """A pod that reaches the gateway, and it alone."""
    with side.node.pod() as pod:
        place = _attached(side.node, pod)
        _let_through(side.node, place)
        yield place
        side.node.delete(pod)


def _attached(node: TestNode, pod: Pod) -> Place:
    result = node.add(pod)
    ipv4, ipv6 = (ip["address"].split("/")[0] for ip in result["ips"])
    place = Place(
        pod.port, Path("/run/netns", pod.netns), "eth0", ip_address(ipv4), ip_address(ipv6)
    )
    # The stand-in answers ARP alone, and a new switch daemon not even that.
    for address in GATEWAY.values():
        place.run("ip", "neigh", "replace", address, "lladdr", names.ROUTER_MAC, "dev", "eth0")
    return place


def _let_through(node: TestNode, pod: Place) -> None:
    """Flows to the gateway and back, as the controller has them."""
    to_gateway = f"set_field:{RANGES.gateway.pod_mac}->eth_dst,output:{names.GATEWAY_OFPORT}"
    number = node.ovs.vsctl("get", "Interface", pod.name, "ofport").strip()
    mac = names.pod_mac(int(pod.ipv4))
    for flow in (
        f"priority=6,ip,nw_dst={GATEWAY[4]} actions={to_gateway}",
        f"priority=6,ipv6,ipv6_dst={GATEWAY[6]} actions={to_gateway}",
        f"priority=6,ip,nw_dst={pod.ipv4} actions=set_field:{mac}->eth_dst,output:{number}",
        f"priority=6,ipv6,ipv6_dst={pod.ipv6} actions=set_field:{mac}->eth_dst,output:{number}",
    ):
        node.ovs.ofctl("add-flow", names.BRIDGE, flow)


def ask(place: Place, address: str, port: int) -> tuple[int, bytes]:
    def get() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(address, port, timeout=20)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    return place.within(get)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("port", ANSWERS)
def test_the_switch_gets_an_answer(asker: Place, version: int, port: int) -> None:
    status, body = ask(asker, GATEWAY[version], port)
    assert status == ANSWERS[port]
    assert json.loads(body)["hasLocalEndpoints"] is (status == 200)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("port", ANSWERS)
def test_others_do_not_get_one(side: HostSide, version: int, port: int) -> None:
    for place, address in (
        (side.client, GATEWAY[version]),
        (side.client, OWN[version]),
        (side.here, OWN[version]),
    ):
        with pytest.raises(ConnectionRefusedError):
            ask(place, address, port)


def test_another_device_of_the_same_name(side: HostSide, asker: Place) -> None:
    logged = len(side.node.log())
    side.node.ovs.stop_switch()
    side.node.run("ip", "link", "delete", names.GATEWAY_PORT)
    side.node.ovs.start_switch()
    side.node.wait(lambda: "gateway configured" in side.node.log()[logged:], "the gateway")
    for version in VERSIONS:
        for port, status in ANSWERS.items():

            def answered(version: int = version, port: int = port, status: int = status) -> bool:
                _let_through(side.node, asker)
                try:
                    return ask(asker, GATEWAY[version], port)[0] == status
                except OSError:
                    return False

            side.node.wait(answered, f"{port} of {GATEWAY[version]}")


def test_a_pod_that_holds_connections_open(side: HostSide, asker: Place) -> None:
    def opened() -> list[socket.socket]:
        return [
            socket.create_connection((GATEWAY[4], names.HEALTHY_PORT), 20) for _ in range(2 * MOST)
        ]

    def threads() -> int:
        return len(list(Path(f"/proc/{side.node.agent_pid}/task").iterdir()))

    before = threads()
    with ExitStack() as stack:
        for sock in asker.within(opened):
            stack.enter_context(sock)
        for port, status in ANSWERS.items():
            assert ask(asker, GATEWAY[4], port)[0] == status
        assert threads() <= before + MOST


def test_a_port_that_is_taken_ends_nothing(side: HostSide, asker: Place) -> None:
    node = side.node
    node.stop_agent()

    def take() -> socket.socket:
        return socket.create_server((GATEWAY[4], names.UNHEALTHY_PORT))

    with side.here.within(take):
        node.start_agent()
        node.wait(lambda: "health checks of services are not answered" in node.log(), "a warning")
        assert ask(asker, GATEWAY[4], names.HEALTHY_PORT)[0] == 200
        assert ask(asker, GATEWAY[6], names.UNHEALTHY_PORT)[0] == 503

    def answered() -> bool:
        try:
            return ask(asker, GATEWAY[4], names.UNHEALTHY_PORT)[0] == 503
        except OSError:
            return False

    node.wait(answered, "the port that is free now")
