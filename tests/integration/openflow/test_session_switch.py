"""Sessions through the real os-ken application with real switches."""

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from openflow_harness import BRIDGE, Brain, Wanted, add_bridge, inside
from openflow_wire import Wire
from session_flows import NODE, OURS, assert_right, flow, present

from ovsnet.controller.notices import (
    Acknowledged,
    Compared,
    Fenced,
    Lost,
    PortsChanged,
    Synchronised,
    TurnedAway,
    WriteFailed,
)
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.protocol import Kind
from ovsnet.controller.states import State, Timing
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow, Group, term
from ovsnet.names import Table


def test_a_new_switch_is_filled_and_a_known_one_left_alone(netns, switch):
    wanted = Wanted(flow(n) for n in range(500))
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        assert brain.wait(Compared).missing == 500
        brain.wait(Acknowledged)
    assert_right(switch, wanted)
    time.sleep(1.1)
    before = present(switch)
    with Brain(netns, {NODE: wanted}, generation=2) as brain:
        assert brain.wait(Synchronised).flows == 500
        after = present(switch)
        assert brain.sent < 300, "two questions and the role"
        assert brain.board.session(NODE).state is State.STEADY
    ages = [(before[key][1].seconds, after[key][1].seconds) for key in before]
    assert all(now > then >= 1.0 for then, now in ages)


def test_a_controller_that_returns_writes_only_what_changed_meanwhile(netns, switch):
    wanted = Wanted(flow(n) for n in range(100))
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
    time.sleep(1.1)
    wanted.change([flow(7, port=9), flow(1000)], [flow(8).key])
    with Brain(netns, {NODE: wanted}) as brain:
        found = brain.wait(Compared)
        written = brain.wait(Acknowledged).written
    assert (found.equal, found.missing, found.changed, found.stale) == (98, 1, 1, 1)
    assert not found.strangers
    assert written == 4
    assert_right(switch, wanted)
    old = [stats.seconds for f, stats in present(switch).values() if f.key != flow(1000).key]
    assert sum(age >= 1.0 for age in old) >= 98


