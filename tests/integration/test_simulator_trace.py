"""The simulator against `ovs-appctl ofproto/trace` on a real switch, over generated flows and
packets: the same flows passed, the same packet at the end, the same packets sent.

OVSNET_TEST_SCENARIOS asks for more scenarios than the usual ones.
"""

from __future__ import annotations

import itertools
import os
import random
from concurrent.futures import ProcessPoolExecutor
from ipaddress import ip_address, ip_network
from multiprocessing import get_context

import msgspec
import pytest
from flow_switch import flow_switch
from ofproto_trace import flow_words
from trace_agreement import BUCKETS, SELECT_GROUP, disagreement, pool, simulated, smallest

from ovsnet.flows.channel import Overlay
from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.node import node_block
from ovsnet.flows.peer import peer_block
from ovsnet.flows.pod import Endpoint, pod_block
from ovsnet.flows.simulator import Foreseen, arp, echo, icmp, solicitation, tcp, udp
from ovsnet.flows.text import print_flow
from ovsnet.model import Node, PodRef
from ovsnet.names import BRIDGE, ROUTER_MAC, Table, host_mac, link_local, pod_mac

SCENARIOS = int(os.environ.get("OVSNET_TEST_SCENARIOS", "80"))


@pytest.fixture(scope="module")
def switch():
    with flow_switch("trace") as made:
        made.add_underlay()
        made.add_groups(",".join(f"bucket=actions={bucket}" for bucket in BUCKETS))
        made.ovs.ofctl("mod-group", BRIDGE, SELECT_GROUP)
        yield made


@pytest.fixture(scope="module")
def generated():
    # What hypothesis generates depends on the modules that are loaded, of which a whole run of
    # the tests has more than this file alone: in a fresh process it is the same every time.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(pool).result()


@pytest.mark.parametrize("batch", range(10))
def test_the_simulator_agrees_with_the_switch(switch, generated, batch):
    ports = switch.datapath_ports()
    for seed in range(batch, SCENARIOS, 10):
        scenario = generated.scenario(seed)
        switch.replace(scenario.flows)
        simulator = simulated(scenario.flows)
        for packet, states in scenario.packets:
            found = disagreement(switch, simulator, ports, packet, states)
            if found:
                small = smallest(switch, ports, scenario.flows, packet, states)
                pytest.fail(f"scenario {seed}: {found}\n\n{small}")


HERE = Node(
    "here",
    pod_cidrs=(ip_network("10.244.1.0/24"), ip_network("fd00:244:1::/64")),
    # Higher than the other node's, which therefore knows better who began a connection.
    addresses=(ip_address("192.168.7.9"),),
)
THERE = Node(
    "there",
    pod_cidrs=(ip_network("10.244.2.0/24"), ip_network("fd00:244:2::/64")),
    addresses=(ip_address("192.168.7.2"),),
)
PODS = tuple(
    Endpoint(
        PodRef("shop", f"web-{number}"),
        number,
        pod_mac(HERE.range4[number]),
        HERE.range4[number],
        HERE.range6[number],
    )
    for number in (3, 4)
)
STATES = (
    (CtState.TRK | CtState.NEW,),
    (CtState.TRK | CtState.EST,),
    (CtState.TRK | CtState.EST | CtState.RPL,),
    (CtState.TRK | CtState.REL,),
    (CtState.TRK | CtState.INV,),
)
MACS = (PODS[0].mac, PODS[1].mac, host_mac(PODS[0].ipv4))


def pipeline_flows():
    """What a node with two pods and one other node compiles to, with cookies of their own."""
    blocks = (node_block(HERE), peer_block(HERE, THERE, Overlay()), *map(pod_block, PODS))
    flows = {flow.key: flow for block in blocks for flow in block.flows}
    return [msgspec.structs.replace(f, cookie=n) for n, f in enumerate(flows.values(), 1)]


def pipeline_packets():
    """Packets from everywhere to everywhere, honest and not."""
    ends = [
        (
            *("10.244.1.3", "10.244.1.4", "10.244.1.1", "10.244.1.9", "10.244.2.3", "8.8.8.8"),
            *("224.0.0.1", "255.255.255.255", "192.168.7.1"),
        ),
        (
            *("fd00:244:1::3", "fd00:244:1::4", "fd00:244:1::1", "fd00:244:1::9"),
            *("fd00:244:2::3", "2001:db8::1", "ff02::1", "fe80::1"),
            *(str(link_local(pod.mac)) for pod in PODS),
        ),
    ]
    bodies = []
    for family in ends:
        for source, destination in itertools.product(family, family):
            bodies += [
                tcp(source, destination, 40000, 80),
                udp(source, destination, 40000, 53, ttl=1),
                udp(source, destination, 67 if "." in source else 547, 5),
                echo(source, destination, reply=True).replace({Field.IP_FRAG: 1}),
            ]
            if ":" in source:
                bodies += [icmp(source, destination, kind) for kind in (133, 134, 136, 137)]
                bodies += [solicitation(source, destination, destination, mac) for mac in MACS]
            else:
                bodies += [arp(op, mac, source, destination) for op in (1, 2) for mac in MACS]
    for body, mac, port in itertools.product(bodies, MACS, (1, 2, 3, 4, 5)):
        packet = body.on(port, mac, ROUTER_MAC)
        if port != 2:
            yield packet
            continue
        for key, outer in ((1, "192.168.7.2"), (1, "192.168.7.3"), (2, "192.168.7.2")):
            yield packet.through_tunnel(port, key, outer, "192.168.7.1")


def about_nodes_that_are_not_there(flow):
    """Whether a flow is about tunnel packets of lower nodes, none of which is the other node."""
    outer = int(THERE.addresses[0])
    return any(
        t.field is Field.TUN_SRC and t.value != outer & (t.mask or Field.TUN_SRC.full)
        for t in flow.match
    )


def test_the_simulator_agrees_over_the_pipeline_itself(switch):
    flows = pipeline_flows()
    switch.replace(flows)
    simulator = simulated(flows)
    ports = switch.datapath_ports()
    draw = random.Random(7)
    packets = list(pipeline_packets())
    draw.shuffle(packets)
    met = set()
    for number, packet in enumerate(packets):
        states = draw.choice(STATES)
        trace = simulator.trace(packet, Foreseen(states))
        for step in trace.steps:
            same = all(rival and rival.actions == step.flow.actions for rival in step.rivals)
            assert same, f"{flow_words(packet)}: open between {step.flow} and {step.rivals}"
        passed = {flow.cookie for flow in trace.flows}
        if number < 15 * SCENARIOS or not passed <= met:
            met |= passed
            found = disagreement(switch, simulator, ports, packet, states)
            assert found is None, f"{flow_words(packet)} {states}: {found}"
    reached = {Table.CLASSIFY} | {getattr(a, "table", None) for f in flows for a in f.actions}
    missed = [f for f in flows if f.cookie not in met and f.table in reached]
    missed = [f for f in missed if not about_nodes_that_are_not_there(f)]
    # The last flow of a table may be there for nothing but safety.
    missed = [print_flow(f) for f in missed if f.match or f.actions]
    assert not missed, "no packet met these flows"
