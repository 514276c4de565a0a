"""The simulator against `ovs-appctl ofproto/trace` on a real switch, over the flows of a node with
pods, another node, and services of every sort.

OVSNET_TEST_SCENARIOS asks for more packets than the usual ones.
"""

from __future__ import annotations

import itertools
import os
import random

import msgspec
import pytest
from flow_switch import PORTS, flow_switch
from ofproto_trace import flow_words
from openflow_wire import Wire
from served_pipeline import PODS, THERE, served_flows, served_packets
from trace_agreement import CT_STATES, TUNNEL, disagreement

from ovsnet.controller.openflow.groups import group_message
from ovsnet.flows.balance import GROUPS
from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.registers import KEEP_SOURCE
from ovsnet.flows.simulator import Foreseen, Switch, arp, echo, icmp, solicitation, tcp, udp
from ovsnet.flows.text import print_flow
from ovsnet.names import BRIDGE, ROUTER_MAC, Table, host_mac, link_local, pod_mac

F = Field
SCENARIOS = int(os.environ.get("OVSNET_TEST_SCENARIOS", "80"))


@pytest.fixture(scope="module")
def switch():
    with flow_switch("pipeline") as made:
        made.add_underlay()
        with Wire(made.ovs.management_socket(BRIDGE)) as wire:
            # What another group names must be there before it.
            ordered = sorted(GROUPS, key=lambda group: -group.id)
            wire.bundle(b"".join(map(group_message, ordered)))
        yield made


STATES = (
    (CtState.TRK | CtState.NEW,),
    (CtState.TRK | CtState.EST,),
    (CtState.TRK | CtState.EST | CtState.RPL,),
    (CtState.TRK | CtState.REL,),
    (CtState.TRK | CtState.INV,),
)
POD_MACS = tuple(pod_mac(int(pod.addresses[0])) for pod in PODS)
MACS = (*POD_MACS, host_mac(int(PODS[0].addresses[0])))


def pipeline_flows():
    """The flows of a node, with cookies of their own."""
    return [msgspec.structs.replace(f, cookie=n) for n, f in enumerate(served_flows(), 1)]


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
            *map(str, map(link_local, POD_MACS)),
        ),
    ]
    bodies = []
    for family in ends:
        for source, destination in itertools.product(family, family):
            bodies += [
                tcp(source, destination, 40000, 80),
                udp(source, destination, 40000, 53, ttl=1),
                udp(source, destination, 67 if "." in source else 547, 5),
                echo(source, destination, reply=True).replace({F.IP_FRAG: 1}),
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


def overridden(flow, flows):
    """Whether another flow takes all that this one matches: what a node does instead of the rest
    of the cluster.
    """
    where = flow.table, flow.match
    return any((f.table, f.match) == where and f.priority > flow.priority for f in flows)


def about_nodes_that_are_not_there(flow):
    """Whether a flow is about tunnel packets of lower nodes, none of which is the other node."""
    outer = int(THERE.addresses[0])
    return any(
        t.field is F.TUN_SRC and t.value != outer & (t.mask or F.TUN_SRC.full) for t in flow.match
    )


def about_what_a_tracker_remembers(flow):
    """Whether only packets of a connection that was committed before come there, by its mark or
    label: ofproto/trace makes up states, but neither of those.
    """
    marked = any(t.field is F.CT_MARK for t in flow.match)
    known = marked and flow.table in {Table.SERVICE_STATE, Table.ROUTE}
    return known or KEEP_SOURCE.matches(1) in flow.match


def tracked_by_the_kernel(packets):
    """Fragments that the node's own tracker has seen before they come in, as with the kernel's
    datapath those of the node have.
    """
    seen = {F.CT_STATE: CtState.TRK | CtState.NEW}
    return [p.replace(seen) for p in packets if p[F.IP_FRAG] and p[F.IN_PORT] == 1]


def test_the_simulator_agrees_over_the_pipeline_itself(switch):
    flows = pipeline_flows()
    switch.replace(flows)
    simulator = Switch(flows, PORTS, (TUNNEL,))
    ports = switch.datapath_ports()
    draw = random.Random(7)
    packets = [*pipeline_packets(), *served_packets()]
    packets += tracked_by_the_kernel(packets)
    # The trace of a packet without a hash ends where it gets one.
    hashes = ({F.DP_HASH: p[F.DP_HASH] or draw.randint(1, 0xFFFFFFFF)} for p in packets)
    packets = [p.replace(hashed) for p, hashed in zip(packets, hashes, strict=True)]
    draw.shuffle(packets)
    met = set()
    for number, packet in enumerate(packets):
        states = draw.choice((*STATES, tuple(draw.choices(CT_STATES, k=4))))
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
    missed = [f for f in missed if not overridden(f, flows)]
    missed = [f for f in missed if not about_what_a_tracker_remembers(f)]
    # The last flow of a table may be there for nothing but safety.
    missed = [print_flow(f) for f in missed if f.match or f.actions]
    assert not missed, "no packet met these flows"