def test_changes_follow_and_a_switch_that_forgot_everything_gets_everything(netns, switch):
    wanted = Wanted(flow(n) for n in range(100))
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        for n in range(20):
            brain.change(NODE, wanted.change([flow(1000 + n)], [flow(n).key]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert_right(switch, wanted)
        switch.stop_switch()
        brain.wait(Lost)
        switch.start_switch()
        last = wanted.revision
        brain.wait(Compared, lambda c: c.missing == 100)
        brain.wait(Acknowledged, lambda a: a.revision == last and a.written == 101)
        assert_right(switch, wanted)


def test_strangers_go_and_ours_are_restored_at_the_next_audit(netns, switch):
    wanted = Wanted(flow(n) for n in range(50))
    timing = Timing(quiet=1, dead=10, answer=30, audit=1.0, retry=0.1, retry_most=1)
    with Brain(netns, {NODE: wanted}, timing=timing) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        switch.ofctl(
            "add-flow", BRIDGE, f"table={Table.ROUTE:d},priority=5,metadata=0x1,actions=NORMAL"
        )
        switch.ofctl("add-flow", BRIDGE, "table=200,priority=5,vlan_vid=0x1005,actions=drop")
        switch.ofctl("del-flows", BRIDGE, f"table={Table.ROUTE:d},ip,nw_dst=0.0.0.3")
        switch.ofctl("mod-flows", BRIDGE, f"table={Table.ROUTE:d},ip,nw_dst=0.0.0.4,actions=drop")
        found = brain.wait(Compared, lambda c: c.audit and c.strangers)
        assert (found.missing, found.changed, len(found.strangers)) == (1, 1, 2)
        brain.wait(Compared, lambda c: c.audit and c.equal == 50)
    assert_right(switch, wanted)


def test_a_flow_that_the_switch_refuses_harms_no_other(netns, switch):
    wanted = Wanted([flow(1)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        bad = Flow(Table.ROUTE, 11, (), (Group(77),), OURS | 5)
        brain.change(NODE, wanted.change([flow(2), bad], [flow(1).key]))
        failed = brain.wait(WriteFailed)
        assert failed.flow is not None
        assert failed.flow.cookie == OURS | 5
        assert "GROUP" in failed.reason
        assert set(present(switch)) == {flow(1).key}
        brain.change(NODE, wanted.change([], [bad.key]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
    assert_right(switch, wanted)


def test_a_flow_that_cannot_be_parsed_is_refused_with_all_of_its_bundle(netns, switch):
    wanted = Wanted([flow(1)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        lacking = Flow(Table.ROUTE, 11, (term(Field.TCP_DST, 80),), (), OURS | 6)
        brain.change(NODE, wanted.change([flow(2), lacking]))
        failed = brain.wait(WriteFailed)
        assert failed.flow is not None
        assert (failed.flow.cookie, "PREREQ" in failed.reason) == (OURS | 6, True)
        assert set(present(switch)) == {flow(1).key}


def test_an_older_leader_writes_nothing(netns, switch):
    wanted = Wanted([flow(1)])
    with Brain(netns, {NODE: wanted}, generation=7) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
    other = Wanted([flow(2)])
    with Brain(netns, {NODE: other}, generation=6) as brain:
        fenced = brain.wait(Fenced)
        assert "STALE" in fenced.reason
    assert_right(switch, wanted)


def test_a_new_leader_takes_over_while_the_old_one_still_speaks(netns, switch):
    wanted = Wanted([flow(1)])
    with Brain(netns, {NODE: wanted}, generation=3) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        with Wire(switch.management_socket(BRIDGE)) as new:
            new.request(encode.role_request(5, 4), Kind.ROLE_REPLY)
            assert brain.wait(Fenced).generation == 3


def test_switches_that_are_no_known_node_are_turned_away(netns, switch):
    wanted = Wanted([flow(1)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, "stranger")
        away = brain.wait(TurnedAway)
        assert away.name == "stranger"
        switch.vsctl("set", "Bridge", BRIDGE, f"other-config:dp-desc={NODE}")
        away = brain.wait(TurnedAway, lambda t: t.name == NODE)
        assert "datapath id" in away.reason
        assert not present(switch)


def test_two_switches_and_their_ports(netns, switch):
    wanted = {name: Wanted([flow(i)]) for i, name in enumerate(("node-1", "node-2"))}
    with Brain(netns, wanted) as brain:
        add_bridge(switch, "node-1")
        add_bridge(switch, "node-2", bridge="br-two")
        for name, bridge in (("node-1", BRIDGE), ("node-2", "br-two")):
            brain.wait(Acknowledged, lambda a, name=name: a.node == name)
            assert_right(switch, wanted[name], bridge)
        switch.vsctl(
            *("add-port", "br-two", "pod-1", "--", "set", "Interface", "pod-1"),
            *("type=internal", 'mac="0e:58:0a:00:00:05"'),
        )
        seen = brain.wait(PortsChanged, lambda p: any(x.name == "pod-1" for x in p.ports))
        assert seen.node == "node-2"
        switch.vsctl("del-port", "br-two", "pod-1")
        brain.wait(
            PortsChanged,
            lambda p: (
                brain.notices.index(p) > brain.notices.index(seen)
                and all(x.name != "pod-1" for x in p.ports)
            ),
        )
        assert not [n for n in brain.notices if isinstance(n, Lost)]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes.fromhex("0600000c0000000100090000"),
        bytes.fromhex("0600000000000001"),
        bytes.fromhex("06000010000000010001000800000040") + bytes.fromhex("0606000800000002"),
        bytes.fromhex("04000010000000010001000800000010"),
    ],
)
def test_nonsense_costs_its_sender_the_connection_and_nobody_else(netns, switch, data, caplog):
    wanted = Wanted([flow(1)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        with inside(netns):
            hostile = socket.create_connection(brain.server.addresses[0])
        with hostile:
            hostile.settimeout(20)
            hostile.sendall(data)
            while hostile.recv(4096):
                pass
        brain.change(NODE, wanted.change([flow(2)]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert not [n for n in brain.notices if isinstance(n, Lost)]
    assert "handshake not finished" in caplog.text


HALF_WAY = """
import sys, os, signal
sys.path.insert(0, {tests!r})
from openflow_harness import Brain, Wanted
from session_flows import flow, NODE
from ovsnet.controller.notices import Acknowledged
from ovsnet.controller.openflow.protocol import BundleControl
from ovsnet.controller.openflow import encode

wanted = Wanted([flow(1)])
brain = Brain({netns!r}, {{NODE: wanted}})
print("ready", flush=True)
brain.wait(Acknowledged)
real = brain.server.send
def send(connection, data):
    if len(data) > 10_000:
        real(connection, data[: len(data) * {tenths} // 10])
        print("half", flush=True)
    else:
        real(connection, data)
brain.server.send = send
brain.change(NODE, wanted.change([flow(n, 2) for n in range(5000)], []))
signal.pause()
"""


@pytest.mark.parametrize("tenths", [5, 10])
def test_a_controller_killed_in_the_middle_of_a_bundle_leaves_nothing_of_it(
    netns, switch, tenths, request
):
    tests = str(request.path.parent.parent.parent)
    code = HALF_WAY.format(tests=tests, netns=netns, tenths=tenths)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        add_bridge(switch, NODE)
        assert process.stdout.readline() == "half\n"
        if tenths == 5:
            time.sleep(0.3)
            assert set(present(switch)) == {flow(1).key}
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        time.sleep(0.3)
    finally:
        process.kill()
        process.wait()
    there = {key: f for key, (f, _) in present(switch).items()}
    whole = {f.key: f for f in (flow(n, 2) for n in range(5000))}
    assert there in ({flow(1).key: flow(1)}, whole)
    wanted = Wanted([flow(1), flow(2)], revision=9)
    with Brain(netns, {NODE: wanted}) as brain:
        brain.wait(Acknowledged, lambda a: a.revision == 9)
    assert_right(switch, wanted)


def test_closing_leaves_no_thread_and_frees_the_port(netns, switch):
    before = threading.active_count()
    for _ in range(3):
        with Brain(netns, {NODE: Wanted([flow(1)])}):
            pass
    assert threading.active_count() == before
