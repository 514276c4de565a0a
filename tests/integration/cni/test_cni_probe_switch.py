"""What proves to an ADD that a pod's flows are in, on a real switch: the answer to its question."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

import datapath
import pytest
from flow_switch import NUMBERS, FlowSwitch, flow_switch
from pyroute2 import netns
from slowness import SLOW

from ovsnet.cni.probe import Probe, quickly_then_slowly
from ovsnet.cni.ranges import Addresses, NodeRanges
from ovsnet.flows.flow import Flow
from ovsnet.flows.node import node_block
from ovsnet.flows.pod import Endpoint, pod_block
from ovsnet.model import Node, PodRef
from ovsnet.names import Table
from ovsnet.sandbox.openvswitch import inside

IPV4, IPV6 = "10.244.1.0/24", "fd00:10:244:1::/64"
OWN, OTHER = "a", "b"
"""The pod's port and another pod's."""


@pytest.fixture(scope="module")
def switch() -> Iterator[FlowSwitch]:
    with flow_switch("probe", datapath.TYPE) as made:
        subprocess.run(inside(made.ovs.netns, ["ip", "link", "set", "dev", OWN, "up"]), check=True)
        yield made


def of_pod(port: str, addresses: Addresses) -> tuple[Flow, ...]:
    number, mac = NUMBERS[port], addresses.pod_mac
    found = Endpoint(PodRef("shop", port), number, mac, addresses.ipv4, addresses.ipv6)
    return pod_block(found, ()).flows


def asked(switch: FlowSwitch, flows: Iterable[Flow], addresses: Addresses, seconds: float) -> bool:
    """Whether a pod at `OWN` hears from its gateway."""
    switch.replace(flow for flow in flows if flow.table <= Table.NEIGHBOUR)
    netns.pushns(switch.ovs.netns)
    try:
        probe = Probe(OWN, addresses)
    finally:
        netns.popns()
    with probe.socket:
        return probe.run(time.monotonic() + seconds, quickly_then_slowly(), lambda: False)


@pytest.mark.parametrize("cidrs", [(IPV4,), (IPV6,), (IPV4, IPV6)], ids=["4", "6", "46"])
def test_the_pods_own_flows_and_no_others_have_its_gateway_answer(
    switch: FlowSwitch, cidrs: tuple[str, ...]
) -> None:
    ranges = NodeRanges.of(cidrs)
    own, other = ranges.addresses(5), ranges.addresses(6)
    networks = tuple(map(ip_network, cidrs))
    node = node_block(Node("node-1", pod_cidrs=networks, addresses=(ip_address("172.18.0.1"),)))
    for strangers in ((), of_pod(OTHER, own), of_pod(OWN, other)):
        assert not asked(switch, (*node.flows, *strangers), own, 0.5)
    assert asked(switch, (*node.flows, *of_pod(OWN, own)), own, 10 * SLOW)
    assert not asked(switch, of_pod(OWN, own), own, 0.5)
